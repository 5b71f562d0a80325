// A GGUF file becomes a run directory: the reader's values, to the bit, and the small files of a folder.
#include <gtest/gtest.h>

#include <thread>

#include "framework/checkpoint/reader.h"
#include "framework/digest/file_digest.h"
#include "framework/interop/export.h"
#include "framework/interop/gguf/model.h"
#include "framework/interop/import.h"
#include "framework/interop/import_plan.h"
#include "tests/interop/folders.h"

namespace fourmi::interop {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

fs::path file(const std::string& name) {
  return fs::path(FOURMI_SOURCE_DIR) / "tests/interop/gguf" / (name + ".gguf");
}

ImportReport import_alone(const fs::path& from, const fs::path& to) {
  const auto group = make_self_group("import");
  return import_model(*group, from, to, {.file_bytes = 40000});
}

class GgufImport : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, GgufImport, testing::Values("bytes", "characters"),
                         [](const auto& p) { return std::string(p.param); });

TEST_P(GgufImport, MastersAreTheReadersValues) {
  Folder f;
  const ImportReport in = import_alone(file(GetParam()), f.path / "run");
  EXPECT_EQ(in.kind, ForeignKind::gguf);
  EXPECT_EQ(in.dtype, std::string(GetParam()) == "bytes" ? "q4_1" : "q8_0");
  EXPECT_GT(in.files, 2);
  const GgufModel model(file(GetParam()));
  const CheckpointReader reader(f.path / "run");
  std::size_t masters = 0;
  for (const TensorEntry& t : reader.manifest().tensors) {
    const std::string prefix = "/optimizer/master/";
    ASSERT_TRUE(t.name.starts_with(prefix)) << t.name;
    const LlamaTensor* stored = model.find(t.name.substr(prefix.size()));
    ASSERT_NE(stored, nullptr) << t.name;
    std::vector<float> expected(static_cast<std::size_t>(t.shape.num_elements())), found(expected);
    model.read_rows(*stored, 0, stored->rows(), expected);
    reader.read(t.name, Tensor(found.data(), DType::f32, t.shape));
    EXPECT_TRUE(expected == found) << t.name;
    ++masters;
  }
  EXPECT_EQ(masters, model.tensors().size());
  const std::int64_t most_padding = 32 * static_cast<std::int64_t>(masters);
  EXPECT_LE(in.bytes_read, in.stored_bytes);
  EXPECT_GE(in.bytes_read, in.stored_bytes - most_padding);
}

/// Pieces of a file need not begin where a row or a block does.
TEST_P(GgufImport, AnyElementsAreThoseOfTheRows) {
  const GgufModel model(file(GetParam()));
  for (const LlamaTensor& t : model.tensors()) {
    const std::int64_t n = t.rows() * t.columns();
    std::vector<float> all(static_cast<std::size_t>(n));
    model.read_rows(t, 0, t.rows(), all);
    for (const auto& [first, count] :
         {std::pair<std::int64_t, std::int64_t>{0, n}, {1, n - 1}, {n / 3 + 5, n / 2}, {n - 1, 1}, {n, 0}}) {
      std::vector<float> some(static_cast<std::size_t>(count));
      model.read_elements(t, first, some);
      EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + first)) << t.name << " from " << first;
    }
  }
}

TEST_P(GgufImport, AnyNumberOfRanksMakesTheSame) {
  Folder f;
  const ImportReport alone = import_alone(file(GetParam()), f.path / "alone");
  auto groups = make_thread_groups("import", 2);
  ImportReport shared;
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; ++r)
    threads.emplace_back([&, r] {
      const ImportReport mine = import_model(*groups[static_cast<std::size_t>(r)], file(GetParam()), f.path / "shared",
                                             {.file_bytes = 40000});
      if (r == 0) shared = mine;
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(shared.root, alone.root);
  EXPECT_EQ(shared.files_kept, 0);
}

TEST_P(GgufImport, AnExportIsAFolderWithAllItsFiles) {
  Folder f;
  import_alone(file(GetParam()), f.path / "run");
  const auto group = make_self_group("export");
  const ExportReport out = export_model(*group, f.path / "run", f.path / "out");
  EXPECT_EQ(out.dtype, "bf16");
  ASSERT_EQ(out.warnings.size(), 1u);
  EXPECT_NE(out.warnings[0].find("bf16 rounds its weights"), std::string::npos);
  const GgufModel model(file(GetParam()));
  auto config = json::parse(content(f.path / "out/config.json")), expected = json::parse(model.config_json());
  config.erase("dtype"), config.erase("torch_dtype");
  EXPECT_EQ(config, expected);
  EXPECT_EQ(content(f.path / "out/tokenizer.json"), model.tokenizer_json());
  const auto tokenizer = json::parse(content(f.path / "out/tokenizer_config.json"));
  const auto& tokens = model.header().get<std::vector<std::string>>("tokenizer.ggml.tokens");
  const auto end = model.header().get<std::int64_t>("tokenizer.ggml.eos_token_id");
  EXPECT_EQ(tokenizer["eos_token"], tokens[static_cast<std::size_t>(end)]);
  EXPECT_EQ(json::parse(content(f.path / "out/generation_config.json"))["eos_token_id"], end);
  EXPECT_EQ(tokenizer.value("chat_template", ""), model.chat_template());
  EXPECT_EQ(fs::exists(f.path / "out/chat_template.jinja"), !model.chat_template().empty());
  const std::string ledger = content(f.path / "run/ledger.jsonl");
  EXPECT_NE(ledger.find(digest_file(file(GetParam())).sha256), std::string::npos) << ledger;
}

TEST(ForeignKinds, AreKnownByWhatIsThere) {
  Folder f;
  EXPECT_EQ(foreign_kind(file("bytes")), ForeignKind::gguf);
  EXPECT_EQ(foreign_kind(golden_folder() / "llama"), ForeignKind::hugging_face);
  EXPECT_EQ(foreign_kind(f.path), std::nullopt);
  f.write("x.gguf", "GGML");
  EXPECT_EQ(foreign_kind(f.path / "x.gguf"), std::nullopt);
  for (const char* name : {"x.gguf", "", "nowhere"}) try {
      ForeignModel model(f.path / name);
      ADD_FAILURE() << name;
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::input);
      EXPECT_NE(std::string(e.what()).find("safetensors"), std::string::npos) << e.what();
    }
}

}  // namespace
}  // namespace fourmi::interop
