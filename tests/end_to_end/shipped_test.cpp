// What is shipped does what is written of it: recipes, and the commands of the README.
#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

/// In billions; of published figures all digits that were given.
struct Published {
  const char* recipe;
  double total, active, mtp;
};
constexpr Published published[] = {{"deepseek-v3", 671.026, 37.55, 11.61},
                                   {"deepseek-v2-lite", 15.706, 2.66, 0},
                                   {"moonlight-16b-a3b", 15.960, 2.91, 0},
                                   {"qwen3-30b-a3b", 30.532, 3.353, 0},
                                   {"kimi-k2", 1026.4, 32.86, 0}};

std::string shipped(const std::string& name) {
  return FOURMI_SOURCE_DIR "/recipes/" + name + ".yaml";
}

/// Are the figures equal as far as `digits` decimals say?
void expect_rounds_to(double found, double wanted, double decimals, const std::string& what) {
  const double unit = std::pow(10.0, -decimals);
  EXPECT_NEAR(found, wanted, 0.5 * unit * 1.0000001) << what;
}

int decimals_of(double figure) {
  for (int decimals = 0; decimals < 4; ++decimals)
    if (std::abs(figure * std::pow(10.0, decimals) - std::round(figure * std::pow(10.0, decimals))) < 1e-6)
      return decimals;
  return 4;
}

nlohmann::json dry_run(const std::string& recipe, const Words& more = {}) {
  Words words{"train", recipe, "--dry-run", "--json"};
  words.insert(words.end(), more.begin(), more.end());
  const Result result = run(fourmi(words));
  expect_ok(result);
  return nlohmann::json::parse(result.output);
}

class Shipped : public Scene {
 protected:
  /// What a recipe needs that begins from a released model: a folder with an architecture and a tokenizer, in small.
  Words brought_to(const fs::path& recipe) const {
    if (text_of(recipe).find("from: /models/") == std::string::npos) return {};
    const bool llama = recipe.stem().string().find("llama") != std::string::npos;
    const fs::path model = models_.path() / (llama ? "llama" : "qwen2");
    fs::create_directories(model);
    nlohmann::json config =
        nlohmann::json::parse(text_of(fs::path(FOURMI_SOURCE_DIR) / "tests/golden" / model.filename() / "config.json"));
    config["vocab_size"] = 512;
    config["max_position_embeddings"] = 131072;
    std::ofstream(model / "config.json") << config;
    fs::copy_file(FOURMI_SOURCE_DIR "/tests/tokenizer/goldens/qwen2.json", model / "tokenizer.json",
                  fs::copy_options::overwrite_existing);
    return {"model.from=" + model.string()};
  }

 private:
  TempFolder models_;
};

TEST_F(Shipped, RecipesCountAsPublished) {
  for (const Published& p : published) {
    SCOPED_TRACE(p.recipe);
    const auto json = dry_run(shipped(p.recipe));
    expect_rounds_to(json.at("parameters_total").get<double>() / 1e9, p.total, decimals_of(p.total), "total");
    expect_rounds_to(json.at("parameters_active").get<double>() / 1e9, p.active, decimals_of(p.active), "active");
    expect_rounds_to(json.at("parameters_mtp").get<double>() / 1e9, p.mtp, decimals_of(p.mtp), "mtp");
    EXPECT_TRUE(json.at("memory_bytes_per_rank").is_object());
    EXPECT_GE(json.at("ranks").get<int>(), 1);
  }
  const auto v3 = dry_run(shipped("deepseek-v3"));
  expect_rounds_to(v3.at("flops_per_token").get<double>() / 1e9, 250.4, 1, "floating-point operations of a token");
  EXPECT_GT(v3.at("flops_per_token_mtp").get<double>(), 0);
}

TEST_F(Shipped, RecipesValidateAndDryRunEverywhere) {
  int recipes = 0;
  for (const auto& entry : fs::directory_iterator(FOURMI_SOURCE_DIR "/recipes")) {
    if (entry.path().extension() != ".yaml") continue;
    SCOPED_TRACE(entry.path());
    ++recipes;
    const Words model = brought_to(entry.path());
    const auto with = [&](Words words) {
      words.insert(words.end(), model.begin(), model.end());
      return words;
    };
    expect_ok(run(fourmi(with({"validate", entry.path()}))));
    const Result result = run(fourmi(with({"train", entry.path(), "--dry-run"})), folder());
    expect_ok(result);
    EXPECT_NE(result.output, "");
    EXPECT_EQ(dry_run(entry.path(), with({"--ranks", "4"})).at("ranks"), 4);
  }
  EXPECT_GE(recipes, 15);
  EXPECT_TRUE(fs::is_empty(folder())) << "a dry run leaves nothing";
}

// What a dry run promises is what a run does.
TEST_F(Shipped, ADryRunsCountsAreThoseOfTheRun) {
  const auto json = dry_run(small_recipe, {"run.steps=2"});
  const Result result = run(train("run", 0, {"run.steps=2"}));
  expect_ok(result);
  EXPECT_EQ(json.at("steps"), 2);
  EXPECT_EQ(json.at("tokens_per_step"), step_lines(run_directory("run"))[0].tokens);
  const double bytes = json.at("checkpoint_bytes"),
               real = static_cast<double>(fs::file_size(newest_checkpoint(run_directory("run")) / "rank-00000.h5"));
  EXPECT_NEAR(real / bytes, 1, 0.25) << real << " bytes were written, " << bytes << " were announced";
}

}  // namespace
}  // namespace fourmi::testing
