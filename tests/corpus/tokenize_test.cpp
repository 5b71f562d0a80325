// A corpus as token files: what is in them, that threads, blocks and kills change nothing, and that bad input is named.
#include "framework/corpus/tokenize.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

#include "framework/corpus/train.h"
#include "framework/data/indexed.h"
#include "framework/digest/sha256.h"
#include "framework/tokenizer/bytes.h"
#include "tests/data/files.h"
#include "tests/tokenizer/goldens.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

std::string content(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// JSON lines and texts, compressed and not, and the documents in them.
struct Corpus {
  explicit Corpus(const test::Folder& folder, int lines = 400) {
    std::mt19937_64 random(1);
    const std::string text = test::golden("train.txt");
    const auto document = [&] {
      const std::size_t begin = random() % (text.size() - 500);
      return text.substr(text.find(' ', begin), random() % 400);
    };
    for (const char* name : {"a.jsonl", "b.jsonl.gz", "c.txt", "d.txt.gz"}) {
      const bool json = std::string(name).find("jsonl") != std::string::npos;
      std::string bytes;
      for (int i = 0; i < (json ? lines : 1); ++i) {
        std::string one = i % 50 == 7 ? "" : document();
        while (!one.empty() && (one.back() & 0x80)) one.pop_back();
        if (!json) one += "\xff\xfe tail";
        // Documents are cut anywhere: only whole characters may be in JSON.
        const std::string line =
            nlohmann::json{{"text", one}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
        if (json) one = nlohmann::json::parse(line)["text"];
        documents.push_back(one);
        bytes += json ? line + (i % 3 ? "\n" : "\r\n") : one;
      }
      inputs.push_back(folder.write(name, std::string(name).ends_with(".gz") ? test::gzip(bytes) : bytes));
    }
  }
  std::vector<fs::path> inputs;
  std::vector<std::string> documents;
};

TokenizeOptions options_for(const Corpus& corpus, const std::string& prefix) {
  TokenizeOptions options;
  options.inputs = corpus.inputs;
  options.prefix = prefix;
  options.license = "CC0-1.0";
  options.source = "made up";
  return options;
}

TEST(Tokenize, WritesTheDocumentsAndWhatTheyAreMadeOf) {
  const test::Folder folder;
  const Corpus corpus(folder);
  const BpeTokenizer tokenizer = test::golden_tokenizer("cl100k");
  const std::string prefix = folder.path() + "/out";
  const TokenizeResult result = tokenize_corpus(tokenizer, options_for(corpus, prefix));

  const IndexedTokens tokens(prefix);
  EXPECT_EQ(tokens.type(), TokenType::u16);
  std::int64_t d = 0, text_bytes = 0;
  for (const std::string& document : corpus.documents) {
    if (document.empty()) continue;
    ASSERT_LT(d, tokens.num_documents());
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens.document_begin(d + 1) - tokens.document_begin(d)));
    tokens.read(tokens.document_begin(d), ids);
    ASSERT_EQ(ids.back(), tokenizer.end_of_document());
    ids.pop_back();
    EXPECT_EQ(ids, tokenizer.encode(document));
    text_bytes += std::ssize(document);
    ++d;
  }
  EXPECT_EQ(d, tokens.num_documents());
  EXPECT_EQ(result.counts.text_bytes, text_bytes);
  EXPECT_EQ(result.counts.not_utf8, 4);

  const auto side = nlohmann::json::parse(content(prefix + ".json"));
  EXPECT_EQ(side["license"], "CC0-1.0");
  EXPECT_EQ(side["tokens"], tokens.num_tokens());
  EXPECT_EQ(side["documents"], tokens.num_documents());
  for (const char* ending : {"bin", "idx"}) {
    const std::string bytes = content(prefix + "." + ending);
    EXPECT_EQ(side[ending]["bytes"], bytes.size());
    EXPECT_EQ(side[ending]["sha256"], sha256(bytes));
  }
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < corpus.inputs.size(); ++i) {
    EXPECT_EQ(side["inputs"][i]["sha256"], sha256(content(corpus.inputs[i])));
    sum += side["inputs"][i]["tokens"].get<std::int64_t>();
  }
  EXPECT_EQ(sum, tokens.num_tokens());
  for (const auto& entry : fs::directory_iterator(folder.path()))
    EXPECT_EQ(entry.path().string().find(".part"), std::string::npos) << entry.path();
  EXPECT_FALSE(fs::exists(prefix + ".journal"));
}

