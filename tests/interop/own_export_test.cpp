// A run's own exports: which folder is whose, what replaces what, and what a full disk or a kill leaves.
#include <gtest/gtest.h>

#include "framework/checkpoint/reader.h"
#include "framework/interop/bytes_tokenizer.h"
#include "framework/interop/export.h"
#include "framework/interop/export_mark.h"
#include "framework/interop/import.h"
#include "framework/tokenizer/bytes.h"
#include "framework/tokenizer/choose.h"
#include "tests/interop/folders.h"

namespace fourmi::interop {
namespace {

namespace fs = std::filesystem;

void import_to(const fs::path& run) {
  const auto group = make_self_group("import");
  import_model(*group, golden_folder() / "llama", run);
}
ExportReport export_to(const fs::path& run, const fs::path& to, ExportOptions options) {
  const auto group = make_self_group("export");
  return export_model(*group, run, to, options);
}

TEST(OwnExport, IsKnownByItsMark) {
  Folder f;
  import_to(f.path / "run");
  ExportMark mark{
      .run = run_identity(f.path / "run"), .root = CheckpointReader(f.path / "run").manifest().root, .dtype = "bf16"};
  EXPECT_EQ(look_for_export(f.path / "out", mark), Found::nothing);
  fs::create_directory(f.path / "out");
  EXPECT_EQ(look_for_export(f.path / "out", mark), Found::nothing);
  export_to(f.path / "run", f.path / "out", {.type = ExportType::bf16});
  EXPECT_EQ(look_for_export(f.path / "out", mark), Found::same);
  mark.root += "0";
  EXPECT_EQ(look_for_export(f.path / "out", mark), Found::earlier);
  mark.root.pop_back();
  mark.dtype = "fp32";
  EXPECT_EQ(look_for_export(f.path / "out", mark), Found::earlier);
  mark.run = run_identity(f.path / "another");
  EXPECT_EQ(look_for_export(f.path / "out", mark), Found::other);
  mark.run.clear();
  EXPECT_EQ(look_for_export(f.path / "out", mark), Found::other);
  EXPECT_EQ(look_for_export(f.path / "run", mark), Found::other);
  EXPECT_EQ(look_for_export(f.path / "run/recipe.yaml", mark), Found::other);
}

TEST(OwnExport, ReplacesItsOwnAndNothingElse) {
  Folder f;
  import_to(f.path / "run");
  import_to(f.path / "other");
  const ExportOptions own{.type = ExportType::fp32, .replace_own = true};
  export_to(f.path / "run", f.path / "out", {.type = ExportType::bf16});
  EXPECT_THROW(export_to(f.path / "run", f.path / "out", {.type = ExportType::fp32}), Error);
  EXPECT_THROW(export_to(f.path / "other", f.path / "out", own), Error);
  EXPECT_EQ(nlohmann::json::parse(content(f.path / "out/fourmi.json"))["dtype"], "bf16");
  export_to(f.path / "run", f.path / "out", own);
  EXPECT_EQ(nlohmann::json::parse(content(f.path / "out/fourmi.json"))["dtype"], "fp32");
  EXPECT_TRUE(content(f.path / "out/model.safetensors") == content(golden_folder() / "llama/model.safetensors"));
  for (const char* aside : {"out.tmp-export", "out.old-export"}) EXPECT_FALSE(fs::exists(f.path / aside)) << aside;
}

/// The n-th operation of a kind fails, as on a disk that is full or gone.
class FailingDisk : public Disk {
 public:
  FailingDisk(int writes, int renames) : writes_(writes), renames_(renames) {}
  ssize_t pwrite(int file, const void* data, std::size_t bytes, off_t offset) override {
    if (writes_-- > 0) return Disk::pwrite(file, data, bytes, offset);
    errno = ENOSPC;
    return -1;
  }
  int rename(const char* from, const char* to) override {
    if (renames_-- > 0) return Disk::rename(from, to);
    errno = EIO;
    return -1;
  }

 private:
  int writes_, renames_;
};

/// Wherever it ends, under the name lies the old export, none, or the new one; and the next try makes it.
TEST(OwnExport, NeverLeavesHalfAFolderUnderItsName) {
  Folder f;
  import_to(f.path / "run");
  int refused = 0;
  for (int writes = 0; writes < 8; ++writes)
    for (int renames = writes < 7 ? 9 : 0; renames < 10; ++renames) {
      for (const char* name : {"out", "out.tmp-export", "out.old-export"}) fs::remove_all(f.path / name);
      export_to(f.path / "run", f.path / "out", {.type = ExportType::bf16});
      FailingDisk disk(writes < 7 ? writes : 1000, renames);
      const ExportOptions failing{.type = ExportType::fp32, .disk = &disk, .replace_own = true};
      std::string dtype = "fp32";
      try {
        export_to(f.path / "run", f.path / "out", failing);
      } catch (const Error& e) {
        EXPECT_EQ(e.status(), ExitStatus::environment) << e.what();
        ++refused, dtype = "bf16";
      }
      if (fs::exists(f.path / "out")) {
        EXPECT_EQ(nlohmann::json::parse(content(f.path / "out/fourmi.json"))["dtype"], dtype);
        EXPECT_EQ(tensors_of(f.path / "out").size(), tensors_of(golden_folder() / "llama").size());
      }
      export_to(f.path / "run", f.path / "out", {.type = ExportType::fp32, .replace_own = true});
      EXPECT_EQ(nlohmann::json::parse(content(f.path / "out/fourmi.json"))["dtype"], "fp32");
    }
  EXPECT_GE(refused, 8);
}

TEST(BytesTokenizer, AsATokenizerJsonHasTheSameIds) {
  Folder f;
  f.write("tokenizer.json", bytes_tokenizer_json());
  const auto theirs = load_tokenizer(f.path.string(), "test", "", "key");
  const ByteTokenizer ours;
  EXPECT_EQ(theirs->vocab_size(), ours.vocab_size());
  EXPECT_EQ(theirs->end_of_document(), ours.end_of_document());
  std::string all;
  for (int byte = 0; byte < 128; ++byte) all += static_cast<char>(byte);
  for (const std::string& text : {all, std::string("Ameise, 蚂蚁, fourmi\r\n\t  ''s 123456 \xF0\x9F\x90\x9C")}) {
    EXPECT_EQ(theirs->encode(text), ours.encode(text));
    EXPECT_EQ(theirs->decode(ours.encode(text)), text);
  }
}

}  // namespace
}  // namespace fourmi::interop
