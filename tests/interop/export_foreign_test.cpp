// Another program's model exported at once: the bytes that import and export give, no room taken that is not there, and
// nothing left beside the folder.
#include "framework/interop/export_foreign.h"

#include <gtest/gtest.h>

#include <thread>

#include "framework/digest/file_digest.h"
#include "framework/interop/import.h"
#include "tests/interop/folders.h"

namespace fourmi::interop {
namespace {

namespace fs = std::filesystem;

fs::path gguf() {
  return fs::path(FOURMI_SOURCE_DIR) / "tests/interop/gguf/bytes.gguf";
}
ExportReport at_once(const fs::path& from, const fs::path& to, const ExportOptions& options = {},
                     const FreeBytes& free = free_bytes) {
  const auto group = make_self_group("export");
  return export_foreign(*group, from, to, options, free);
}
ExportReport in_two_steps(const fs::path& from, const fs::path& run, const fs::path& to,
                          const ExportOptions& options = {}) {
  const auto group = make_self_group("export");
  import_model(*group, from, run);
  return export_model(*group, run, to, options);
}
std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}
/// All but the files that name places.
void expect_same(const fs::path& found, const fs::path& expected) {
  EXPECT_EQ(names_in(found), names_in(expected));
  for (const std::string& name : names_in(expected)) {
    if (name == "recipe.yaml" || name == "README.md" || name == "fourmi.json" || name == "fourmi_ledger.jsonl")
      continue;
    EXPECT_TRUE(content(found / name) == content(expected / name)) << name;
  }
}

TEST(ExportForeign, AGgufFileBecomesAFolder) {
  Folder f;
  const ExportReport out = at_once(gguf(), f.path / "out/");
  EXPECT_EQ(names_in(f.path), (std::set<std::string>{"out"}));
  in_two_steps(gguf(), f.path / "run", f.path / "two");
  expect_same(f.path / "out", f.path / "two");
  EXPECT_EQ(out.dtype, "bf16");
  EXPECT_EQ(out.checkpoint, gguf());
  EXPECT_LE(out.bytes_read, out.stored_bytes);
  EXPECT_GT(out.bytes_read, out.stored_bytes / 2);
  ASSERT_FALSE(out.warnings.empty());
  EXPECT_NE(out.warnings.back().find("bf16 rounds its weights"), std::string::npos);
  const std::string card = content(f.path / "out/README.md"), recipe = content(f.path / "out/recipe.yaml");
  for (const std::string& part :
       {std::string("# out\n"), std::string("base_model: \"bytes.gguf\""), digest_file(gguf()).sha256})
    EXPECT_NE(card.find(part), std::string::npos) << part << " in " << card;
  EXPECT_NE(recipe.find("tokenizer: " + (f.path / "out/tokenizer.json").string()), std::string::npos) << recipe;
  EXPECT_EQ(recipe.find("tmp-import"), std::string::npos) << recipe;
}

TEST(ExportForeign, AFolderInAnotherTypeOnAnyNumberOfRanks) {
  Folder f;
  make_model(
      golden_folder() / "deepseek-v3", f.path / "in", false, [](nlohmann::json&) {}, 3);
  f.write("in/README.md", "---\nlicense: apache-2.0\n---\n# A model\n");
  const ExportOptions options{.type = ExportType::fp8_block, .file_bytes = 8000};
  auto groups = make_thread_groups("export", 2);
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; ++r)
    threads.emplace_back(
        [&, r] { export_foreign(*groups[static_cast<std::size_t>(r)], f.path / "in", f.path / "out", options); });
  for (std::thread& t : threads) t.join();
  in_two_steps(f.path / "in", f.path / "run", f.path / "two", options);
  EXPECT_TRUE(fs::exists(f.path / "out/model.safetensors.index.json"));
  expect_same(f.path / "out", f.path / "two");
  EXPECT_NE(content(f.path / "out/README.md").find("| in | apache-2.0 | bf16 | not recorded |"), std::string::npos);
  // And back: scales that came with weights are kept.
  at_once(f.path / "out", f.path / "back");
  EXPECT_EQ(tensors_of(f.path / "back"), tensors_of(f.path / "out"));
  EXPECT_EQ(names_in(f.path), (std::set<std::string>{"in", "run", "two", "out", "back"}));
}

