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

#include "framework/data/indexed.h"
#include "framework/digest/sha256.h"
#include "framework/tokenizer/bytes.h"
#include "tests/corpus/corpus.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using test::content;
using test::Corpus;

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
      } catch (const std::exception& e) {
        std::cerr << "round " << round << ": " << e.what() << std::endl;
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
    if (!fs::exists(folder.path() + "/killed.journal")) {
      if (fs::exists(folder.path() + "/killed.bin")) break;  // killed after its last act
      continue;
    }
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

/// Ids beyond what two bytes hold.
class WideTokenizer final : public Tokenizer {
 public:
  std::string name() const override { return "wide"; }
  std::unique_ptr<Encoder> make_encoder() const override { return std::make_unique<Wide>(); }
  std::string decode(std::span<const std::int32_t>) const override { return ""; }
  std::int32_t end_of_document() const override { return 100'000; }
  std::int64_t vocab_size() const override { return 100'001; }

 private:
  struct Wide final : Encoder {
    void append(std::string_view text, std::vector<std::int32_t>& out) override {
      for (const char c : text) out.push_back(70'000 + c);
    }
  };
};

TEST(Tokenize, ALargeVocabularyTakesFourBytes) {
  const test::Folder folder;
  TokenizeOptions options;
  options.inputs = {folder.write("a.txt", "abc"), folder.write("b.txt", "d")};
  options.prefix = folder.path() + "/out";
  tokenize_corpus(WideTokenizer(), options);
  const IndexedTokens tokens(options.prefix);
  EXPECT_EQ(tokens.type(), TokenType::i32);
  std::vector<std::int32_t> ids(6);
  ASSERT_EQ(tokens.num_tokens(), 6);
  tokens.read(0, ids);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{70'097, 70'098, 70'099, 100'000, 70'100, 100'000}));
  EXPECT_EQ(tokens.document_begin(1), 4);
}

TEST(Tokenize, LinesAreLongerThanBlocksAndPiecesOfTheDisk) {
  const test::Folder folder;
  const ByteTokenizer tokenizer;
  TokenizeOptions options;
  std::string lines;
  std::vector<std::int64_t> lengths;
  for (const std::int64_t size : {2'600'000, 3, 1'048'576, 5, 1'300'000}) {
    lines += R"({"text": ")" + std::string(static_cast<std::size_t>(size), static_cast<char>('a' + lengths.size())) +
             "\"}\n";
    lengths.push_back(size + 1);
  }
  options.inputs = {folder.write("a.jsonl", lines)};
  options.prefix = folder.path() + "/out";
  options.block_bytes = 1000;
  tokenize_corpus(tokenizer, options);
  const IndexedTokens tokens(options.prefix);
  ASSERT_EQ(tokens.num_documents(), std::ssize(lengths));
  for (std::int64_t d = 0; d < std::ssize(lengths); ++d)
    EXPECT_EQ(tokens.document_begin(d + 1) - tokens.document_begin(d), lengths[static_cast<std::size_t>(d)]) << d;
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

TEST(Tokenize, NamesAreTakenAgainWhereItEndedBetweenThem) {
  const test::Folder folder;
  const ByteTokenizer tokenizer;
  TokenizeOptions options;
  options.inputs = {folder.write("a.txt", "text")};
  options.prefix = folder.path() + "/whole";
  tokenize_corpus(tokenizer, options);
  options.prefix = folder.path() + "/out";
  // Older files of these names: the old .idx is gone before the new .bin has its name, so no two that differ are a
  // pair.
  folder.write("out.idx", "old");
  fs::create_directories(folder.path() + "/out.json/in the way");
  options.overwrite = true;
  test::message_of(ExitStatus::environment, [&] { tokenize_corpus(tokenizer, options); });
  EXPECT_EQ(content(folder.path() + "/out.bin"), content(folder.path() + "/whole.bin"));
  EXPECT_FALSE(fs::exists(folder.path() + "/out.idx"));
  fs::remove_all(folder.path() + "/out.json");
  EXPECT_TRUE(tokenize_corpus(tokenizer, options).resumed);
  for (const char* ending : {".bin", ".idx", ".json"})
    EXPECT_EQ(content(folder.path() + "/out" + ending), content(folder.path() + "/whole" + ending)) << ending;
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

}  // namespace
}  // namespace fourmi
