// Ranks that would not compute the same are refused before anything is loaded.
#include "framework/train/same_launch.h"

#include <gtest/gtest.h>

#include "kernels/runtime/error.h"
#include "tests/parallel/member_threads.h"
#include "tests/train/small_recipe.h"

namespace fourmi {
namespace {

/// What each of three ranks is told; empty: all is well. `odd`: called with the recipe and build of the last rank.
std::vector<std::string> told(const std::function<void(Recipe&, std::string&)>& odd) {
  return run_members(3, [&](Group& group) -> std::string {
    Recipe recipe = small_recipe(Compute::fp32, Reproducibility::run);
    std::string build = "0.1.0 abc (Release)";
    if (group.rank() == 2) odd(recipe, build);
    try {
      agree_launch(recipe, build, group);
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::environment);
      return e.what();
    }
    return "";
  });
}

void expect_all_say(const std::vector<std::string>& told, std::initializer_list<const char*> parts) {
  for (const std::string& text : told)
    for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
}

TEST(SameLaunch, IsFine) {
  for (const std::string& text : told([](Recipe&, std::string&) {})) EXPECT_EQ(text, "");
}

TEST(SameLaunch, AnotherRecipeIsNamedByItsKeys) {
  expect_all_say(told([](Recipe& recipe, std::string&) { recipe.optimizer.learning_rate *= 2; }),
                 {"rank 2", "optimizer.learning_rate", "on rank 0"});
}

TEST(SameLaunch, AnotherBuildIsNamed) {
  expect_all_say(told([](Recipe&, std::string& build) { build = "0.1.0 def (Release)"; }),
                 {"rank 2", "0.1.0 def (Release)", "0.1.0 abc (Release)"});
}

}  // namespace
}  // namespace fourmi
