// fourmi tokenize as a user calls it: token files that runs, ledger and readers take for what they are; killed at any
// moment; and every wrong call named.
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <random>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path goldens = FOURMI_SOURCE_DIR "/tests/tokenizer/goldens";

class Tokenize : public Scene {
 protected:
  Tokenize() {
    const std::string text = text_of(goldens / "train.txt");
    std::string lines;
    for (std::size_t begin = 0, end; begin < text.size(); begin = end + 1) {
      end = std::min(text.find("\n", std::min(begin + 300, text.size())), text.size());
      documents_.push_back(text.substr(begin, end - begin));
      lines += json{{"id", documents_.size()}, {"body", documents_.back()}}.dump() + "\n";
    }
    write("corpus.jsonl", lines);
    for (const char* name : {"qwen2", "gpt2"})
      fs::copy_file(goldens / (std::string(name) + ".json"), folder() / (std::string(name) + ".json"));
  }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder() / name, std::ios::binary) << bytes;
    return folder() / name;
  }
  std::string at(const std::string& name) const { return folder() / name; }
  Words tokenize(const std::string& prefix, const Words& more = {}) const {
    Words words{"tokenize", at("qwen2.json"), at("corpus.jsonl"), "--out", at(prefix), "--field", "body"};
    words.insert(words.end(), more.begin(), more.end());
    return fourmi(words);
  }
  /// A run on PREFIX.bin.
  Words train_on(const std::string& prefix, const std::string& name, int ranks, const Words& more = {}) const {
    Words words{"model.vocab_size=700", "data.tokenizer=" + at("qwen2.json"),
                "data.train=[{name: x, path: \"" + at(prefix) + ".bin\", format: bin}]",
                "ledger.policy={require: [license, digest, source]}"};
    words.insert(words.end(), more.begin(), more.end());
    return train(name, ranks, words);
  }
  void expect_refused(const Result& result, int status, const std::string& said) const {
    SCOPED_TRACE(to_string(result));
    EXPECT_EQ(result.status, status);
    EXPECT_FALSE(result.timed_out);
    ASSERT_EQ(result.error_lines().size(), 1u);
    EXPECT_NE(result.error_lines()[0].find(said), std::string::npos);
  }
  std::vector<std::string> documents_;
};

TEST_F(Tokenize, ItsFilesAreTrainedOnWithTheirTermsAndDecoded) {
  const Result made =
      run(tokenize("out", {"--license", "CC-BY-4.0", "--source", "words of nobody", "--threads", "2", "--json"}));
  expect_ok(made);
  const json told = json::parse(made.output), side = json::parse(text_of(at("out.json")));
  EXPECT_EQ(told["documents"], documents_.size());
  EXPECT_EQ(told["tokens"], side["tokens"]);

  // The run's policy asks for license, digest and source: they come from the side file alone.
  expect_ok(run(train_on("out", "run", 2)));
  const Result shown = run(fourmi({"ledger", "show", run_directory("run"), "--json"}));
  expect_ok(shown);
  bool found = false;
  const std::string ledger = text_of(run_directory("run") / "ledger.jsonl");
  for (const char* fact : {"CC-BY-4.0", "words of nobody"}) {
    EXPECT_NE(shown.output.find(fact), std::string::npos) << shown.output;
  }
  for (const char* file : {"bin", "idx"}) {
    EXPECT_NE(ledger.find(side[file]["sha256"].get<std::string>()), std::string::npos) << file;
    found = true;
  }
  EXPECT_TRUE(found);
  expect_ok(run(fourmi({"ledger", "verify", run_directory("run"), "--data"})));
  const json trace = json::parse(run(fourmi({"ledger", "trace", run_directory("run"), "--json"})).output);
  EXPECT_EQ(trace["sources"][0]["license"], "CC-BY-4.0");
  EXPECT_EQ(trace["sources"][0]["tokens"], step_lines(run_directory("run")).back().tokens);

  // The model is measured on the token file and on the text alike, and speaks in that tokenizer's words.
  const auto loss = [&](const std::string& file) {
    const Result result = run(fourmi({"eval", run_directory("run"), "--data", file, "--json"}));
    expect_ok(result);
    return json::parse(result.output);
  };
  std::string whole;
  for (const std::string& document : documents_) whole += json{{"text", document}}.dump() + "\n";
  const json on_tokens = loss(at("out.bin")), on_text = loss(write("whole.jsonl", whole));
  EXPECT_EQ(on_tokens["tokens"], on_text["tokens"]);
  EXPECT_DOUBLE_EQ(on_tokens["loss"].get<double>(), on_text["loss"].get<double>());
  expect_ok(
      run(fourmi({"generate", run_directory("run"), "--prompt", documents_[0].substr(0, 40), "--max-tokens", "5"})));

  // data show writes the documents back.
  Words show = train_on("out", "none", 0);
  show.erase(show.begin() + 1);
  show.insert(show.begin() + 1, {"data", "show", "--json", "-n", "1"});
  const Result samples = run(show);
  expect_ok(samples);
  const auto text = json::parse(samples.output)["samples"][0]["stretches"][0]["text"].get<std::string>();
  EXPECT_GT(text.size(), 40u);
  EXPECT_NE(text_of(goldens / "train.txt").find(text), std::string::npos) << text;

  // Ids of another tokenizer mean other things, though they are small enough: refused, alone and on ranks.
  expect_ok(run(fourmi({"tokenize", at("gpt2.json"), at("corpus.jsonl"), "--out", at("other"), "--field", "body",
                        "--license", "CC0-1.0", "--source", "x"})));
  for (const int ranks : {0, 2}) expect_refused(run(train_on("other", "bad", ranks)), 4, "was made with the tokenizer");
  expect_refused(run(fourmi({"eval", run_directory("run"), "--data", at("other.bin")})), 4,
                 "was made with the tokenizer");
  // A model with too few rows for the ids is refused before anything.
  expect_refused(run(train_on("out", "bad", 0, {"model.vocab_size=400"})), 2, "model.vocab_size");
}