TEST(Tokenize, ThreadsAndBlocksChangeNothing) {
  const test::Folder folder;
  const Corpus corpus(folder);
  const BpeTokenizer tokenizer = test::golden_tokenizer("gpt2");
  std::vector<std::string> results;
  int n = 0;
  for (const auto& [threads, block] : {std::pair{1, 4 << 20}, {3, 1000}, {2, 64}}) {
    TokenizeOptions options = options_for(corpus, folder.path() + "/out" + std::to_string(n++));
    options.threads = threads;
    options.block_bytes = block;
    tokenize_corpus(tokenizer, options);
    results.push_back(content(options.prefix.string() + ".bin") + content(options.prefix.string() + ".idx") +
                      content(options.prefix.string() + ".json"));
    EXPECT_EQ(results.back(), results.front());
  }
}

TEST(Tokenize, GoesOnAfterKillsToTheSameBytes) {
  const test::Folder folder;
  const Corpus corpus(folder, 3000);
  const ByteTokenizer tokenizer;
  TokenizeOptions whole = options_for(corpus, folder.path() + "/whole");
  tokenize_corpus(tokenizer, whole);
  TokenizeOptions killed = options_for(corpus, folder.path() + "/killed");
  killed.block_bytes = 2000;
  killed.commit_bytes = 20000;
  killed.threads = 2;
  std::mt19937_64 random(17);
  int kills = 0, gone_on = 0;
  for (int round = 0; round < 200; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        _exit(tokenize_corpus(tokenizer, killed).resumed ? 10 : 0);
      } catch (...) {
        _exit(1);
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      ASSERT_NE(WEXITSTATUS(status), 1);
      gone_on += WEXITSTATUS(status) == 10;
      break;
    }
    ++kills;
    // Nothing has a name of the result before all is there.
    if (!fs::exists(folder.path() + "/killed.journal")) continue;
    std::ifstream journal(folder.path() + "/killed.journal");
    std::ostringstream text;
    text << journal.rdbuf();
    if (text.str().find("\"complete\":true") == std::string::npos) {
      EXPECT_FALSE(fs::exists(folder.path() + "/killed.bin"));
    }
  }
  if (fs::exists(folder.path() + "/killed.journal")) tokenize_corpus(tokenizer, killed);
  for (const char* ending : {".bin", ".idx", ".json"})
    EXPECT_EQ(content(folder.path() + "/killed" + ending), content(folder.path() + "/whole" + ending))
        << ending << " " << kills << " kills";
  RecordProperty("kills", kills);
}

TEST(Tokenize, GoesOnAfterAnErrorInTheMiddle) {
  // The same, at a place that is known: a line is mended, and what lies before it is not read into tokens again.
  const test::Folder folder;
  const ByteTokenizer tokenizer;
  std::string lines;
  for (int i = 0; i < 300; ++i) lines += R"({"text": "line )" + std::to_string(i) + "\"}\n";
  const std::string first = folder.write("a.jsonl", lines);
  const std::string second = folder.write("b.jsonl", R"({"text": "x"})"
                                                     "\n"
                                                     R"({"tex": "y"})"
                                                     "\n");
  TokenizeOptions options;
  options.inputs = {first, second};
  options.prefix = folder.path() + "/out";
  options.block_bytes = 100;
  const std::string message = test::message_of(ExitStatus::input, [&] { tokenize_corpus(tokenizer, options); });
  EXPECT_NE(message.find("b.jsonl:2:"), std::string::npos) << message;
  EXPECT_FALSE(fs::exists(folder.path() + "/out.bin"));
  // Another input of the same name is another command.
  folder.write("b.jsonl", R"({"text": "x"})"
                          "\n"
                          R"({"text": "yy"})"
                          "\n");
  const TokenizeResult mended = tokenize_corpus(tokenizer, options);
  EXPECT_TRUE(mended.begun_anew);
  EXPECT_FALSE(mended.resumed);
  EXPECT_EQ(mended.counts.documents, 302);
  // What is there is not written over without being told.
  const std::string exists = test::message_of(ExitStatus::usage, [&] { tokenize_corpus(tokenizer, options); });
  EXPECT_NE(exists.find("--overwrite"), std::string::npos) << exists;
  options.overwrite = true;
  EXPECT_EQ(tokenize_corpus(tokenizer, options).counts, mended.counts);
}

