// What is wrong with a recipe is said at once, once, with its place, on one rank and on four; and nothing hangs.
#include <algorithm>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

struct WrongRecipe {
  std::string name, text;           ///< the whole recipe
  std::vector<std::string> places;  ///< "line:column: " of each error
  std::string word;                 ///< that the message must hold
};

/// The small recipe with a piece replaced; everything after is left as it is.
std::string changed(const std::string& from, const std::string& to) {
  std::string text = text_of(small_recipe);
  const auto at = text.find(from);
  if (at == std::string::npos) throw std::logic_error(from + " is not in the recipe");
  return text.replace(at, from.size(), to);
}

/// Where a piece of the small recipe stands, as an error's place.
std::string place_of(const std::string& text, const std::string& piece) {
  const auto at = text.find(piece);
  if (at == std::string::npos) throw std::logic_error(piece + " is not in the recipe");
  const auto line = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n') + 1;
  return ":" + std::to_string(line) + ":" + std::to_string(at - (at == 0 ? 0 : text.rfind('\n', at - 1))) + ": ";
}

WrongRecipe wrong(const std::string& name, const std::string& from, const std::string& to, const std::string& place,
                  const std::string& word) {
  const std::string text = changed(from, to);
  return {name, text, {place_of(text, place)}, word};
}

std::string alias_bomb() {
  std::string text = "a: &a [x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c < 'k'; ++c) {
    const std::string before = std::string("*") + static_cast<char>(c - 1);
    text += std::string(1, c) + ": &" + c + " [" + before;
    for (int i = 0; i < 8; ++i) text += ", " + before;
    text += "]\n";
  }
  return text;
}

std::vector<WrongRecipe> wrong_recipes() {
  const std::string nested = std::string(10000, '[') + std::string(10000, ']');
  std::vector<WrongRecipe> all{
      wrong("misspelt", "weight_decay", "weigth_decay", "weigth_decay", "Did you mean `weight_decay`"),
      wrong("duplicate", "  hidden_size: 32", "  hidden_size: 32\n  hidden_size: 32", "hidden_size: 32\n  num_hidden",
            "hidden_size"),
      wrong("misplaced", "loss: {", "loss: {learning_rate: 1, ", "learning_rate: 1, ", "optimizer.learning_rate"),
      wrong("octal", "sequence_length: 32", "sequence_length: 040", "040", "040"),
      wrong("ill_typed", "global_batch_size: 8", "global_batch_size: eight", "eight\n", "whole number"),
      wrong("out_of_range", "weight_decay: 0.1", "weight_decay: -0.1", "-0.1", "-0.1"),
      wrong("alias", "moments: fp32", "moments: *compute", "*compute", "alias"),
      wrong("does_not_divide", "n_routed_experts: 8", "n_routed_experts: 7", "4\n  topk_group", "n_group"),
  };
  all.push_back({"alias_bomb", alias_bomb(), {":1:4: "}, "anchor"});
  all.push_back({"nested", "model: " + nested + "\n", {":1:"}, "nested levels"});
  const std::string two = changed("moments: fp32", "moments: fp33, computer: bf16");
  all.push_back({"two_at_once", two, {place_of(two, "fp33"), place_of(two, "computer")}, "bf16"});
  return all;
}

class Recipes : public Scene {
 protected:
  void expect_refused(const Result& result, const std::vector<std::string>& places, const std::string& word) const {
    SCOPED_TRACE(to_string(result));
    EXPECT_EQ(result.status, 2);
    EXPECT_LT(result.seconds, 5);
    EXPECT_EQ(result.output, "");
    EXPECT_EQ(result.error_lines().size(), 1u);
    for (const std::string& place : places) {
      const auto at = result.errors.find(place);
      EXPECT_NE(at, std::string::npos) << place;
    }
    EXPECT_NE(result.errors.find(word), std::string::npos) << word;
    // Once: no line is there twice.
    std::vector<std::string> lines = result.lines("");
    std::sort(lines.begin(), lines.end());
    EXPECT_EQ(std::adjacent_find(lines.begin(), lines.end()), lines.end());
  }
};

