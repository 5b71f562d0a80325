// A run with a tokenizer of its own: trained, resumed, read; and never with another one.
#include <nlohmann/json.hpp>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class TokenizerRun : public Scene {
 protected:
  TokenizerRun() { take("qwen2"); }
  /// One of the goldens of tests/tokenizer at the recipe's path.
  void take(const std::string& golden) const {
    fs::copy_file(goldens / (golden + ".json"), file(), fs::copy_options::overwrite_existing);
  }
  fs::path file() const { return folder() / "tok.json"; }
  Words words(const Words& more = {}) const {
    Words all{"model.vocab_size=700", "data.tokenizer=" + file().string(),
              "data.train=[{name: x, path: \"" + (goldens / "train.txt").string() + "\"}]",
              "data.validation=[{name: v, path: \"" + (goldens / "train.txt").string() + "\"}]", "checkpoint.every=2"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  void expect_refused(const Result& result, int status, const std::string& said) const {
    SCOPED_TRACE(to_string(result));
    EXPECT_EQ(result.status, status);
    ASSERT_EQ(result.error_lines().size(), 1u);
    EXPECT_NE(result.error_lines()[0].find(said), std::string::npos);
  }
  const fs::path goldens = FOURMI_SOURCE_DIR "/tests/tokenizer/goldens";
};

TEST_F(TokenizerRun, IsTiedToItsTokenizer) {
  expect_ok(run(train("run", 2, words())));
  const fs::path directory = run_directory("run");
  EXPECT_EQ(text_of(directory / "tokenizer.json"), text_of(file()));
  EXPECT_NE(text_of(directory / "recipe.yaml").find("tokenizer_sha256: "), std::string::npos);

  // Generated text and held-out text are that tokenizer's, whatever became of the file.
  const auto told = [&] {
    const Result text =
        run(fourmi({"generate", directory, "--prompt", "modi thaki", "--max-tokens", "20", "--seed", "3", "--json"}));
    expect_ok(text);
    const Result loss = run(fourmi({"eval", directory, "--json"}));
    expect_ok(loss);
    json j = json::parse(loss.output);
    EXPECT_EQ(json::parse(text.output)["text"].get<std::string>().rfind("modi thaki", 0), 0u);
    EXPECT_GT(j["bits_per_byte"].get<double>(), 0.5);
    return text.output + j.dump();
  };
  const std::string before = told();

  // Another tokenizer at the same path: the run refuses it, by its key, with both digests; its readers have the copy.
  take("cl100k");
  EXPECT_EQ(told(), before);
  for (const int ranks : {0, 2})
    expect_refused(run(train("run", ranks, words({"run.steps=6"}))), 2, "data.tokenizer_sha256");
  // So does another key, and another end of a document is asked for.
  take("qwen2");
  expect_refused(run(train("run", 0, words({"run.steps=6", "data.tokenizer=bytes"}))), 2, "data.tokenizer");

  // The path leads nowhere any more: the run goes on with its copy, to the bits of a run that never ended.
  fs::remove(file());
  EXPECT_EQ(told(), before);
  expect_ok(run(train("run", 2, words({"run.steps=6"}))));
  take("qwen2");
  expect_ok(run(train("whole", 2, words({"run.steps=6"}))));
  expect_same_run(directory, run_directory("whole"));

  // The resolved recipe starts it again; with the copy gone and another file it has the wrong digest.
  take("cl100k");
  expect_ok(run(fourmi({"train", directory / "recipe.yaml", "run.steps=6"})));
  fs::remove(directory / "tokenizer.json");
  expect_refused(run(fourmi({"eval", directory})), 4, "data.tokenizer_sha256");
  expect_refused(run(fourmi({"train", directory / "recipe.yaml", "run.steps=8"}, 2)), 4, "data.tokenizer_sha256");
}

TEST_F(TokenizerRun, NamesWhatDoesNotFit) {
  for (const int ranks : {0, 2}) {
    expect_refused(run(train("bad", ranks, words({"model.vocab_size=300"}))), 2, "model.vocab_size: 300");
    expect_refused(run(train("bad", ranks, words({"data.tokenizer=" + (folder() / "none.json").string()}))), 4,
                   "none.json does not exist");
    expect_refused(run(train("bad", ranks, words({"data.end_of_document=</nothing>"}))), 2, "data.end_of_document");
    expect_refused(run(train("bad", ranks, words({"data.tokenizer_sha256=" + std::string(64, 'a')}))), 4,
                   "data.tokenizer_sha256");
  }
  // What is absent is a warning where nothing is started.
  const Result dry = run(train("bad", 0, words({"data.tokenizer=" + (folder() / "none.json").string(), "--dry-run"})));
  expect_ok(dry);
  EXPECT_NE(dry.errors.find("none.json does not exist"), std::string::npos);
}

TEST_F(TokenizerRun, DataShowDecodes) {
  const auto shown = [&] {
    Words all{"data", "show", small_recipe, "-n", "2", "--json"};
    for (const std::string& word : words()) all.push_back(word);
    const Result result = run(fourmi(all));
    expect_ok(result);
    return json::parse(result.output);
  };
  const json j = shown();
  const std::string text = text_of(goldens / "train.txt");
  for (const json& sample : j["samples"]) {
    const auto decoded = sample["stretches"][0]["text"].get<std::string>();
    EXPECT_GT(decoded.size(), 40u);  // 32 tokens of more than a byte
    EXPECT_NE(text.find(decoded), std::string::npos) << decoded;
  }
  take("gpt2");
  EXPECT_NE(shown()["samples"][0]["tokens"], j["samples"][0]["tokens"]);
}

}  // namespace
}  // namespace fourmi::testing
