#include "framework/train/same_launch.h"

#include <fmt/format.h>

#include "framework/checkpoint/agree.h"
#include "framework/recipe/compare.h"
#include "framework/recipe/read.h"
#include "framework/recipe/write.h"
#include "framework/run/host.h"

namespace fourmi {

namespace {

constexpr std::size_t most_shown = 5;

/// "run.steps (20, 10 on rank 0)".
std::string differences(const Recipe& first, const Recipe& mine) {
  std::string text;
  const std::vector<ChangedKey> changes = compare(first, mine);
  for (std::size_t i = 0; i < changes.size() && i < most_shown; ++i)
    text +=
        fmt::format("{}{} ({}, {} on rank 0)", i > 0 ? ", " : "", changes[i].key, changes[i].after, changes[i].before);
  if (changes.size() > most_shown) text += fmt::format(" and {} more", changes.size() - most_shown);
  return text;
}

}  // namespace

void agree_launch(const Recipe& recipe, const std::string& build, Group& group) {
  std::string first_build = build;
  broadcast_text(group, first_build, 0);
  agreed(group, [&] {
    if (build == first_build) return;
    throw Error(ExitStatus::environment, fmt::format("{}: the program", host_name()),
                fmt::format("found the build {}, expected rank 0's, {}", build, first_build),
                "Start the same program on all ranks; install it anew on the hosts that have another one");
  });
  const std::string text = to_yaml(recipe);
  std::string first = text;
  broadcast_text(group, first, 0);
  agreed(group, [&] {
    if (text == first) return;
    const std::string keys = differences(parse_recipe(first), recipe);
    throw Error(ExitStatus::environment, fmt::format("{}: the recipe", host_name()),
                fmt::format("found a recipe that differs in {}, expected rank 0's on all ranks",
                            keys.empty() ? "model.config" : keys),
                "Start all ranks with the same recipe and the same overrides");
  });
}

}  // namespace fourmi
