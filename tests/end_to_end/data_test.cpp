// Data that is not what it should be, on one rank and on four: told once, at once, with place and remedy; nothing
// hangs.
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <fstream>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// PREFIX.bin and PREFIX.idx of one document of u16 tokens.
void write_tokens(const fs::path& prefix, const std::vector<std::uint16_t>& ids) {
  std::string bin, idx("MMIDIDX\0\0", 9);
  for (const std::uint16_t id : ids) put(bin, id);
  put(idx, std::uint64_t{1});
  put(idx, std::uint8_t{8});
  put(idx, std::uint64_t{1});
  put(idx, std::uint64_t{2});
  put(idx, static_cast<std::int32_t>(ids.size()));
  put(idx, std::int64_t{0});
  put(idx, std::int64_t{0});
  put(idx, std::int64_t{1});
  std::ofstream(prefix.string() + ".bin", std::ios::binary) << bin;
  std::ofstream(prefix.string() + ".idx", std::ios::binary) << idx;
}

class Data : public Scene {
 protected:
  fs::path write(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder() / name, std::ios::binary) << bytes;
    return folder() / name;
  }
  Words source(const std::string& name, const std::string& format) const {
    return {"data.train=[{name: x, path: \"" + (folder() / name).string() + "\", format: " + format + "}]"};
  }
  void expect_refused(const Words& words, int ranks, const std::string& named, const std::string& said) const {
    const Result result = run(train("bad", ranks, words));
    SCOPED_TRACE(to_string(result));
    EXPECT_FALSE(result.timed_out);
    EXPECT_EQ(result.status, 4);
    ASSERT_EQ(result.error_lines().size(), 1u);
    EXPECT_NE(result.error_lines()[0].find(named), std::string::npos);
    EXPECT_NE(result.error_lines()[0].find(said), std::string::npos);
    EXPECT_TRUE(step_lines(run_directory("bad")).empty());
    EXPECT_EQ(status_of(run_directory("bad")).exit_status, 4);
  }
};

