// A cache on the disk: what is written comes back, and what is damaged, missing or of something else is named.
#include "framework/capture/cache.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

namespace fourmi {
namespace {

namespace fs = std::filesystem;

class Cache : public testing::Test {
 protected:
  Cache() {
    std::string name = (fs::temp_directory_path() / "fourmi-cache-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    manifest_.header.format = {.kind = CacheFormat::Kind::top_k, .entries = 3, .vocab_size = 500};
    manifest_.header.teacher.root = std::string(64, 'a');
    manifest_.header.sequence_length = 8;
    manifest_.header.sources = {{"one", 100, 7, 21}, {"two", 50, 8, 8}};
    manifest_.parts.push_back(write_cache_part(folder_, manifest_.header.format, 0, 0, windows({16, 0}, {5, 8})));
    manifest_.parts.push_back(write_cache_part(folder_, manifest_.header.format, 1, 0, windows({0}, {8})));
    write_cache_manifest(folder_, manifest_);
  }
  ~Cache() override { fs::remove_all(folder_); }

  static std::uint32_t entry(std::int64_t token, std::int64_t k) {
    return static_cast<std::uint32_t>(1000 * token + k);
  }
  static CachedWindows windows(const std::vector<std::int64_t>& first, const std::vector<std::int32_t>& rows) {
    CachedWindows w{first, rows, {}, {}};
    for (std::size_t i = 0; i < first.size(); ++i)
      for (std::int64_t row = 0; row < rows[i]; ++row) {
        for (std::int64_t k = 0; k < 3; ++k) w.entries.push_back(entry(first[i] + row, k));
        w.rest.push_back(static_cast<float>(first[i] + row));
      }
    return w;
  }
  std::string refusal(const std::function<void()>& work) {
    try {
      work();
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::input) << e.what();
      return e.what();
    }
    return "nothing was refused";
  }
  /// Changes one byte.
  static void flip(const fs::path& path, std::int64_t at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const int byte = file.get();
    file.seekp(at);
    file.put(static_cast<char>(byte ^ 0x10));
  }