TEST(ExportForeign, WhatCannotBeIsRefusedBeforeAnythingIsWritten) {
  Folder f;
  make_model(golden_folder() / "llama", f.path / "in", false);
  const std::int64_t bf16 =
      export_bytes(model_recipe(f.path / "in/config.json", {.name = "in"}).model, ExportType::bf16);
  const auto refusal = [&](std::int64_t free) -> std::string {
    try {
      at_once(f.path / "in", f.path / "far/out", {}, [free](const fs::path&) { return free; });
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::environment);
      return e.what();
    }
    return "made";
  };
  const std::string why = refusal(3 * bf16 - 1);  // masters have twice as many
  EXPECT_NE(why.find(fmt::format("expected {} for the weights in FP32", 2 * bf16)), std::string::npos) << why;
  EXPECT_EQ(names_in(f.path), (std::set<std::string>{"in"}));
  EXPECT_EQ(refusal(3 * bf16), "made");
  try {
    at_once(f.path / "in", f.path / "far/out");
    ADD_FAILURE() << "over what was there";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::usage) << e.what();
  }
  EXPECT_EQ(names_in(f.path / "far"), (std::set<std::string>{"out"}));
}

/// Renames fail from the n-th on: as after a kill, what is whole stays.
class NoRename : public Disk {
 public:
  explicit NoRename(int after) : left_(after) {}
  int rename(const char* from, const char* to) override {
    if (left_-- > 0) return Disk::rename(from, to);
    errno = EIO;
    return -1;
  }

 private:
  int left_;
};

TEST(ExportForeign, GoesOnWhereItWasEndedAndBeginsAnewForAnotherModel) {
  Folder f;
  for (const char* name : {"llama", "qwen2"}) make_model(golden_folder() / name, f.path / name, false);
  int ends = 0;
  for (int renames = 0; renames < 20; ++renames) {
    fs::remove_all(f.path / "out.tmp-import");
    NoRename disk(renames);
    try {
      at_once(f.path / "llama", f.path / "out", {.disk = &disk});
      break;
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::environment) << e.what();
    }
    ++ends;
    EXPECT_FALSE(fs::exists(f.path / "out"));
    EXPECT_TRUE(fs::exists(f.path / "out.tmp-import"));
  }
  EXPECT_GE(ends, 4);  // the note of a file, recipe, checkpoint, the folder itself

  // The last end was that of the export: the import was whole, and its origin is not read again.
  fs::remove_all(f.path / "out");
  for (const bool again : {false, true}) {
    NoRename disk(ends - 1);
    EXPECT_THROW(at_once(f.path / "llama", f.path / "out", {.disk = &disk}), Error);
    const auto nothing = [](const fs::path&) { return std::int64_t{0}; };
    EXPECT_THROW(at_once(f.path / (again ? "llama" : "qwen2"), f.path / "out", {}, nothing), Error);
    const ExportReport out = at_once(f.path / (again ? "llama" : "qwen2"), f.path / "out");
    EXPECT_EQ(out.bytes_read == 0, again);
    EXPECT_EQ(tensors_of(f.path / "out"), tensors_of(f.path / (again ? "llama" : "qwen2")));
    fs::remove_all(f.path / "out");
    EXPECT_EQ(names_in(f.path), (std::set<std::string>{"llama", "qwen2"}));
  }
}

TEST(ExportForeign, OfADamagedModelNothingStays) {
  Folder f;
  make_model(golden_folder() / "llama", f.path / "in", true);
  const StoredModel model(f.path / "in");
  const WeightSource::Entry* weight = model.find("model.layers.0.mlp.down_proj.weight");
  ASSERT_NE(weight, nullptr);
  std::string file = content(f.path / "in/model.safetensors");
  const std::size_t data = file.size() - static_cast<std::size_t>(weight->tensor.bytes());
  std::uint64_t header = 0;
  std::memcpy(&header, file.data(), 8);
  ASSERT_LT(8 + header, data);
  file[8 + header + static_cast<std::size_t>(weight->tensor.begin)] = 0x7f;  // no number
  f.write("in/model.safetensors", file);
  try {
    at_once(f.path / "in", f.path / "out");
    ADD_FAILURE() << "taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::input);
    EXPECT_NE(std::string(e.what()).find("down_proj"), std::string::npos) << e.what();
  }
  EXPECT_EQ(names_in(f.path), (std::set<std::string>{"in"}));
}

}  // namespace
}  // namespace fourmi::interop
