// Shipped recipes, the schema, `explain`, and the two pages that are generated from the table.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "framework/recipe/explain.h"
#include "framework/recipe/field.h"
#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using nlohmann::json;

/// What a released model's folder says, as far as a recipe needs it to be read.
const recipe::Origins& a_released_model() {
  static const recipe::Origins origins{[](const std::string& from) {
                                         const std::string config =
                                             testing::contents(std::filesystem::path(from) / "config.json");
                                         json changed = json::parse(config);
                                         if (changed["max_position_embeddings"] < 131072)
                                           changed["max_position_embeddings"] = 131072;
                                         return recipe::OriginModel{changed.dump(), from + "/config.json", false};
                                       },
                                       [](const std::string&) {
                                         return recipe::OriginTokenizer{"tokenizer.json", "", "", ""};
                                       }};
  return origins;
}

TEST(Shipped, EveryRecipeValidatesAndReadsBack) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(testing::root() / "recipes")) {
    if (entry.path().extension() != ".yaml") continue;
    SCOPED_TRACE(entry.path().string());
    names.insert(entry.path().stem().string());
    // Those that begin from a model which you bring read that model's architecture.
    const bool llama = entry.path().stem().string().find("llama") != std::string::npos;
    const bool brought = testing::contents(entry.path()).find("from: /models/") != std::string::npos;
    const std::string model = (testing::root() / "tests/golden" / (llama ? "llama" : "qwen2")).string();
    const Recipe r =
        brought ? load_recipe(entry.path(), {"model.from=" + model}, 8, a_released_model()) : load_recipe(entry.path());
    EXPECT_EQ(r.run.name, entry.path().stem().string());
    EXPECT_TRUE(parse_recipe(to_yaml(r)) == r);
  }
  for (const char* name :
       {"tiny", "tiny-dense", "deepseek-v3", "deepseek-v2-lite", "moonlight-16b-a3b", "qwen3-30b-a3b", "kimi-k2"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

// DeepSeek-R1's report, appendix B.4.
TEST(Shipped, ReasoningIsTaughtWithThePublishedNumbers) {
  const std::pair<const char*, double> published[] = {{"r1-qwen2.5-math-1.5b", 1e-4}, {"r1-qwen2.5-math-7b", 8e-5},
                                                      {"r1-qwen2.5-14b", 7e-5},       {"r1-qwen2.5-32b", 6e-5},
                                                      {"r1-llama-3.1-8b", 5e-5},      {"r1-llama-3.3-70b", 2e-5}};
  for (const auto& [name, learning_rate] : published) {
    SCOPED_TRACE(name);
    const std::string model = (testing::root() / "tests/golden/qwen2").string();
    const Recipe r = load_recipe(testing::root() / "recipes" / (std::string(name) + ".yaml"), {"model.from=" + model},
                                 0, a_released_model());
    EXPECT_EQ(r.optimizer.learning_rate, learning_rate);
    EXPECT_EQ(r.data.global_batch_size, BatchSize(64));
    EXPECT_EQ(r.data.sequence_length, 32768);
    EXPECT_EQ(r.schedule.name, "cosine");
    EXPECT_EQ(r.schedule.final_ratio, 0.1);
    EXPECT_TRUE(r.schedule.has_horizon());
    EXPECT_GE(r.run.epochs, 2);
    EXPECT_LE(r.run.epochs, 3);
  }
}

TEST(Shipped, TinyRunsOnUpToFourRanks) {
  for (const int ranks : {1, 2, 4}) {
    EXPECT_NO_THROW(load_recipe(testing::root() / "recipes/tiny.yaml", {}, ranks));
    EXPECT_NO_THROW(load_recipe(testing::root() / "recipes/tiny-dense.yaml", {}, ranks));
  }
}

TEST(Schema, IsJsonAndHasEveryKey) {
  const json schema = json::parse(recipe_schema());
  for (const recipe::Field& field : recipe::fields()) {
    const json* here = &schema.at("properties");
    std::string rest = field.path;
    while (!rest.empty()) {
      const std::size_t dot = rest.find('.');
      std::string part = rest.substr(0, dot);
      rest = dot == std::string::npos ? "" : rest.substr(dot + 1);
      const bool list = part.ends_with("[]");
      if (list) part.resize(part.size() - 2);
      ASSERT_TRUE(here->contains(part)) << field.path;
      const json* found = &here->at(part);
      if (rest.empty()) {
        EXPECT_TRUE(found->at("description").get<std::string>().starts_with(field.meaning)) << field.path;
        break;
      }
      // Through null or the two forms of data.validation to what holds the next key.
      std::vector<const json*> forms{found};
      if (found->contains("anyOf")) {
        for (const json& form : found->at("anyOf")) forms.push_back(&form);
      }
      here = nullptr;
      for (const json* form : forms) {
        if (list && form->contains("items")) here = &form->at("items").at("properties");
        if (!list && form->contains("properties")) here = &form->at("properties");
      }
      ASSERT_NE(here, nullptr) << field.path;
    }
  }
  EXPECT_FALSE(schema.at("additionalProperties").get<bool>());
  EXPECT_EQ(recipe_schema().find("muon"), std::string::npos);  // what is not built is not there
}

TEST(Schema, HasNoKeyThatTheTableLacks) {
  const json schema = json::parse(recipe_schema());
  for (const auto& [section, rules] : schema.at("properties").items()) {
    if (section == "base") continue;
    for (const auto& [key, rule] : rules.at("properties").items()) {
      EXPECT_NE(recipe::find_field(section + "." + key), nullptr) << section << "." << key;
    }
  }
}

TEST(Pages, AreCurrent) {
  EXPECT_EQ(testing::contents(testing::root() / "docs/recipe.md"), recipe_page())
      << "write it anew: fourmi explain > docs/recipe.md";
  EXPECT_EQ(testing::contents(testing::root() / "docs/recipe.schema.json"), recipe_schema())
      << "write it anew: fourmi schema > docs/recipe.schema.json";
}

TEST(Explain, OneKey) {
  EXPECT_EQ(explain_key("optimizer.learning_rate"),
            "optimizer.learning_rate\n"
            "  The highest learning rate; the schedule scales it.\n"
            "  type      a number from 0 to 1000\n"
            "  default   0.0003\n"
            "  class     asked: a run that goes on with another value needs --accept-changes\n"
            "  elsewhere lr, max_lr, peak_lr, base_lr\n");
  EXPECT_NE(explain_key("data.train.weight").find("data.train[].weight\n"), std::string::npos);
  EXPECT_NE(explain_key("data.train[].weight").find("share", 0), 0u);
}

TEST(Explain, SectionsNamesAndForeignNames) {
  EXPECT_NE(explain_key("schedule").find("decay_start_step"), std::string::npos);
  const std::string every = explain_key("every");
  for (const char* key : {"evaluation.every", "checkpoint.every", "logging.every"}) {
    EXPECT_NE(every.find(key), std::string::npos);
  }
  const std::string foreign = explain_key("per_device_train_batch_size");
  EXPECT_TRUE(foreign.starts_with("fourmi's name for per_device_train_batch_size is data.micro_batch_size.\n"));
  EXPECT_TRUE(explain_key("tensor_model_parallel_size").find("parallel.tensor") != std::string::npos);
  for (const recipe::Field& field : recipe::fields()) {
    EXPECT_FALSE(explain_key(field.path).empty());
    EXPECT_FALSE(field.meaning.empty()) << field.path;
    for (const std::string& name : field.foreign) {
      if (!recipe::fields_named(name).empty()) continue;  // ours in another family
      EXPECT_NE(explain_key(name).find(field.path + "\n"), std::string::npos) << name;
    }
  }
}

TEST(Explain, Json) {
  const json one = json::parse(explain_key_json("run.steps"));
  EXPECT_EQ(one.at("keys").size(), 1u);
  EXPECT_EQ(one.at("keys")[0].at("class"), "free");
  EXPECT_EQ(one.at("keys")[0].at("unit"), "steps");
  EXPECT_EQ(json::parse(explain_key_json("every")).at("keys").size(), 4u);
}

TEST(Explain, UnknownKey) {
  try {
    explain_key("optimizer.lerning_rate");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), ExitStatus::usage);
    EXPECT_NE(std::string(error.what()).find("Did you mean `optimizer.learning_rate`?"), std::string::npos);
  }
}

TEST(Table, NamesAreNotUsedTwice) {
  std::set<std::string> paths;
  for (const recipe::Field& field : recipe::fields()) {
    EXPECT_TRUE(paths.insert(field.path).second) << field.path;
    for (const std::string& name : field.foreign) {
      // A foreign name that is also ours would send people the wrong way. Families have names of their own for experts.
      const bool experts = name == "num_experts" || name == "n_routed_experts" || name == "num_local_experts";
      const bool ours = recipe::find_field(std::string(field.parent()) + "." + name) != nullptr;
      EXPECT_TRUE(experts || !ours) << name;
    }
  }
}

}  // namespace
}  // namespace fourmi
