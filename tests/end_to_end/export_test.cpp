// `export` in a recipe: the run leaves a folder of Hugging Face's, whatever happens to the launch that makes it.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

class RunExport : public Scene {
 protected:
  fs::path out() const { return folder() / "out"; }
  Words words(const Words& more = {}) const {
    Words words{"run.steps=4", "checkpoint.every=2", "export.path=" + out().string(), "export.dtype=fp32"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static nlohmann::json mark(const fs::path& folder) { return nlohmann::json::parse(text_of(folder / "fourmi.json")); }
  void expect_export_of(const fs::path& folder, const fs::path& checkpoint) const {
    EXPECT_EQ(mark(folder)["root"], root_of(checkpoint));
    for (const char* file : {"config.json", "generation_config.json", "model.safetensors", "README.md", "recipe.yaml",
                             "tokenizer.json", "tokenizer_config.json"})
      EXPECT_TRUE(fs::is_regular_file(folder / file)) << file;
  }
};

TEST_F(RunExport, AtTheEndAndAgainWhenItIsMissing) {
  expect_ok(run(train("run", 2, words())));
  expect_export_of(out(), newest_checkpoint(run_directory("run")));
  const nlohmann::json config = nlohmann::json::parse(text_of(out() / "config.json"));
  EXPECT_EQ(config["architectures"][0], "DeepseekV3ForCausalLM");
  EXPECT_EQ(config["eos_token_id"], 256);
  const std::string card = text_of(out() / "README.md");
  for (const char* part : {"license: \"cc0-1.0\"", "| made | 1024 | CC0-1.0 |", "| loss of the last step, nats | "})
    EXPECT_NE(card.find(part), std::string::npos) << part << " in " << card;
  EXPECT_EQ(card.find("last step, nats | not recorded"), std::string::npos) << card;

  // What the folder holds is the checkpoint: imported again it has the same weights.
  expect_ok(run(fourmi({"import", out().string(), (folder() / "again").string()})));
  expect_ok(run(fourmi({"export", (folder() / "again").string(), (folder() / "third").string()})));
  EXPECT_EQ(text_of(out() / "model.safetensors"), text_of(folder() / "third/model.safetensors"));

  fs::remove_all(out());
  const Result again = run(train("run", 0, words()));
  expect_ok(again);
  EXPECT_NE(again.errors.find("exported step-00000004"), std::string::npos) << to_string(again);
  expect_export_of(out(), newest_checkpoint(run_directory("run")));
  const Result third = run(train("run", 0, words()));
  EXPECT_EQ(third.errors.find("exported"), std::string::npos) << to_string(third);

  // A longer run replaces it.
  expect_ok(run(train("run", 0, words({"run.steps=6"}))));
  EXPECT_EQ(mark(out())["step"], 6);
  expect_export_of(out(), newest_checkpoint(run_directory("run")));
}

TEST_F(RunExport, OfAFineTunedModelNamesItsBaseAndKeepsItsTokenizer) {
  expect_ok(run(train("run", 0, words())));
  std::ofstream(out() / "LICENSE") << "The terms.\n";
  std::ofstream(out() / "chat_template.jinja") << "{{ messages }}\n";
  const fs::path base = folder() / "base", tuned = folder() / "tuned-out", other = folder() / "other-out";
  expect_ok(run(fourmi({"import", out().string(), base.string()})));
  const Words from{"model.from=" + base.string(), "data.train.made.license=Apache-2.0"};
  Words kept = from, others = from;
  kept.insert(kept.end(), {"data.tokenizer=" + (base / "tokenizer.json").string(), "export.path=" + tuned.string()});
  others.push_back("export.path=" + other.string());
  expect_ok(run(train("tuned", 0, kept)));
  const std::string card = text_of(tuned / "README.md");
  for (const char* part :
       {"base_model: \"out\"", "license_name: \"Apache-2.0 AND CC0-1.0\"", "| made | 1024 | CC0-1.0 |",
        "| made | 1024 | Apache-2.0 |", "Together 2048 tokens", "Trained on from another model's weights"})
    EXPECT_NE(card.find(part), std::string::npos) << part << " in " << card;
  for (const char* file : {"tokenizer.json", "chat_template.jinja", "LICENSE", "generation_config.json"})
    EXPECT_EQ(text_of(tuned / file), text_of(out() / file)) << file;

  // With another tokenizer the base's template would say what the model does not know. Of a model of a model too.
  others.push_back("model.from=" + run_directory("tuned").string());
  const Result changed = run(train("changed", 0, others));
  expect_ok(changed);
  EXPECT_NE(changed.errors.find("another tokenizer than its base's"), std::string::npos) << to_string(changed);
  EXPECT_FALSE(fs::exists(other / "chat_template.jinja"));
  EXPECT_EQ(text_of(other / "LICENSE"), "The terms.\n");
}

TEST_F(RunExport, OfEveryCheckpointAlsoAfterAKill) {
  const Words each = words({"export.when=checkpoints", "run.steps=6"});
  kill_in({"wait", 1, "export", 4}, "run", 2, each);
  EXPECT_FALSE(fs::exists(out() / "step-00000006"));
  EXPECT_LT(saved_step("run"), 6);
  expect_ok(run(train("run", 2, each)));
  for (const char* step : {"step-00000002", "step-00000004", "step-00000006"})
    expect_export_of(out() / step, run_directory("run") / "checkpoints" / step);
  EXPECT_EQ(std::distance(fs::directory_iterator(out()), fs::directory_iterator()), 3);
}

TEST_F(RunExport, ThatFailsDoesNotLoseTheRun) {
  std::ofstream(folder() / "file") << "no folder\n";
  const Words wrong = words({"export.path=" + (folder() / "file/out").string()});
  const Result failed = run(train("run", 2, wrong));
  EXPECT_EQ(failed.status, 3) << to_string(failed);
  const Status status = status_of(run_directory("run"));
  EXPECT_EQ(status.state, "failed");
  EXPECT_EQ(status.exit_status, 3);
  EXPECT_EQ(status.step, 4);
  EXPECT_NE(status.remedy.find("The run is whole"), std::string::npos) << status.remedy;
  EXPECT_EQ(saved_step("run"), 4);
  expect_ok(run(train("run", 0, words())));
  expect_export_of(out(), newest_checkpoint(run_directory("run")));
}

TEST_F(RunExport, LeavesAloneWhatIsNotItsOwn) {
  fs::create_directory(out());
  std::ofstream(out() / "thesis.txt") << "years of work\n";
  const Result refused = run(train("run", 0, words()));
  EXPECT_EQ(refused.status, 2) << to_string(refused);
  EXPECT_TRUE(step_lines(run_directory("run")).empty());
  EXPECT_EQ(text_of(out() / "thesis.txt"), "years of work\n");
  // Another run's export neither.
  fs::remove_all(out());
  expect_ok(run(train("run", 0, words())));
  EXPECT_EQ(run(train("other", 0, words())).status, 2);
  EXPECT_EQ(mark(out())["root"], root_of(newest_checkpoint(run_directory("run"))));
}

TEST_F(RunExport, TheDryRunSaysWhatItTakes) {
  Words dry = words({"--dry-run", "--json"});
  const Result one = run(train("run", 0, dry));
  expect_ok(one);
  const auto bytes = nlohmann::json::parse(one.output)["export_bytes"].get<std::int64_t>();
  EXPECT_GT(bytes, 0);
  dry.push_back("export.when=checkpoints");
  EXPECT_EQ(nlohmann::json::parse(run(train("run", 0, dry)).output)["export_bytes"], 2 * bytes);
  const Result text = run(train("run", 0, words({"--dry-run"})));
  EXPECT_NE(text.output.find(fmt::format("export         {} bytes in {} at the end", bytes, out().string())),
            std::string::npos)
      << text.output;
}

TEST_F(RunExport, OfNothingNamesAllThatCouldBeThere) {
  fs::create_directories(folder() / "empty");
  for (const char* name : {"empty", "nowhere"}) {
    const Result result = run(fourmi({"export", folder() / name, out()}));
    EXPECT_EQ(result.status, 4);
    for (const char* kind : {"a run directory", "a checkpoint", "a Hugging Face folder", "a GGUF file"})
      EXPECT_NE(result.errors.find(kind), std::string::npos) << to_string(result);
  }
}

}  // namespace
}  // namespace fourmi::testing
