// Recipes that leave architecture and tokenizer to the model that they begin from.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path tests = FOURMI_SOURCE_DIR "/tests";

class FromModel : public Scene {
 protected:
  /// A few steps from `from`, with nothing said of its architecture and its tokenizer.
  fs::path recipe(const fs::path& from) const {
    const fs::path path = folder() / "tune.yaml";
    std::ofstream(path) << fmt::format(R"(run: {{name: tune, seed: 5, steps: 2, directory: "{1}"}}
model: {{from: "{2}"}}
data:
  tokenizer: model
  chat_template: model
  sequence_length: 16
  global_batch_size: 4
  train: [{{name: text, path: "{0}", license: MIT}}]
  validation: [{{name: text, path: "{0}"}}]
precision: {{compute: fp32}}
optimizer: {{name: adamw, learning_rate: 1.0e-3}}
schedule: {{name: constant, warmup_steps: 1}}
)",
                                       (tests / "tokenizer/goldens/train.txt").string(), (folder() / "run").string(),
                                       from.string());
    return path;
  }
  double loss() const {
    const Result result = run(fourmi({"eval", (folder() / "run").string(), "--json"}));
    expect_ok(result);
    return result.status == 0 ? json::parse(result.output)["loss"].get<double>() : 0;
  }
  /// Begins, goes on, and is measured; in the end without `from`.
  void expect_trains(const fs::path& from) const {
    const std::string tune = recipe(from).string();
    const Result begun = run(fourmi({"train", tune}, 2));
    expect_ok(begun);
    EXPECT_EQ(begun.errors.find("other tokens"), std::string::npos) << to_string(begun);
    EXPECT_EQ(begun.errors.find("begin otherwise"), std::string::npos) << to_string(begun);
    EXPECT_EQ(saved_step("run"), 2);
    expect_ok(run(fourmi({"train", tune, "run.steps=3"})));
    EXPECT_GT(loss(), 1);
    fs::rename(from, from.string() + ".away");
    const double before = loss();
    expect_ok(run(fourmi({"train", tune, "run.steps=4"})));
    EXPECT_EQ(saved_step("run"), 4);
    EXPECT_NE(loss(), before);
    // Its own recipe starts it as well.
    expect_ok(run(fourmi({"train", (folder() / "run/recipe.yaml").string(), "run.steps=5"})));
    EXPECT_EQ(saved_step("run"), 5);
    fs::rename(from.string() + ".away", from);
    fs::remove_all(folder() / "run");
  }
};

TEST_F(FromModel, AGgufFileIsEnough) {
  const fs::path gguf = folder() / "model.gguf";
  fs::copy_file(tests / "interop/gguf/bytes.gguf", gguf);
  expect_trains(gguf);
}

TEST_F(FromModel, AHuggingFaceFolderIsEnoughAndTwoRanksImportIt) {
  const fs::path imported = folder() / "imported", hf = folder() / "hf";
  const Result import = run(fourmi({"import", tests / "interop/gguf/bytes.gguf", imported, "--json"}, 2));
  expect_ok(import);
  const Result alone = run(fourmi({"import", tests / "interop/gguf/bytes.gguf", folder() / "alone", "--json"}));
  EXPECT_EQ(json::parse(import.output)["root"], json::parse(alone.output)["root"]);
  expect_ok(run(fourmi({"export", imported, hf})));
  expect_trains(hf);
  expect_ok(run(fourmi({"train", recipe(imported).string(), "--dry-run"})));
}

TEST_F(FromModel, TheDryRunOfARecipeOfReasoning) {
  // The form of a recipe for a released model: config.json and tokenizer are all that is there of it.
  const fs::path hf = folder() / "hf";
  fs::create_directories(hf);
  json config = json::parse(text_of(tests / "golden/qwen2/config.json"));
  config["vocab_size"] = 512;
  std::ofstream(hf / "config.json") << config;
  fs::copy_file(tests / "tokenizer/goldens/qwen2.json", hf / "tokenizer.json");
  std::ofstream(hf / "chat_template.jinja")
      << "{% for m in messages %}<|endoftext|>{{ m.role }}: {{ m.reasoning_content }}{{ m.content }}{% endfor %}"
         "{% if add_generation_prompt %}<|endoftext|>assistant: {% endif %}";
  const fs::path data = folder() / "data.jsonl";
  for (int i = 0; i < 200; ++i)
    std::ofstream(data, std::ios::app)
        << fmt::format(R"({{"messages": [{{"role": "user", "content": "{} and {}"}}, )", i, i)
        << fmt::format(R"({{"role": "assistant", "reasoning_content": "count", "content": "{}"}}]}})", 2 * i) << "\n";
  const fs::path terms = folder() / "terms.txt";
  std::ofstream(terms) << "Learn.";
  const Words words{"train",
                    tests / "end_to_end/reasoning.yaml",
                    "--dry-run",
                    "--ranks",
                    "8",
                    "model.from=" + hf.string(),
                    "data.train.r1-math.path=" + data.string(),
                    "run.directory=" + (folder() / "run").string(),
                    "ledger.policy.require=[license]",
                    "distill.teacher.terms.file=" + terms.string(),
                    "export.path=" + (folder() / "out").string()};
  const Result dry = run(fourmi(words));
  expect_ok(dry);
  const std::vector<std::string> warnings = dry.lines("fourmi: warning: ");
  ASSERT_EQ(warnings.size(), 1u) << to_string(dry);
  EXPECT_NE(warnings[0].find("180 conversations"), std::string::npos) << warnings[0];
  for (const char* said : {"model_type: qwen2", "hidden_size: 24", "r1-math: "})
    EXPECT_NE(dry.output.find(said), std::string::npos) << said << " in " << dry.output;
}

}  // namespace
}  // namespace fourmi::testing