TEST_F(Data, BadInputIsNamedOnOneRankAndOnFour) {
  const std::string text(4000, 'a');
  write("empty.txt", "");
  write("cut.txt.gz", std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x4c", 12));
  write("bad.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"\n");
  write("latin.jsonl", "{\"text\": \"caf\xe9\"}\n");
  write_tokens(folder() / "beyond", {1, 2, 3, 400, 5});
  write_tokens(folder() / "lies", std::vector<std::uint16_t>(200, 7));
  fs::resize_file(folder() / "lies.bin", 100);
  fs::create_symlink(folder() / "loop.txt", folder() / "loop.txt");
  ASSERT_EQ(mkfifo((folder() / "fifo.txt").c_str(), 0600), 0);
  struct Case {
    const char *file, *format, *said;
  };
  for (const Case& c :
       {Case{"none.txt", "text", "does not exist"}, Case{"empty.txt", "text", "holds no text at all"},
        Case{"cut.txt.gz", "text", "ends inside a compressed stream"}, Case{"bad.jsonl", "jsonl", ":2:13: "},
        Case{"latin.jsonl", "jsonl", "no UTF-8 (at byte 13"},
        Case{"beyond.bin", "bin", "token id 400 at offset 3 of document 0"},
        Case{"lies.bin", "bin", "100 bytes, 400 were expected"}, Case{"loop.txt", "text", "symbolic links"},
        Case{"fifo.txt", "text", "a FIFO"}, Case{"none.bin", "bin", "does not exist"}})
    for (const int ranks : {0, 4}) expect_refused(source(c.file, c.format), ranks, c.file, c.said);
  // One that cannot be read, unless nothing can be kept from us.
  fs::permissions(write("locked.txt", text), fs::perms::none);
  if (::geteuid() != 0) expect_refused(source("locked.txt", "text"), 4, "locked.txt", "Permission denied");
}

TEST_F(Data, AFileThatChangesUnderARunEndsIt) {
  for (const int ranks : {1, 4})
    for (const bool cut : {true, false}) {
      SCOPED_TRACE(std::to_string(ranks) + (cut ? " cut" : " changed"));
      write_tokens(folder() / "tokens", std::vector<std::uint16_t>(20'000, 7));
      const std::string name = "run" + std::to_string(ranks) + (cut ? "cut" : "changed");
      Words words = source("tokens.bin", "bin");
      words.insert(words.end(), {"run.steps=20", "checkpoint.every=2"});
      Process job(faulty({"wait", ranks - 1, "backward", 5}, name, ranks, words));
      ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(1)));
      if (cut)
        fs::resize_file(folder() / "tokens.bin", 0);
      else
        std::fstream(folder() / "tokens.bin", std::ios::in | std::ios::out | std::ios::binary).put('z');
      go_on();
      const Result result = job.wait();
      fs::remove(folder() / "go_on");
      SCOPED_TRACE(to_string(result));
      EXPECT_EQ(result.status, 4);
      ASSERT_EQ(result.error_lines().size(), 1u);
      EXPECT_NE(result.error_lines()[0].find("tokens.bin"), std::string::npos);
      // The data is back: the run goes on where it was.
      write_tokens(folder() / "tokens", std::vector<std::uint16_t>(20'000, 7));
      expect_ok(run(train(name, ranks == 1 ? 0 : ranks, words)));
      expect_each_step_once(run_directory(name), 20);
    }
}

// Where a run ends, over restarts. Steps of 8 sequences of 32 tokens, each without padding.

TEST_F(Data, ARampGoesOnToTheBit) {
  const Words ramp{"data.global_batch_size=[[0, 8], [700, 16], [2000, 32]]", "checkpoint.every=1"};
  const auto until = [&](int steps) {
    Words words = ramp;
    words.push_back("run.steps=" + std::to_string(steps));
    return words;
  };
  expect_ok(run(train("whole", 4, until(9))));
  for (const int steps : {2, 3, 5, 6, 9}) expect_ok(run(train("cut", 4, until(steps))));
  expect_same_run(run_directory("cut"), run_directory("whole"));
  std::vector<std::int64_t> tokens;
  for (const StepLine& line : step_lines(run_directory("cut"))) tokens.push_back(line.tokens / 32);
  // 8 sequences until 700 tokens have been read (after the third step), 16 until 2,000, then 32.
  EXPECT_EQ(tokens, (std::vector<std::int64_t>{8, 16, 24, 40, 56, 72, 104, 136, 168}));
  const Result refused = run(train("odd", 4, {"data.global_batch_size=[[0, 8], [700, 18]]"}));
  EXPECT_EQ(refused.status, 2) << to_string(refused);
  EXPECT_NE(refused.errors.find("found 18 as `global_batch_size`"), std::string::npos);
}

TEST_F(Data, TokensEndARunWithTheStepThatReachesThem) {
  expect_ok(run(train("tokens", 0, {"run.tokens=1000"})));
  expect_each_step_once(run_directory("tokens"), 4);  // 256 each
  Result again = run(train("tokens", 0, {"run.tokens=1024"}));
  expect_ok(again);
  EXPECT_NE(again.errors.find("nothing is left to do"), std::string::npos) << to_string(again);
  expect_ok(run(train("tokens", 0, {"run.tokens=1025"})));
  expect_each_step_once(run_directory("tokens"), 5);
  EXPECT_EQ(step_lines(run_directory("tokens")).back().tokens, 1280);
}

TEST_F(Data, AnEpochIsEachTokenOnceOverManyLaunches) {
  std::string lines;
  for (int d = 0; d < 60; ++d)
    lines += "{\"text\": \"" + std::string(static_cast<std::size_t>(20 + d), 'a' + d % 26) + "\"}\n";
  write("x.jsonl", lines);
  Words words = source("x.jsonl", "jsonl");
  const std::int64_t tokens = 60 * 21 + 60 * 59 / 2;  // with the tokens that open documents: 95 windows, 12 steps
  words.insert(words.end(), {"run.epochs=1", "data.repeat=1"});
  expect_ok(run(train("whole", 4, words)));
  expect_each_step_once(run_directory("whole"), 12);
  EXPECT_EQ(step_lines(run_directory("whole")).back().tokens, tokens);
  // Each launch has time for one step.
  words.emplace_back("run.time=0.001s");
  Result result;
  for (int launch = 0; launch < 20 && result.status != 0; ++launch) {
    result = run(train("cut", 4, words));
    ASSERT_TRUE(result.status == 0 || result.status == 6) << to_string(result);
  }
  expect_each_step_once(run_directory("cut"), 12);
  expect_same_run(run_directory("cut"), run_directory("whole"));
  // One pass is all that it gives.
  words.back() = "run.epochs=1.5";
  const Result more = run(train("more", 4, words));
  EXPECT_EQ(more.status, 4) << to_string(more);
  EXPECT_NE(more.errors.find("the run reads it 1.5"), std::string::npos);
  EXPECT_TRUE(step_lines(run_directory("more")).empty());
}

TEST_F(Data, TimeEndsALaunchWithACheckpoint) {
  const Words words{"run.steps=1000000", "run.time=2s"};
  const Result first = run(train("timed", 0, words));
  EXPECT_EQ(first.status, 6) << to_string(first);
  EXPECT_GE(first.seconds, 2);
  EXPECT_LT(first.seconds, 20);
  const int steps = saved_step("timed");
  EXPECT_GT(steps, 0);
  EXPECT_EQ(static_cast<std::size_t>(steps), step_lines(run_directory("timed")).size());
  EXPECT_EQ(status_of(run_directory("timed")).state, "stopped");
  EXPECT_EQ(run(train("timed", 0, words)).status, 6);
  EXPECT_GT(saved_step("timed"), steps);
}

TEST_F(Data, ShowDecodesTheFirstSamples) {
  write("x.jsonl", "{\"text\": \"Grey mice.\"}\n{\"text\": \"Bold \\u001b[31m words of a second document\"}\n");
  Words words{"data", "show", small_recipe, "-n", "2"};
  for (const std::string& word : source("x.jsonl", "jsonl")) words.push_back(word);
  const Result shown = run(fourmi(words));
  expect_ok(shown);
  SCOPED_TRACE(to_string(shown));
  for (const char* piece : {"<|document|>Grey mice.<|document|>Bold \\x1b[31m", "source x, epoch 1, window 0, 32 of 32",
                            "not counted|>", "1.0000"})
    EXPECT_NE(shown.output.find(piece), std::string::npos) << piece;
  EXPECT_EQ(shown.output.find('\x1b'), std::string::npos) << "no colours where there is no terminal";
  words.emplace_back("--json");
  const Result json = run(fourmi(words));
  expect_ok(json);
  EXPECT_NE(json.output.find("\"tokens_per_epoch\": 49"), std::string::npos) << to_string(json);
}

}  // namespace
}  // namespace fourmi::testing