TEST_F(Tokenize, GoesOnAfterKills) {
  // Enough text for a commit in the middle (64 MB).
  const std::string text = text_of(at("corpus.jsonl"));
  {
    std::ofstream out(at("corpus.jsonl"), std::ios::binary);
    for (std::size_t bytes = 0; bytes < 90'000'000; bytes += text.size()) out << text;
  }
  const Result whole = run(tokenize("whole", {"--threads", "2"}));
  expect_ok(whole);
  const auto commits = [&] {
    const std::string journal = fs::exists(at("killed.journal")) ? text_of(at("killed.journal")) : "";
    return std::count(journal.begin(), journal.end(), '\n') - 1;
  };
  std::mt19937 random(7);
  for (int kills = 0; kills < 3; ++kills) {
    Process job(tokenize("killed", {"--threads", kills % 2 ? "1" : "2"}));
    // Once before the first commit, once after it, once anywhere in what is left.
    if (kills == 1) {
      EXPECT_TRUE(wait_until([&] { return commits() >= 1; }));
    }
    std::this_thread::sleep_for(
        Seconds(whole.seconds * 0.1 * static_cast<double>(random()) / static_cast<double>(random.max())));
    job.kill_all();
    const Result result = job.wait();
    if (kills == 0) {
      EXPECT_EQ(result.status, -SIGKILL);
    }
    if (result.status == 0) break;
    for (const char* ending : {".bin", ".idx"}) EXPECT_FALSE(fs::exists(at("killed") + ending)) << kills;
  }
  ASSERT_GE(commits(), 1);
  const Result last = run(tokenize("killed", {"--json"}));
  expect_ok(last);
  EXPECT_TRUE(json::parse(last.output)["resumed"].get<bool>());
  for (const char* ending : {".bin", ".idx", ".json"})
    EXPECT_TRUE(text_of(at("killed") + ending) == text_of(at("whole") + ending)) << ending;
  for (const char* ending : {".journal", ".bin.part", ".idx.part", ".json.part", ".lengths.part"})
    EXPECT_FALSE(fs::exists(at("killed") + ending)) << ending;
}

