// What a recipe leaves to the model that model.from names; how such a model is read is tests/interop's.
#include "framework/recipe/origin.h"

#include <gtest/gtest.h>

#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

class Origin : public ::testing::Test {
 protected:
  /// `section`: of the recipe's model; `tokenizer` and the like: of its data.
  std::string recipe(const std::string& section, const std::string& data = "tokenizer: model") const {
    return folder_.write("recipe.yaml", fmt::format(R"(run: {{name: tune, steps: 3, directory: "{}"}}
model: {}
data:
  {}
  sequence_length: 32
  global_batch_size: 8
  train: [{{name: made, format: synthetic}}]
)",
                                                    run().string(), section, data));
  }
  fs::path run() const { return folder_.path() / "run"; }
  std::string from() const { return folder_.path() / "origin"; }
  Recipe load(const std::string& path, const std::vector<std::string>& overrides = {}) const {
    recipe::Origins origins;
    if (is_there_) fs::create_directories(from());
    origins.model = [this](const std::string& name) {
      EXPECT_EQ(name, from());
      return model_;
    };
    origins.tokenizer = [this](const std::string& name) {
      EXPECT_EQ(name, from());
      return recipe::OriginTokenizer{"/models/origin/tokenizer.json", "abc", "<end>", "<begin>"};
    };
    return load_recipe(path, overrides, 0, origins);
  }
  std::string refused(const std::string& path, const std::vector<std::string>& overrides = {}) const {
    try {
      load(path, overrides);
    } catch (const RecipeErrors& errors) {
      return testing::all_of(errors.issues());
    }
    return "valid";
  }
  void expect_qwen(const ModelSection& model) const {
    EXPECT_EQ(model.model_type, "qwen2");
    EXPECT_EQ(model.hidden_size, 24);
    EXPECT_EQ(model.from, from());
    EXPECT_EQ(model.config, "");
  }

  testing::Folder folder_{"origin"};
  bool is_there_ = true;
  const std::string config_ = testing::contents(testing::root() / "tests/golden/qwen2/config.json");
  recipe::OriginModel model_{config_, "origin/config.json", false};
};

TEST_F(Origin, SuppliesArchitectureAndTokenizer) {
  const Recipe r = load(recipe("{from: " + from() + "}"));
  expect_qwen(r.model);
  EXPECT_EQ(r.data.tokenizer, "/models/origin/tokenizer.json");
  EXPECT_EQ(r.data.tokenizer_sha256, "abc");
  EXPECT_EQ(r.data.end_of_document, "<end>");
  EXPECT_EQ(r.data.begin_of_text, "<begin>");
  // What a run keeps needs nobody any more.
  EXPECT_TRUE(parse_recipe(to_yaml(r)) == r);
}

TEST_F(Origin, KeysOfTheRecipeWin) {
  const std::string path = recipe("{from: " + from() + ", max_position_embeddings: 48}",
                                  "tokenizer: model\n  begin_of_text: none\n  tokenizer_sha256: def");
  const Recipe r = load(path, {"model.rope_theta=5000"});
  expect_qwen(r.model);
  EXPECT_EQ(r.model.max_position_embeddings, 48);
  EXPECT_EQ(r.model.rope_theta, 5000);
  EXPECT_EQ(r.data.begin_of_text, "none");
  EXPECT_EQ(r.data.tokenizer_sha256, "def");
  EXPECT_EQ(r.data.end_of_document, "<end>");
}

TEST_F(Origin, IsNotAskedForWhatTheRecipeSays) {
  model_.text = "no model";
  folder_.write("config.json", config_);
  for (const std::string& section : {"{from: " + from() + ", config: config.json}",
                                     "{from: " + from() + ", model_type: qwen2, " +
                                         "vocab_size: 64, hidden_size: 24, num_hidden_layers: 2, "
                                         "intermediate_size: 20, num_attention_heads: 4, num_key_value_heads: 2, "
                                         "max_position_embeddings: 64}"})
    EXPECT_EQ(load(recipe(section, "tokenizer: bytes")).model.hidden_size, 24);
  EXPECT_EQ(load(recipe("{from: " + from() + ", config: config.json}")).data.tokenizer,
            "/models/origin/tokenizer.json");
}

TEST_F(Origin, MayBeARunWithItsRecipe) {
  Recipe theirs = load(recipe("{from: " + from() + "}", "tokenizer: bytes"));
  theirs.model.from = "/gone";
  model_ = {to_yaml(theirs), "origin/recipe.yaml", true};
  const Recipe r = load(recipe("{from: " + from() + ", rope_theta: 5000}"));
  expect_qwen(r.model);
  EXPECT_EQ(r.model.rope_theta, 5000);
  EXPECT_EQ(r.run.name, "tune");
  model_.text = "run: {name: x}\n";
  EXPECT_NE(refused(recipe("{from: " + from() + "}")).find("origin/recipe.yaml:1:1: found no architecture"),
            std::string::npos);
}

TEST_F(Origin, OfARunThatHasBegunMayBeGone) {
  const std::string path = recipe("{from: " + from() + "}");
  const Recipe before = load(path);
  is_there_ = false;
  fs::remove_all(from());
  EXPECT_NE(
      refused(path).find("recipe.yaml:2:15: found no `" + from() + "`, of which the recipe takes the architecture"),
      std::string::npos)
      << refused(path);
  folder_.write("run/recipe.yaml", to_yaml(before));
  EXPECT_TRUE(load(path) == before);
  // Another model's run says nothing of this one.
  Recipe other = before;
  other.model.from = "/elsewhere";
  folder_.write("run/recipe.yaml", to_yaml(other));
  EXPECT_NE(refused(path).find("found no `"), std::string::npos);
}

TEST_F(Origin, ErrorsNameTheirPlace) {
  EXPECT_NE(refused(recipe("{model_type: qwen2}")).find("recipe.yaml:4:14: found `tokenizer: model` without a `model."),
            std::string::npos)
      << refused(recipe("{model_type: qwen2}"));
  model_.text = testing::with("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", config_);
  const std::string gelu = refused(recipe("{from: " + from() + "}"));
  EXPECT_NE(gelu.find("origin/config.json:10:17: found the text \"gelu\""), std::string::npos) << gelu;
  model_.text = "{";
  EXPECT_NE(refused(recipe("{from: " + from() + "}")).find("origin/config.json:1:2: found what is no JSON"),
            std::string::npos)
      << refused(recipe("{from: " + from() + "}"));
}

}  // namespace
}  // namespace fourmi
