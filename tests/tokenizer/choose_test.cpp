// The tokenizer that a recipe names, pinned by its digest, and the copy that a run keeps.
#include "framework/tokenizer/choose.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "framework/digest/file_digest.h"
#include "tests/data/files.h"
#include "tests/tokenizer/goldens.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

class Pin : public ::testing::Test {
 protected:
  Pin() {
    data_.tokenizer = folder_.write("tok/tokenizer.json", test::golden("gpt2.json"));
    fs::create_directory(run_);
  }
  DataSection pinned() const {
    DataSection data = data_;
    pin_tokenizer(data, run_);
    return data;
  }
  /// Another tokenizer.json at the recipe's path.
  void change() const { folder_.write("tok/tokenizer.json", test::golden("cl100k.json")); }

  test::Folder folder_;
  fs::path run_ = fs::path(folder_.path()) / "run";
  DataSection data_;
};

TEST_F(Pin, MakesDefiniteWhatTheRecipeLeavesOpen) {
  const DataSection data = pinned();
  EXPECT_EQ(data.tokenizer, data_.tokenizer);  // it is compared between launches
  EXPECT_EQ(data.tokenizer_sha256, digest_file(data_.tokenizer).sha256);
  EXPECT_EQ(data.end_of_document, "<|endoftext|>");
  // A folder is its tokenizer.json.
  data_.tokenizer = folder_.path() + "/tok";
  EXPECT_EQ(pinned().tokenizer_sha256, data.tokenizer_sha256);
  // Bytes have nothing to pin, and nothing to keep.
  DataSection bytes;
  pin_tokenizer(bytes, run_);
  keep_tokenizer(bytes, run_);
  EXPECT_TRUE(bytes.tokenizer_sha256.empty());
  EXPECT_TRUE(fs::is_empty(run_));
}

TEST_F(Pin, ADigestThatTheFileDoesNotHaveIsRefused) {
  data_.tokenizer_sha256 = std::string(64, '0');
  const std::string message = test::message_of(ExitStatus::input, [&] { pinned(); });
  EXPECT_NE(message.find("data.tokenizer_sha256: " + data_.tokenizer), std::string::npos) << message;
  data_.tokenizer_sha256 = digest_file(data_.tokenizer).sha256;
  EXPECT_EQ(pinned().tokenizer_sha256, data_.tokenizer_sha256);
}

TEST_F(Pin, TheRunsCopyServesWhereThePathLeadsNowhere) {
  const DataSection data = pinned();
  const std::int64_t vocab_size = make_tokenizer(data, 1000)->vocab_size();
  keep_tokenizer(data, run_);
  EXPECT_EQ(digest_file(run_ / "tokenizer.json").sha256, data.tokenizer_sha256);
  for (const auto& entry : fs::directory_iterator(run_)) EXPECT_EQ(entry.path().filename(), "tokenizer.json");
  fs::remove_all(fs::path(folder_.path()) / "tok");
  const DataSection again = pinned();
  EXPECT_EQ(again.tokenizer_sha256, data.tokenizer_sha256);
  EXPECT_EQ(make_tokenizer(again, 1000)->vocab_size(), vocab_size);
  // Without the copy it is absent.
  fs::remove(run_ / "tokenizer.json");
  const std::string message = test::message_of(ExitStatus::input, [&] { pinned(); });
  EXPECT_NE(message.find("data.tokenizer: " + data_.tokenizer + " does not exist"), std::string::npos) << message;
}

TEST_F(Pin, WhereThePathLeadsToAnotherFileTheDigestDecides) {
  const DataSection before = pinned();
  const std::string text = "modi thaki modi.";
  const std::vector<std::int32_t> ids = make_tokenizer(before, 1000)->encode(text);
  keep_tokenizer(before, run_);
  change();
  // A file that is pinned and changes before it is read is not taken for what it was.
  const std::string changed = test::message_of(ExitStatus::input, [&] { make_tokenizer(before, 1000); });
  EXPECT_NE(changed.find("it was changed"), std::string::npos) << changed;
  // A launch with the recipe as it was written sees the new file, which the run then refuses by its key.
  EXPECT_EQ(pinned().tokenizer_sha256, digest_file(data_.tokenizer).sha256);
  EXPECT_NE(pinned().tokenizer_sha256, before.tokenizer_sha256);
  // Who knows the digest (the resolved recipe, every checkpoint) reads the run's copy.
  data_.tokenizer_sha256 = before.tokenizer_sha256;
  const DataSection reader = pinned();
  EXPECT_EQ(make_tokenizer(reader, 1000)->encode(text), ids);
  EXPECT_EQ(fs::path(reader.tokenizer_file), run_ / "tokenizer.json");
}

TEST_F(Pin, ACopyThatIsDamagedIsReplaced) {
  const DataSection data = pinned();
  folder_.write("run/tokenizer.json", "half a fi");
  keep_tokenizer(data, run_);
  EXPECT_EQ(digest_file(run_ / "tokenizer.json").sha256, data.tokenizer_sha256);
  // A file that changes between the two is found.
  fs::remove(run_ / "tokenizer.json");
  change();
  test::message_of(ExitStatus::input, [&] { keep_tokenizer(data, run_); });
  EXPECT_FALSE(fs::exists(run_ / "tokenizer.json"));
}

TEST_F(Pin, NamesWhatIsNoTokenizer) {
  const struct {
    std::string name, part;
  } cases[] = {{folder_.write("empty.json", ""), "empty.json: an empty"},
               {folder_.write("text.json", "not json"), "text.json"},
               {folder_.write("cut.json", test::golden("gpt2.json").substr(0, 5000)), "cut.json"},
               {folder_.path(), "tokenizer.json does not exist"},
               {"/dev/zero", "/dev/zero: found no regular file"},
               {folder_.path() + "/nowhere", "nowhere does not exist"}};
  for (const auto& c : cases) {
    data_.tokenizer = c.name;
    const std::string message = test::message_of(ExitStatus::input, [&] { pinned(); });
    EXPECT_NE(message.find(c.part), std::string::npos) << message;
  }
  data_.tokenizer = folder_.write("good.json", test::golden("gpt2.json"));
  data_.end_of_document = "<|none|>";
  const std::string message = test::message_of(ExitStatus::usage, [&] { pinned(); });
  EXPECT_NE(message.find("data.end_of_document: '<|none|>'"), std::string::npos) << message;
}

}  // namespace
}  // namespace fourmi