TEST_F(Recipes, EveryErrorIsSaidOnceWithItsPlaceOnOneAndFourRanks) {
  for (const WrongRecipe& recipe : wrong_recipes()) {
    SCOPED_TRACE(recipe.name);
    const std::string file = folder() / (recipe.name + ".yaml");
    put_text(file, recipe.text);
    for (const int ranks : {0, 4}) {
      std::vector<std::string> places;
      for (const std::string& place : recipe.places) places.push_back(recipe.name + ".yaml" + place);
      expect_refused(run(fourmi({"train", file, "run.directory=" + run_directory("none").string()}, ranks)), places,
                     recipe.word);
    }
    expect_refused(run(fourmi({"validate", file})), {}, recipe.word);
    EXPECT_FALSE(std::filesystem::exists(run_directory("none")));
  }
}

TEST_F(Recipes, SizesThatDoNotFitTheRanks) {
  expect_refused(run(train("none", 3)), {}, "global_batch_size");
  expect_refused(run(train("none", 4, {"data.global_batch_size=6"})), {}, "global_batch_size");
  expect_refused(run(train("none", 4, {"parallel.data=2"})), {}, "parallel.data");
  expect_refused(run(train("none", 4, {"parallel.tensor=3"})), {}, "parallel.tensor");
  expect_refused(run(train("none", 4, {"parallel.pipeline=3"})), {}, "parallel.pipeline");
  expect_refused(run(train("none", 4, {"parallel.context=3"})), {}, "parallel.context");
  expect_refused(run(train("none", 0, {"parallel.zero=0", "parallel.expert=3"})), {}, "parallel.expert");
  expect_refused(run(train("none", 2, {"parallel.expert=4"})), {}, "parallel.expert");
  EXPECT_FALSE(std::filesystem::exists(run_directory("none")));
}

TEST_F(Recipes, AChangedKeyOfAUsedDirectoryIsRefusedWithBothRemedies) {
  expect_ok(run(train("used", 0, {"run.steps=2"})));
  const std::string metrics = text_of(run_directory("used") / "metrics.jsonl");
  const Words more{"run.steps=4", "optimizer.learning_rate=0.02"};
  for (const int ranks : {0, 4}) {
    const Result refused = run(train("used", ranks, more));
    expect_refused(refused, {}, "optimizer.learning_rate");
    EXPECT_NE(refused.errors.find("0.02"), std::string::npos);
    EXPECT_NE(refused.errors.find("0.01"), std::string::npos);
    EXPECT_NE(refused.errors.find("--accept-changes"), std::string::npos);
    EXPECT_NE(refused.errors.find("another run.directory"), std::string::npos);
    const Result fixed = run(train("used", ranks, {"run.steps=4", "run.seed=6", "--accept-changes"}));
    expect_refused(fixed, {}, "run.seed");
    EXPECT_NE(fixed.errors.find("another run.directory"), std::string::npos);
    EXPECT_EQ(text_of(run_directory("used") / "metrics.jsonl"), metrics) << "a refused launch trains nothing";
    EXPECT_EQ(status_of(run_directory("used")).state, "done") << "nor does it write of itself";
  }
  Words accepted = more;
  accepted.push_back("--accept-changes");
  const Result changed = run(train("used", 4, accepted));
  expect_ok(changed);
  EXPECT_NE(changed.errors.find("optimizer.learning_rate: 0.01 -> 0.02"), std::string::npos) << to_string(changed);
  expect_each_step_once(run_directory("used"), 4);
  const auto steps = step_lines(run_directory("used"));
  EXPECT_EQ(steps[1].learning_rate, 0.01);
  EXPECT_EQ(steps[3].learning_rate, 0.02);
  // The new value is the run's now.
  expect_ok(run(train("used", 0, {"run.steps=5", "optimizer.learning_rate=0.02"})));
  expect_refused(run(train("used", 0, {"run.steps=6"})), {}, "--accept-changes");
}

}  // namespace
}  // namespace fourmi::testing
