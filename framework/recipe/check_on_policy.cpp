// What must hold between the keys of texts that the student writes itself.
#include <algorithm>
#include <utility>

#include "framework/recipe/reading.h"

namespace fourmi::recipe {
namespace {

bool learns_a_part(const DataSource& source) {
  return source.format == "messages" || source.format == "prompt-completion";
}

/// Keys of a student that writes, in a recipe whose student does not. What a run recorded names every key, so only
/// another value than the default says something.
void refuse_without_writing(const Reading& reading, Issues& issues) {
  const OnPolicySection &o = reading.recipe.distill.on_policy, defaults;
  const std::pair<const char*, bool> meant[] = {{"rate", o.rate != defaults.rate},
                                                {"temperature", o.temperature != defaults.temperature},
                                                {"top_p", o.top_p != defaults.top_p},
                                                {"prompt_tokens", o.prompt_tokens.has_value()},
                                                {"max_new_tokens", o.max_new_tokens.has_value()},
                                                {"texts", o.texts != defaults.texts}};
  for (const auto& [key, is_meant] : meant) {
    const std::string path = std::string("distill.on_policy.") + key;
    if (is_meant && reading.good(path))
      issues.add(reading.place(path), fmt::format("found `{}` of a student that writes nothing", path),
                 "expected `distill.mode: on-policy` beside it");
  }
}

}  // namespace

void check_on_policy(const Reading& reading, Issues& issues) {
  const DistillSection& d = reading.recipe.distill;
  const DataSection& data = reading.recipe.data;
  if (!reading.good("distill.on_policy")) return;
  if (!d.student_writes()) return refuse_without_writing(reading, issues);
  if (!reading.good("data") || !reading.good("data.train")) return;
  const auto some = [&](bool part) {
    return std::any_of(data.train.begin(), data.train.end(),
                       [&](const DataSource& source) { return learns_a_part(source) == part; });
  };
  if (some(true) && data.packing && reading.good("data.packing"))
    issues.add(reading.place("data.packing"), "found several conversations in a sequence, of which the student writes",
               "expected `data.packing: false`, so that each has room behind its prompt", "Set data.packing: false");
  const std::int64_t prompt = d.on_policy.prompt_tokens.value_or(0);
  if (some(false) && prompt >= data.sequence_length && reading.good("data.sequence_length") &&
      reading.good("distill.on_policy.prompt_tokens"))
    issues.add(reading.place("distill.on_policy.prompt_tokens"), fmt::format("found prompts of {} tokens", prompt),
               fmt::format("expected fewer than `data.sequence_length` {}", data.sequence_length),
               "The student writes what is left of the sequence");
}

}  // namespace fourmi::recipe
