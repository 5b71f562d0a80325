// Sources before they are trained on: digests by reading, by side files, from the cache, and against what the recipe
// says.
#include "framework/ledger/dataset.h"

#include "tests/ledger/support.h"

namespace fourmi {
namespace {

using testing::Folder;
using testing::write_file;

DataSource source(const std::string& format, const std::filesystem::path& path) {
  DataSource s;
  s.name = "web";
  s.format = format;
  s.path = path.string();
  return s;
}

Error error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e;
  }
  return Error(ExitStatus::ok, "", "no error");
}

/// Token files with the side file that tells of them.
void write_tokens(const Folder& folder, const std::string& license) {
  write_file(folder / "t.bin", "tokens");
  write_file(folder / "t.idx", "index");
  write_file(
      folder / "t.json",
      fmt::format(
          R"({{"license":"{}","source":"a shop","bin":{{"bytes":6,"sha256":"{}"}},"idx":{{"bytes":5,"sha256":"{}"}}}})",
          license, sha256("tokens"), sha256("index")));
}

TEST(LedgerDatasets, TextsAreReadOnceAndTheCacheNoticesChanges) {
  const Folder folder;
  write_file(folder / "a.txt", "first");
  write_file(folder / "b.txt", "second");
  const SourceFiles files{source("text", folder / "*.txt"), {folder / "a.txt", folder / "b.txt"}};
  DigestCache cache;
  const DatasetFact fact = describe_source(files, cache);
  EXPECT_EQ(fact.sha256, sha256(sha256("first") + "\n" + sha256("second") + "\n"));
  EXPECT_EQ(fact.bytes(), 11);
  EXPECT_EQ(fact.digest_from, "reading");
  EXPECT_TRUE(cache.changed());
  DigestCache again(cache.text());
  EXPECT_EQ(describe_source(files, again).sha256, fact.sha256);
  EXPECT_FALSE(again.changed());  // nothing was read
  write_file(folder / "b.txt", "SECOND!");
  EXPECT_NE(describe_source(files, again).sha256, fact.sha256);
  EXPECT_TRUE(again.changed());
  // A cache that lies about another file's digest is used only for the very file: size and time of change.
  for (const char* text : {"", "[]", "{\"/a\":3}", "not json"}) EXPECT_FALSE(DigestCache(text).changed());
}

TEST(LedgerDatasets, SideFilesGiveTermsAndDigests) {
  const Folder folder;
  write_tokens(folder, "MIT");
  SourceFiles files{source("bin", folder / "t.bin"), {folder / "t.bin"}};
  DigestCache cache;
  const DatasetFact fact = describe_source(files, cache);
  EXPECT_EQ(fact.license, "MIT");
  EXPECT_EQ(fact.source, "a shop");
  EXPECT_EQ(fact.digest_from, "tokenize");
  ASSERT_EQ(fact.files.size(), 2u);
  EXPECT_EQ(fact.files[1].sha256, sha256("index"));
  EXPECT_FALSE(cache.changed());
  EXPECT_TRUE(terms_of(files).has_digest);
  files.recipe.license = "Apache-2.0";
  EXPECT_EQ(error_of([&] { terms_of(files); }).status(), ExitStatus::usage);
  files.recipe.license = "MIT";
  EXPECT_EQ(terms_of(files).license, "MIT");
  write_file(folder / "t.bin", "tokens and more");  // no longer what the side file tells of
  EXPECT_EQ(error_of([&] { describe_source(files, cache); }).status(), ExitStatus::input);
  for (const char* text : {"", "[]", "{}", R"({"bin":{"bytes":1}})", R"({"bin":{"bytes":-1,"sha256":"x"},"idx":{}})"}) {
    write_file(folder / "t.json", text);
    EXPECT_EQ(error_of([&] { terms_of(files); }).status(), ExitStatus::input) << text;
  }
  std::filesystem::remove(folder / "t.json");
  EXPECT_EQ(describe_source(files, cache).digest_from, "reading");
  EXPECT_FALSE(terms_of(files).has_digest);
}

TEST(LedgerDatasets, ThePinnedDigestMustFit) {
  const Folder folder;
  write_file(folder / "a.txt", "text");
  SourceFiles files{source("text", folder / "a.txt"), {folder / "a.txt"}};
  DigestCache cache;
  files.recipe.sha256 = sha256("text");
  EXPECT_EQ(describe_source(files, cache).digest_from, "recipe");
  EXPECT_TRUE(terms_of(files).has_digest);
  files.recipe.sha256 = sha256("other");
  const Error e = error_of([&] { describe_source(files, cache); });
  EXPECT_EQ(e.status(), ExitStatus::input);
  EXPECT_NE(e.cause().find(sha256("text")), std::string::npos);
  EXPECT_EQ(error_of([&] { cache.digest(folder / "absent"); }).status(), ExitStatus::input);
  EXPECT_EQ(error_of([&] { cache.digest(folder / ""); }).status(), ExitStatus::input);  // a folder
}

TEST(LedgerDatasets, MadeUpDataHaveNoFiles) {
  DigestCache cache;
  const DatasetFact fact = describe_source({source("synthetic", ""), {}}, cache);
  EXPECT_TRUE(fact.files.empty());
  EXPECT_EQ(fact.sha256, "");
  EXPECT_TRUE(terms_of({source("synthetic", ""), {}}).made_up);
}

}  // namespace
}  // namespace fourmi
