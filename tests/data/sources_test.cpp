// Formats: the same documents, whatever they lie in; and what is said of files that are none of these.
#include "framework/data/sources.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zstd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "framework/data/loader.h"
#include "framework/tokenizer/bytes.h"
#include "kernels/runtime/error.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using test::Folder;
using test::message_of;
using Ids = std::vector<std::int32_t>;
constexpr std::int32_t E = 256;

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

DataSource source_of(const std::string& path, const std::string& format) {
  DataSource source;
  source.name = "x";
  source.path = path;
  source.format = format;
  return source;
}

/// A source's training documents as a user would see them.
std::vector<std::string> documents_in(const DataSource& recipe, double share = 0, Side side = Side::train) {
  const LoadedSource source = load_sources({recipe}, "data.train").at(0);
  const ByteTokenizer tokenizer;
  const Documents documents = documents_of(source, side, share, tokenizer, 300, "data.train.x");
  std::vector<std::string> all;
  for (const TextPiece& piece : documents.pieces) {
    Ids ids(static_cast<std::size_t>(piece.end - piece.begin));
    documents.store->read(piece.begin, ids);
    all.push_back(tokenizer.decode(ids));
  }
  return all;
}
std::vector<std::string> documents_in(const std::string& path, const std::string& format) {
  return documents_in(source_of(path, format));
}

void write_tokens(const std::string& prefix, const std::vector<Ids>& documents, TokenType type = TokenType::u16) {
  IndexedWriter writer(prefix, type);
  for (const Ids& ids : documents) writer.add(ids);
  writer.finish();
}