TEST(Tokenize, ManySmallTextsAreOneCorpus) {
  const test::Folder folder;
  const ByteTokenizer tokenizer;
  TokenizeOptions options;
  options.prefix = folder.path() + "/out";
  options.threads = 3;
  options.block_bytes = 200;  // many files a batch, some larger than one
  options.commit_bytes = 5000;
  std::vector<std::int32_t> expected;
  for (int i = 0; i < 300; ++i) {
    const std::string text(static_cast<std::size_t>(i % 7 == 0 ? 0 : i * 13 % 900), static_cast<char>('a' + i % 26));
    options.inputs.push_back(folder.write("t" + std::to_string(1000 + i) + ".txt", text));
    for (const char c : text) expected.push_back(c);
    if (!text.empty()) expected.push_back(tokenizer.end_of_document());
  }
  const TokenizeResult result = tokenize_corpus(tokenizer, options);
  const IndexedTokens tokens(options.prefix);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens.num_tokens()));
  tokens.read(0, ids);
  EXPECT_EQ(ids, expected);
  EXPECT_EQ(result.counts.documents, 300);
  EXPECT_EQ(tokens.num_documents(), 300 - result.counts.empty_documents);
  const auto side = nlohmann::json::parse(content(options.prefix.string() + ".json"));
  for (std::size_t i = 0; i < 300; ++i) {
    const auto& input = side["inputs"][i];
    const std::string text = content(options.inputs[i]);
    EXPECT_EQ(input["sha256"], sha256(text)) << i;
    EXPECT_EQ(input["tokens"], text.empty() ? 0 : text.size() + 1) << i;
  }
}

TEST(Tokenize, OnePrefixIsOneProcess) {
  const test::Folder folder;
  const ByteTokenizer tokenizer;
  TokenizeOptions options;
  options.inputs = {folder.write("a.txt", "text")};
  options.prefix = folder.path() + "/out";
  tokenize_corpus(tokenizer, options);
  const std::string before = content(folder.path() + "/out.bin");
  {
    Journal other(options.prefix, "another command");
    other.begin();
    options.overwrite = true;
    const std::string message = test::message_of(ExitStatus::environment, [&] { tokenize_corpus(tokenizer, options); });
    EXPECT_NE(message.find("another process"), std::string::npos) << message;
    options.overwrite = false;
  }
  // What the other left is no leave to write over what was there before, and is not lost by being refused.
  test::message_of(ExitStatus::usage, [&] { tokenize_corpus(tokenizer, options); });
  EXPECT_EQ(content(folder.path() + "/out.journal"), "another command\n");
  EXPECT_EQ(content(folder.path() + "/out.bin"), before);
  options.overwrite = true;
  EXPECT_TRUE(tokenize_corpus(tokenizer, options).begun_anew);
  EXPECT_FALSE(fs::exists(folder.path() + "/out.journal"));
}