TEST_F(Tokenize, NamesWrongCalls) {
  const Words corpus{at("corpus.jsonl"), "--field", "body"};
  const auto call = [&](const Words& more) {
    Words words{"tokenize"};
    words.insert(words.end(), more.begin(), more.end());
    return run(fourmi(words));
  };
  write("bad.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n");
  write("bad.json", "{}");
  ASSERT_EQ(mkfifo(at("fifo").c_str(), 0600), 0);
  fs::create_directories(folder() / "texts");
  write("texts/a.txt", "a text");
  const std::string tok = at("qwen2.json"), out = at("x");
  const struct {
    Words words;
    int status;
    std::string said;
  } cases[] = {
      {{tok, at("none.txt"), "--out", out}, 4, "none.txt"},
      {{tok, at("bad.jsonl"), "--out", out}, 4, "bad.jsonl:2:"},
      {{tok, at("corpus.jsonl"), "--out", out}, 4, "corpus.jsonl:1:"},  // no field `text`
      {{tok, at("fifo"), "--out", out}, 4, "fifo"},
      {{at("bad.json"), at("corpus.jsonl"), "--out", out}, 4, "bad.json"},
      {{at("none.json"), at("corpus.jsonl"), "--out", out}, 4, "none.json does not exist"},
      {{tok, "--out", out}, 2, "at least one input"},
      {{tok, at("texts"), "--out", at("texts/x")}, 2, "lies in the input"},
      {{tok, at("texts"), at("texts/a.txt"), "--out", out}, 2, "named twice"},
      {{tok, at("texts"), "--out", at("texts")}, 2, "--out"},
      {{tok, at("texts"), "--out", at("x.bin")}, 2, "expected a PREFIX"},
      {{tok, at("texts"), "--out", out, "--license", "MITT"}, 2, "--license"},
      {{tok, at("texts"), "--out", out, "--end-of-document", "<x>"}, 2, "--end-of-document"},
      {{"bytes", at("texts"), "--out", out, "--end-of-document", "<x>"}, 2, "--end-of-document"},
      {{tok, at("texts"), "--out", out, "--threads", "-1"}, 2, "--threads"},
      {{tok, at("texts")}, 2, "--out"},
      {{tok, at("texts"), "--out", "/proc/none/x"}, 3, "/proc/none"},
      {{"--train", at("texts"), "--out", at("t.json")}, 2, "--vocab-size"},
      {{"--train", at("texts"), "--out", at("t.json"), "--vocab-size", "100"}, 2, "--vocab-size"},
      {{"--train", at("texts"), "--out", tok, "--vocab-size", "300"}, 2, "it exists"},
      {{"--train", at("none"), "--out", at("t.json"), "--vocab-size", "300"}, 4, "none"},
  };
  for (const auto& c : cases) expect_refused(call(c.words), c.status, c.said);
  for (const auto& entry : fs::directory_iterator(folder()))
    for (const char* ending : {".bin", ".idx"}) EXPECT_NE(entry.path().extension(), ending) << entry.path();
  // What is there stays, unless it is told.
  fs::remove(at("x.journal"));
  expect_ok(call({tok, at("texts"), "--out", out}));
  const std::string before = text_of(at("x.bin"));
  expect_refused(call({"bytes", at("texts"), "--out", out}), 2, "--overwrite");
  EXPECT_EQ(text_of(at("x.bin")), before);
  EXPECT_FALSE(fs::exists(at("x.journal")));
  expect_ok(call({"bytes", at("texts"), "--out", out, "--overwrite"}));
  expect_refused(call({"bytes", at("x.bin"), "--out", at("y")}), 2, "token file");
}

TEST_F(Tokenize, ATrainedVocabularyIsTrainedWith) {
  const Result learnt = run(fourmi({"tokenize", "--train", at("corpus.jsonl"), "--field", "body", "--vocab-size", "400",
                                    "--out", at("tok"), "--json"}));
  expect_ok(learnt);
  EXPECT_EQ(json::parse(learnt.output)["vocab_size"], 400);
  expect_ok(run(fourmi({"tokenize", at("tok"), at("corpus.jsonl"), "--field", "body", "--out", at("mine")})));
  const json side = json::parse(text_of(at("mine.json")));
  EXPECT_EQ(side["tokenizer"]["sha256"], json::parse(learnt.output)["sha256"]);
  EXPECT_LT(side["tokens"].get<std::int64_t>(), side["text_bytes"].get<std::int64_t>() / 2);
  expect_ok(run(train_on("mine", "run", 0,
                         {"data.tokenizer=" + at("tok"), "model.vocab_size=400", "ledger.policy={require: []}"})));
}

}  // namespace
}  // namespace fourmi::testing