  fs::path folder_;
  CacheManifest manifest_;
};

TEST_F(Cache, GivesBackWhatWasWritten) {
  const CacheReader cache(folder_);
  EXPECT_EQ(cache.manifest().root(), manifest_.root());
  EXPECT_EQ(cache.manifest().rows(), 21);
  EXPECT_EQ(cache.windows_of(0), (std::vector<std::int64_t>{0, 16}));
  EXPECT_TRUE(cache.has(1, 0));
  EXPECT_FALSE(cache.has(0, 8));
  std::vector<std::uint32_t> entries(15);
  std::vector<float> rest(5);
  cache.read(0, 16, entries, rest);
  for (std::int64_t row = 0; row < 5; ++row) {
    EXPECT_EQ(rest[static_cast<std::size_t>(row)], static_cast<float>(16 + row));
    for (std::int64_t k = 0; k < 3; ++k) EXPECT_EQ(entries[static_cast<std::size_t>(3 * row + k)], entry(16 + row, k));
  }
}

TEST_F(Cache, SaysWhatIsMissing) {
  const CacheReader cache(folder_);
  std::vector<std::uint32_t> entries(24);
  std::vector<float> rest(8);
  EXPECT_NE(refusal([&] { cache.read(0, 8, entries, rest); }).find("window at token 8 of the source `one`"),
            std::string::npos);
  EXPECT_NE(refusal([&] { cache.read(0, 16, entries, rest); }).find("found 5 rows"), std::string::npos);
  fs::remove(folder_ / "part-001-000000.h5");
  EXPECT_NE(refusal([&] { CacheReader again(folder_); }).find("part-001-000000.h5"), std::string::npos);
  fs::remove(folder_ / "capture.json");
  EXPECT_NE(refusal([&] { CacheReader again(folder_); }).find("no capture.json"), std::string::npos);
}

/// Every byte of a part that a student reads, and every byte of the manifest.
TEST_F(Cache, EveryChangedByteIsFound) {
  const CachePart& part = manifest_.parts[0];
  const std::int64_t sizes[] = {13 * 12, 13 * 4, 16, 8, 8};
  std::vector<std::uint32_t> entries(24);
  std::vector<float> rest(8);
  const auto read_all = [&] {
    const CacheReader cache(folder_);
    cache.read(0, 0, entries, rest);
    cache.read(0, 16, std::span(entries).first(15), std::span(rest).first(5));
  };
  for (std::size_t i = 0; i < 5; ++i)
    for (std::int64_t at = part.offsets[i]; at < part.offsets[i] + sizes[i]; ++at) {
      flip(folder_ / part.file, at);
      EXPECT_NE(refusal(read_all).find(part.file), std::string::npos) << at;
      flip(folder_ / part.file, at);
    }
  read_all();
  const auto bytes = static_cast<std::int64_t>(fs::file_size(folder_ / "capture.json"));
  for (std::int64_t at = 0; at + 1 < bytes; ++at) {  // the last is a line feed
    std::ifstream in(folder_ / "capture.json");
    std::ostringstream text;
    text << in.rdbuf();
    flip(folder_ / "capture.json", at);
    const char before = text.str()[static_cast<std::size_t>(at)];
    // White space between members says nothing.
    if (before != ' ' && before != '\n') {
      EXPECT_NE(refusal([&] { CacheReader cache(folder_); }).find("capture.json"), std::string::npos)
          << at << " `" << before << "`";
    }
    flip(folder_ / "capture.json", at);
  }
}

/// Bytes that no student reads too.
TEST_F(Cache, IsProvenWhole) {
  prove_cache(folder_, manifest_.root());
  EXPECT_NE(refusal([&] { prove_cache(folder_, std::string(64, '0')); }).find(manifest_.root()), std::string::npos);
  const std::string& file = manifest_.parts[1].file;
  for (std::int64_t at = 0; at < manifest_.parts[1].bytes; at += 97) {
    flip(folder_ / file, at);
    EXPECT_NE(refusal([&] { prove_cache(folder_, manifest_.root()); }).find(file), std::string::npos) << at;
    flip(folder_ / file, at);
  }
  prove_cache(folder_, manifest_.root());
}

TEST_F(Cache, HeaderIsHeldAgainstTheRecipes) {
  const CaptureHeader& made = manifest_.header;
  const auto refused = [&](const std::function<void(CaptureHeader&)>& change, const std::string& root = {}) {
    CaptureHeader wanted = made;
    change(wanted);
    return refusal([&] { refuse_other(made, wanted, root, "distill.cache"); });
  };
  refuse_other(made, made, made.teacher.root, "distill.cache");
  const auto says = [](const std::string& text, std::initializer_list<const char*> words) {
    for (const char* word : words) EXPECT_NE(text.find(word), std::string::npos) << text;
  };
  says(refused([](CaptureHeader& h) { h.temperature = 2; }), {"distill.temperature 1,", "expected 2"});
  says(refused([](CaptureHeader& h) { h.format.entries = 64; }), {"3 (top-k)", "64 (top-k)"});
  says(refused([](CaptureHeader& h) { h.format.kind = CacheFormat::Kind::sampled; }), {"3 (top-k)", "3 (sampled)"});
  says(refused([](CaptureHeader& h) { h.tokenizer_sha256 = "feed"; }), {"data.tokenizer bytes", "feed"});
  says(refused([](CaptureHeader& h) { h.chat_template_sha256 = "cafe"; }), {"data.chat_template none", "cafe"});
  says(refused([](CaptureHeader& h) { h.sequence_length = 16; }), {"data.sequence_length 8", "16"});
  says(refused([](CaptureHeader& h) { h.packing = false; }), {"data.packing true", "false"});
  says(refused([](CaptureHeader& h) { h.cross_document_attention = true; }), {"data.cross_document_attention"});
  says(refused([](CaptureHeader& h) { h.sources[0].checksum = 9; }),
       {"source `one` 100 bytes, CRC-32 00000007", "00000009"});
  says(refused([](CaptureHeader& h) { h.sources[0].name = "three", h.sources[0].bytes = 3; }),
       {"source `three` nothing"});
  says(refused([](CaptureHeader&) {}, std::string(64, 'b')), {"distill.teacher.from aaaa", "expected bbbb"});
  // What may differ: order, names, fewer sources, padding of the vocabulary.
  CaptureHeader other = made;
  std::swap(other.sources[0], other.sources[1]);
  other.sources[0].name = "second", other.format.vocab_size = 512, other.seed = 9;
  refuse_other(made, other, "", "distill.cache");
  EXPECT_EQ(match_sources(made, other, "distill.cache"), (std::vector<std::size_t>{1, 0}));
}

TEST_F(Cache, HeaderComesBackFromItsText) {
  CaptureHeader h = manifest_.header;
  h.teacher.name = "Professor \"T\"", h.teacher.allows = {"distill"}, h.temperature = 0.7, h.holdout = 0.015625;
  h.tokenizer_sha256 = std::string(64, '1'), h.seed = 0xffffffffffffffffu;
  const CaptureHeader back = capture_header_from_json(to_json(h), "here");
  EXPECT_EQ(to_json(back), to_json(h));
  EXPECT_EQ(back.seed, h.seed);
  for (const char* bad : {"", "{}", "[]", R"({"kind":"top-k"})", "nothing"})
    EXPECT_NE(refusal([&] { capture_header_from_json(bad, "here"); }).find("here"), std::string::npos);
}

}  // namespace
}  // namespace fourmi