TEST(Journal, CountsWholeLinesOnly) {
  const test::Folder folder;
  const std::string prefix = folder.path() + "/out", file = prefix + ".journal";
  CorpusProgress progress;
  progress.input = 1;
  progress.decoded = 12;
  progress.counts.tokens = 34;
  progress.inputs = {{5, std::string(64, 'a')}};
  progress.of_inputs = {CorpusCounts{.documents = 2, .tokens = 9}};
  {
    Journal journal(prefix, "header");
    EXPECT_FALSE(journal.found());
    journal.begin();
    journal.commit(progress);
    progress.decoded = 13;
    journal.commit(progress);
  }
  const std::string whole = content(file);
  const std::size_t second = whole.find('\n', whole.find('\n') + 1) + 1;
  for (const auto& [text, decoded] : {std::pair{whole, 13},
                                      {whole.substr(0, whole.size() - 1), 12},
                                      {whole.substr(0, second), 12},
                                      {whole.substr(0, second) + "{\"input\": 1}\n", 12},
                                      {whole.substr(0, second - 1), -1},
                                      {std::string("header\n"), -1},
                                      {std::string("head"), -1},
                                      {std::string(), -1}}) {
    folder.write("out.journal", text);
    Journal journal(prefix, "header");
    EXPECT_EQ(journal.found(), decoded >= 0) << text;
    EXPECT_FALSE(journal.is_another()) << text;
    if (!journal.found()) continue;
    EXPECT_EQ(journal.progress().decoded, decoded) << text;
    EXPECT_EQ(journal.progress().counts, progress.counts);
    EXPECT_EQ(journal.progress().of_inputs, progress.of_inputs);
    // Going on from there, the next reader finds what was committed then.
    journal.begin();
    progress.decoded = 99;
    journal.commit(progress);
    folder.write("copy.journal", content(file));
    EXPECT_EQ(Journal(folder.path() + "/copy", "header").progress().decoded, 99) << text;
  }
  EXPECT_TRUE(Journal(folder.path() + "/copy", "other").is_another());
}

TEST(Tokenize, NamesBadInput) {
  const test::Folder folder;
  const ByteTokenizer tokenizer;
  const std::string gz = test::gzip(std::string(100000, 'x') + "abc");
  const struct {
    const char* name;
    std::string bytes, part;
  } cases[] = {
      {"bad.jsonl", "{\"text\": \"a\"}\n{\"text\": 5}\n", "bad.jsonl:2:"},
      {"cut.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b", "cut.jsonl:3:"},
      {"utf.jsonl", "{\"text\": \"a\xff\"}\n", "utf.jsonl:1:"},
      {"cut.txt.gz", gz.substr(0, gz.size() - 20), "cut.txt.gz: byte"},
      {"flipped.txt.gz", gz.substr(0, gz.size() - 6) + "\x01" + gz.substr(gz.size() - 5), "flipped.txt.gz: byte"},
      {"empty.txt.gz", "", "empty.txt.gz: byte 0: an empty file"},
      {"no.txt.zst", "plain", "no.txt.zst"},
      {"x.txt",
       std::string("\xfd"
                   "7zXZ") +
           "abc",
       "xz data"},
      {"empty.txt", "", "no token at all"},
      {"empty.jsonl", "\n\n", "no token at all"},
  };
  for (const auto& c : cases) {
    TokenizeOptions options;
    options.inputs = {folder.write(c.name, c.bytes)};
    options.prefix = folder.path() + "/out-" + c.name;
    const std::string message = test::message_of(ExitStatus::input, [&] { tokenize_corpus(tokenizer, options); });
    EXPECT_NE(message.find(c.part), std::string::npos) << c.name << ": " << message;
    EXPECT_FALSE(fs::exists(options.prefix.string() + ".bin")) << c.name;
  }
  TokenizeOptions options;
  options.prefix = folder.path() + "/out";
  options.inputs = {folder.path() + "/absent"};
  test::message_of(ExitStatus::input, [&] { tokenize_corpus(tokenizer, options); });
  options.inputs = {folder.write("good.txt", "good")};
  options.prefix = "/proc/nowhere/out";
  test::message_of(ExitStatus::environment, [&] { tokenize_corpus(tokenizer, options); });
}

TEST(TrainTokenizer, ThreadsChangeNothing) {
  const test::Folder folder;
  const Corpus corpus(folder);
  TrainTokenizerOptions options;
  options.inputs = corpus.inputs;
  options.learn.vocab_size = 500;
  const TrainedTokenizer one = train_tokenizer(options);
  options.threads = 3;
  options.block_bytes = 500;
  EXPECT_EQ(train_tokenizer(options).json, one.json);
  const BpeTokenizer tokenizer(read_tokenizer_json(one.json, "trained"), "", "key");
  EXPECT_EQ(tokenizer.vocab_size(), 500);
  options.learn.vocab_size = 256;
  test::message_of(ExitStatus::usage, [&] { train_tokenizer(options); });
}

}  // namespace
}  // namespace fourmi