TEST(Zstd, ReadsAllFramesAndNamesDamage) {
  const Folder folder;
  std::string text;
  for (std::uint32_t i = 0; i < 300'000; ++i) text.push_back(static_cast<char>('a' + i * i % 26));
  const std::string whole = zstd(text.substr(0, 200'000)) + zstd("") + zstd(text.substr(200'000));
  EXPECT_EQ(read_text(folder.write("a.txt.zst", whole), "p").bytes, text);
  EXPECT_EQ(read_text(folder.write("named-otherwise", whole), "p").bytes, text);
  for (const std::size_t cut : {std::size_t{5}, whole.size() / 2, whole.size() - 1}) {
    const std::string path = folder.write("cut.zst", whole.substr(0, cut));
    const std::string message = message_of(ExitStatus::input, [&] { read_text(path, "p"); });
    EXPECT_EQ(message.find(path + ": byte "), 0u) << message;
    EXPECT_NE(message.find("ends inside"), std::string::npos) << message;
  }
  std::string damaged = whole;
  damaged[20] = static_cast<char>(damaged[20] ^ 0x55);
  message_of(ExitStatus::input, [&] { read_text(folder.write("bad.zst", damaged), "p"); });
  message_of(ExitStatus::input, [&] { read_text(folder.write("trail.zst", whole + "xyz"), "p"); });
  message_of(ExitStatus::input, [&] { read_text(folder.write("none.zst", "plain"), "p"); });
  message_of(ExitStatus::input, [&] { read_text(folder.write("empty.zst", ""), "p"); });
}

TEST(JsonLines, EachLineIsADocument) {
  const Folder folder;
  const std::string lines =
      "{\"text\": \"one\", \"id\": [1, {\"text\": 2}]}\n"
      "\n"
      "  {\"id\": 2, \"text\": \"tw\\u00f6 \\ud83d\\ude00 \\\"q\\\"\\n\"}  \r\n"
      "{\"text\": \"\"}\n"
      "{\"text\": \"three\", \"other\": \"3\"}";
  const std::vector<std::string> expected{"one", "tw\xc3\xb6 \xf0\x9f\x98\x80 \"q\"\n", "three"};
  EXPECT_EQ(documents_in(folder.write("a.jsonl", lines), "jsonl"), expected);
  EXPECT_EQ(documents_in(folder.write("b.jsonl.gz", test::gzip(lines + "\n")), "jsonl"), expected);
  EXPECT_EQ(documents_in(folder.write("c.jsonl.zst", zstd(lines)), "jsonl"), expected);
  DataSource other = source_of(folder.write("d.jsonl", "{\"body\": \"x\", \"text\": 1}\n{\"body\": \"y\"}\n"), "jsonl");
  other.field = "body";
  EXPECT_EQ(documents_in(other), (std::vector<std::string>{"x", "y"}));
}

TEST(JsonLines, BadLinesAreNamedByFileLineAndColumn) {
  const Folder folder;
  const std::string good = "{\"text\": \"one\"}\n";
  struct Bad {
    const char* line;
    int column;
    const char* said;
  };
  for (const Bad& bad : std::vector<Bad>{
           {"{\"text\": \"two\"", 15, "whole JSON object"},
           {"{\"text\": two}", 11, "whole JSON object"},
           {"{\"text\": \"a\"} {\"text\": \"b\"}", 15, "whole JSON object"},
           {"not json", 2, "whole JSON object"},
           {"[\"text\"]", 1, "an object was expected"},
           {"\"text\"", 1, "an object was expected"},
           {"{\"texts\": \"a\"}", 1, "no field \"text\""},
           {"{\"text\": 1}", 1, "that is no text"},
           {"{\"text\": null}", 1, "that is no text"},
           {"{\"text\": \"a\", \"text\": \"b\"}", 1, "twice"},
           {"{\"text\": \"\xff\"}", 11, "no UTF-8 (at byte 26 of the decoded file)"},
           {"{\"text\": \"\xed\xa0\x80\"}", 11, "no UTF-8"},
           {"\xEF\xBB\xBF{\"text\": \"a\"}", 1, "byte order mark"},
       }) {
    const std::string path = folder.write("bad.jsonl", good + bad.line + "\n" + good);
    const std::string message = message_of(ExitStatus::input, [&] { documents_in(path, "jsonl"); });
    EXPECT_EQ(message.find(path + ":2:" + std::to_string(bad.column) + ": "), 0u) << message;
    EXPECT_NE(message.find(bad.said), std::string::npos) << message;
  }
  for (const char* nothing : {"", "\n\n", "{\"text\": \"\"}\n"})
    message_of(ExitStatus::input, [&] { documents_in(folder.write("none.jsonl", nothing), "jsonl"); });
}

TEST(Utf8, FlawsAreCountedAndTheFirstIsFound) {
  EXPECT_EQ(find_utf8_flaws("plain \xc3\xb6 \xe2\x82\xac \xf0\x9f\x98\x80").count, 0);
  for (const char* bad :
       {"abc\x80", "abc\xc0\x80", "abc\xe0\x80\x80", "abc\xed\xa0\x80", "abc\xf4\x90\x80\x80", "abc\xf0\x9f\x98"})
    EXPECT_EQ(find_utf8_flaws(bad).first, 3) << bad;
  EXPECT_EQ(find_utf8_flaws("a\xff\xc3\xb6\xfe").count, 2);
}

TEST(TokenFiles, EndOfDocumentIsNeverDoubled) {
  // Whoever writes a document's end, its beginning, both or neither: the loader's line of tokens is the same.
  const Folder folder;
  const std::vector<std::vector<Ids>> ways{
      {{'a', 'b'}, {'c'}, {'d', 'e', 'f'}},
      {{'a', 'b', E}, {'c', E}, {'d', 'e', 'f', E}},
      {{E, 'a', 'b'}, {E, 'c'}, {E, 'd', 'e', 'f'}},
      {{E, 'a', 'b', E}, {E}, {}, {E, 'c', E}, {E, E}, {'d', 'e', 'f', E}},
      {{'a', 'b', E, 'c', E, 'd', 'e', 'f'}},
  };
  for (const auto& documents : ways) {
    write_tokens(folder.path() + "/x", documents);
    EXPECT_EQ(documents_in(folder.path() + "/x.bin", "bin"), (std::vector<std::string>{"ab", "c", "def"}));
    DataSection data;
    data.sequence_length = 9;
    data.global_batch_size = 1;
    const Loader loader(data, load_sources({source_of(folder.path() + "/x", "bin")}, "data.train"), 1, 300);
    const Batch batch = loader.batch(loader.plan_step(loader.start()), 0, 1);
    EXPECT_EQ(batch.tokens, (Ids{E, 'a', 'b', E, 'c', E, 'd', 'e', 'f'}));
    EXPECT_EQ(batch.targets, (Ids{'a', 'b', E, 'c', E, 'd', 'e', 'f', E}));
  }
}

TEST(TokenFiles, SeveralFilesAreOneSource) {
  const Folder folder;
  write_tokens(folder.path() + "/b", {{'x'}, {'y', 'z'}}, TokenType::i32);
  write_tokens(folder.path() + "/a", {{'u', 'v'}}, TokenType::u16);
  for (const char* path : {"", "/*.bin", "/*"})
    EXPECT_EQ(documents_in(folder.path() + path, "bin"), (std::vector<std::string>{"uv", "x", "yz"})) << path;
  folder.write("note.txt", "x");
  message_of(ExitStatus::input, [&] { documents_in(folder.path(), "bin"); });
  message_of(ExitStatus::input, [&] { documents_in(folder.path() + "/none", "bin"); });
  fs::remove(folder.path() + "/b.idx");
  EXPECT_NE(message_of(ExitStatus::input, [&] { documents_in(folder.path() + "/*.bin", "bin"); }).find("/b.idx"),
            std::string::npos);
}

TEST(TokenFiles, IdsBeyondTheVocabularyAreNamed) {
  const Folder folder;
  write_tokens(folder.path() + "/x", {{'a', 'b'}, {'c', 'd', 300, 'e'}});
  const std::string message = message_of(ExitStatus::input, [&] { documents_in(folder.path() + "/x.bin", "bin"); });
  EXPECT_EQ(
      message.find(folder.path() + "/x.bin: token id 300 at offset 2 of document 1 (byte 8), an id from 0 to 299"), 0u)
      << message;
}

TEST(TokenFiles, AChangeInMidRunIsAnErrorOfTheStep) {
  const Folder folder;
  const std::string bin = folder.path() + "/x.bin";
  write_tokens(folder.path() + "/x", {Ids(1000, 'a'), Ids(1000, 'b')});
  DataSection data;
  data.sequence_length = 16;
  data.global_batch_size = 4;
  const auto make = [&] { return Loader(data, load_sources({source_of(bin, "bin")}, "data.train"), 1, 300); };
  {
    const Loader loader = make();
    const StepPlan step = loader.plan_step(loader.start());
    EXPECT_NO_THROW(loader.batch(step, 0, 4));
    fs::resize_file(bin, 10);
    EXPECT_NE(message_of(ExitStatus::input, [&] { loader.batch(step, 0, 4); }).find(bin), std::string::npos);
  }
  write_tokens(folder.path() + "/x", {Ids(1000, 'a'), Ids(1000, 'b')});
  const Loader loader = make();
  const Position position = loader.plan_step(loader.start()).next;
  {
    std::fstream out(bin, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(100);
    out.put('z');
  }
  fs::last_write_time(bin, fs::file_time_type::clock::now() + std::chrono::seconds(3));
  message_of(ExitStatus::input, [&] { loader.batch(loader.plan_step(position), 0, 4); });
  // And a resumed run notices it before its first step.
  message_of(ExitStatus::input, [&] { make().resume(position, false); });
}

TEST(Sources, WholeDocumentsAreHeldOut) {
  const Folder folder;
  std::string lines;
  std::vector<Ids> tokens;
  std::vector<std::string> held, kept;
  for (int d = 0; d < 20; ++d) {
    const std::string text = "doc" + std::to_string(d);
    lines += "{\"text\": \"" + text + "\"}\n";
    tokens.emplace_back(text.begin(), text.end());
    (d % 5 == 2 ? held : kept).push_back(text);
  }
  write_tokens(folder.path() + "/x", tokens);
  for (const DataSource& source :
       {source_of(folder.write("x.jsonl", lines), "jsonl"), source_of(folder.path() + "/x.bin", "bin")}) {
    EXPECT_EQ(documents_in(source, 0.2, Side::held_out), held);
    EXPECT_EQ(documents_in(source, 0.2, Side::train), kept);
    message_of(ExitStatus::input, [&] { documents_in(source, 0.01); });
  }
}

TEST(Sources, EveryInputIsOpenedFirst) {
  const Folder folder;
  DataSection data;
  data.train = {source_of(folder.write("a.txt", "x"), "text"), source_of(folder.write("b.jsonl", "not json"), "jsonl")};
  EXPECT_NO_THROW(open_inputs(data));  // nothing is read yet
  const auto refused = [&](const std::string& path, const std::string& format, const std::string& named) {
    DataSection bad = data;
    bad.validation = {source_of(path, format)};
    const std::string message = message_of(ExitStatus::input, [&] { open_inputs(bad); });
    EXPECT_NE(message.find(named), std::string::npos) << message;
  };
  const std::string fifo = folder.path() + "/fifo", loop = folder.path() + "/loop";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  fs::create_symlink(loop, loop);
  refused(fifo, "text", "fifo: a FIFO");
  refused(loop, "text", "loop");
  refused(folder.path(), "text", "neither a file nor a folder");  // it holds these
  refused(folder.path() + "/none", "jsonl", "/none does not exist");
  refused(folder.path() + "/none", "bin", "/none does not exist");
  folder.write("y.bin", "");
  refused(folder.path() + "/y.bin", "bin", "y.idx");
  folder.write("y.idx", "MMIDIDX");
  refused(folder.path() + "/y.bin", "bin", "y.idx: byte 7");
  fs::create_directory(folder.path() + "/sub");
  fs::create_directory(folder.path() + "/target");
  fs::create_directory_symlink(folder.path() + "/target", folder.path() + "/sub/link");
  refused(folder.path() + "/sub", "text", "a link to a folder");
}

}  // namespace
}  // namespace fourmi
