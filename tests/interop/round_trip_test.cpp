// A model of other libraries in and out again: the same bytes; and what does not fit is named.
#include <gtest/gtest.h>

#include <thread>

#include "framework/checkpoint/reader.h"
#include "framework/interop/export.h"
#include "framework/interop/import.h"
#include "framework/ledger/trace.h"
#include "tests/interop/folders.h"

namespace fourmi::interop {
namespace {

namespace fs = std::filesystem;

ImportReport import_alone(const fs::path& from, const fs::path& to, const ImportOptions& options = {}) {
  const auto group = make_self_group("import");
  return import_model(*group, from, to, options);
}
ExportReport export_alone(const fs::path& model, const fs::path& to, const ExportOptions& options = {}) {
  const auto group = make_self_group("export");
  return export_model(*group, model, to, options);
}
std::string refusal(const fs::path& from, const fs::path& to, ExitStatus status = ExitStatus::input) {
  try {
    import_alone(from, to);
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), status) << e.what();
    return e.what();
  }
  return "taken";
}

class RoundTrip : public testing::TestWithParam<const char*> {
 protected:
  fs::path golden() const { return golden_folder() / GetParam(); }
};
constexpr const char* families[] = {"llama",   "llama-tied",  "qwen2",       "qwen3",          "qwen3-moe",
                                    "mixtral", "deepseek-v2", "deepseek-v3", "deepseek-v3-mtp"};
INSTANTIATE_TEST_SUITE_P(Families, RoundTrip, testing::ValuesIn(families), [](const auto& i) {
  std::string name = i.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

/// The file that transformers wrote, header and all.
TEST_P(RoundTrip, Fp32GivesTheFileBackThatTransformersWrote) {
  Folder f;
  const ImportReport in = import_alone(golden(), f.path / "run");
  EXPECT_EQ(in.dtype, "fp32");
  EXPECT_EQ(in.bytes_read, in.stored_bytes);
  const ExportReport out = export_alone(f.path / "run", f.path / "out");
  EXPECT_GE(out.stored_bytes, 4 * in.parameters);
  EXPECT_EQ(out.bytes_read, out.stored_bytes);
  EXPECT_TRUE(content(f.path / "out/model.safetensors") == content(golden() / "model.safetensors"));
  const auto ours = nlohmann::json::parse(content(f.path / "out/config.json"));
  EXPECT_EQ(ours, nlohmann::json::parse(content(golden() / "config.json")));
}

TEST_P(RoundTrip, Bf16IsByteEqual) {
  Folder f;
  make_model(
      golden(), f.path / "in", false, [](auto&) {}, 3);
  EXPECT_EQ(import_alone(f.path / "in", f.path / "run").dtype, "bf16");
  const ExportReport out = export_alone(f.path / "run", f.path / "out", {.type = {}, .file_bytes = 8192});
  EXPECT_GT(out.files, 2);
  EXPECT_EQ(tensors_of(f.path / "in"), tensors_of(f.path / "out"));
  for (const fs::directory_entry& e : fs::directory_iterator(f.path / "out"))
    if (e.path().extension() == ".safetensors") {
      EXPECT_LE(e.file_size(), 8192u + 8192u);
    }
}

/// A configuration made from the recipe alone says the same architecture.
TEST_P(RoundTrip, ConfigWithoutTheOriginalSaysTheSame) {
  Folder f;
  import_alone(golden(), f.path / "run");
  fs::remove_all(f.path / "run/huggingface");
  export_alone(f.path / "run", f.path / "out");
  ModelSection theirs = model_recipe(golden() / "config.json", {.name = "a"}).model,
               ours = model_recipe(f.path / "out/config.json", {.name = "a"}).model;
  theirs.config.clear(), ours.config.clear();
  EXPECT_TRUE(theirs == ours) << content(f.path / "out/config.json");
  EXPECT_EQ(nlohmann::json::parse(content(f.path / "out/config.json"))["architectures"],
            nlohmann::json::parse(content(golden() / "config.json"))["architectures"]);
}

/// DeepSeek-V3 as it is released: MTP with second copies, FP8 blocks, scales of its own.
void make_deepseek(const fs::path& to) {
  make_model(golden_folder() / "deepseek-v3", to, true, [](nlohmann::json& c) {
    c["num_nextn_predict_layers"] = 1;
    c["intermediate_size"] = 150;  // more than a block, and no multiple
    c["hidden_size"] = 136;
  });
}

TEST(Fp8, ImportedScalesComeOutAgain) {
  Folder f;
  make_deepseek(f.path / "in");
  const ImportReport in = import_alone(f.path / "in", f.path / "run");
  EXPECT_EQ(in.dtype, "fp8-block");
  EXPECT_EQ(in.bytes_read, in.stored_bytes);
  const ExportReport out = export_alone(f.path / "run", f.path / "out");
  EXPECT_EQ(out.dtype, "fp8-block");
  EXPECT_EQ(out.bytes_read, out.stored_bytes);
  const auto before = tensors_of(f.path / "in"), after = tensors_of(f.path / "out");
  EXPECT_EQ(before, after);
  EXPECT_TRUE(before.contains("model.layers.2.shared_head.head.weight"));
  EXPECT_TRUE(before.contains("model.layers.0.mlp.down_proj.weight_scale_inv"));
  EXPECT_EQ(nlohmann::json::parse(content(f.path / "out/config.json")),
            nlohmann::json::parse(content(f.path / "in/config.json")));
}

TEST(Fp8, AnElementIsItsValueTimesItsBlocksScale) {
  Folder f;
  make_deepseek(f.path / "in");
  import_alone(f.path / "in", f.path / "run");
  const StoredModel stored(f.path / "in");
  const CheckpointReader reader(f.path / "run");
  const std::string name = "model.layers.0.mlp.down_proj.weight";  // [136, 150]
  const std::vector<float> elements = all_of(stored, *stored.find(name)),
                           scales = all_of(stored, *stored.find(name + "_scale_inv"));
  ASSERT_EQ(scales.size(), 4u);
  std::vector<float> master(elements.size());
  reader.read("/optimizer/master/" + name, Tensor(master.data(), DType::f32, {136, 150}));
  for (std::size_t r = 0; r < 136; ++r)
    for (std::size_t c = 0; c < 150; ++c)
      ASSERT_EQ(master[r * 150 + c], elements[r * 150 + c] * scales[r / 128 * 2 + c / 128]) << r << " " << c;
}

/// Of weights that never were in FP8: half a step of the format at most, relative to the block's largest.
TEST(Fp8, DerivedScalesKeepEachElementClose) {
  Folder f;
  make_model(golden_folder() / "deepseek-v3", f.path / "in", false);
  import_alone(f.path / "in", f.path / "run");
  export_alone(f.path / "run", f.path / "out", {.type = ExportType::fp8_block});
  import_alone(f.path / "out", f.path / "again");
  const CheckpointReader a(f.path / "run"), b(f.path / "again");
  int quantised = 0;
  for (const TensorEntry& t : a.manifest().tensors) {
    std::vector<float> x(static_cast<std::size_t>(t.shape.num_elements())), y(x);
    a.read(t.name, Tensor(x.data(), DType::f32, t.shape));
    b.read(t.name, Tensor(y.data(), DType::f32, t.shape));
    float most = 0, worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      most = std::max(most, std::abs(x[i]));
      worst = std::max(worst, std::abs(x[i] - y[i]) - std::abs(x[i]) / 16);
    }
    EXPECT_LE(worst, most / 448 / 1024 + 1e-7f) << t.name;
    quantised += x != y;
  }
  EXPECT_GT(quantised, 20);
  for (const char* plain : {"model.embed_tokens.weight", "lm_head.weight", "model.layers.1.mlp.gate.weight"})
    EXPECT_FALSE(tensors_of(f.path / "out").contains(std::string(plain) + "_scale_inv")) << plain;
}

TEST(Import, NamesEveryTensorThatDoesNotFit) {
  Folder f;
  make_model(golden_folder() / "llama", f.path / "in", false);
  auto config = nlohmann::json::parse(content(f.path / "in/config.json"));
  std::vector<MadeTensor> all{
      made("model.embed_tokens.weight", StoredType::bf16, {64, 24}), made("model.norm.weight", StoredType::bf16, {23}),
      made("lm_head.weight", StoredType::f8_e4m3, {64, 24}), made("model.layers.7.extra", StoredType::bf16, {1}),
      made("model.layers.0.self_attn.rotary_emb.inv_freq", StoredType::f32, {4})};
  std::ofstream(f.path / "in/model.safetensors", std::ios::binary) << file_of(all);
  const std::string said = refusal(f.path / "in", f.path / "run");
  for (const char* part : {"model.norm.weight is [23], not [24]", "1 not expected: model.layers.7.extra",
                           "lm_head.weight_scale_inv", "27 missing", "model.layers.1.self_attn.k_proj.bias"})
    EXPECT_NE(said.find(part), std::string::npos) << part << " in " << said;
  EXPECT_EQ(said.find("inv_freq"), std::string::npos);
  EXPECT_FALSE(fs::exists(f.path / "run/checkpoints"));
}

TEST(Import, RefusesOtherQuantisationAndCopiesThatDiffer) {
  Folder f;
  make_model(golden_folder() / "llama", f.path / "in", false, [](nlohmann::json& c) {
    c["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}};
  });
  EXPECT_NE(refusal(f.path / "in", f.path / "run").find("gptq"), std::string::npos);

  make_model(golden_folder() / "llama-tied", f.path / "tied", false);
  std::vector<MadeTensor> all;
  const ParameterTable table(model_recipe(f.path / "tied/config.json", {.name = "a"}).model);
  for (const Parameter& p : table.all()) all.push_back(made(p.name, StoredType::bf16, p.shape));
  all.push_back(made("lm_head.weight", StoredType::bf16, table.find("model.embed_tokens.weight").shape));
  std::ofstream(f.path / "tied/model.safetensors", std::ios::binary) << file_of(all);
  EXPECT_NE(refusal(f.path / "tied", f.path / "run2").find("lm_head.weight` differs"), std::string::npos);
  all.back().bytes = all.front().bytes;  // now it is the embedding once more
  ASSERT_EQ(all.front().stored.name, "model.embed_tokens.weight");
  std::ofstream(f.path / "tied/model.safetensors", std::ios::binary) << file_of(all);
  EXPECT_EQ(refusal(f.path / "tied", f.path / "run3"), "taken");
}

TEST(Import, TakesTheCacheOfAnotherLibrary) {
  Folder f;
  make_model(
      golden_folder() / "llama", f.path / "blobs", false, [](auto&) {}, 2);
  fs::create_directories(f.path / "snapshot");
  for (const fs::directory_entry& e : fs::directory_iterator(f.path / "blobs"))
    fs::create_symlink("../blobs" / e.path().filename(), f.path / "snapshot" / e.path().filename());
  EXPECT_EQ(refusal(f.path / "snapshot", f.path / "run"), "taken");
  EXPECT_FALSE(fs::is_symlink(f.path / "run/huggingface/config.json"));
  fs::remove(f.path / "blobs/part-1.safetensors");  // a download that was ended
  EXPECT_NE(refusal(f.path / "snapshot", f.path / "run2").find("part-1.safetensors"), std::string::npos);
}

TEST(Import, RefusesAConfigOfBracketsWithoutEnd) {
  Folder f;
  const std::string brackets = std::string(1 << 21, '[') + std::string(1 << 21, ']');
  f.write("config.json", R"({"model_type":"llama","quantization_config":)" + brackets + "}");
  f.write("model.safetensors", file_of({made("model.norm.weight", StoredType::bf16, {1})}));
  EXPECT_NE(refusal(f.path, f.path / "run").find("more than 500 arrays and objects"), std::string::npos);
}

TEST(Import, ScalesAndProductsMustBeNumbers) {
  for (const auto& [bytes, expected] : {std::pair{std::string("\0\0\0\0", 4), "scale 0"},
                                        {std::string("\0\0\x80\x7f", 4), "scale inf"},
                                        {std::string("\1\0\0\0", 4), "gives it back"}}) {
    Folder f;
    make_deepseek(f.path / "in");
    std::string file = content(f.path / "in/model.safetensors");
    const StoredModel stored(f.path / "in");
    const StoredModel::Entry& e = *stored.find("model.layers.0.mlp.up_proj.weight_scale_inv");
    file.replace(static_cast<std::size_t>(stored.files()[0].data_begin + e.tensor.begin), 4, bytes);
    f.write("in/model.safetensors", file);
    const std::string said = refusal(f.path / "in", f.path / "run");
    EXPECT_NE(said.find(expected), std::string::npos) << said;
    EXPECT_NE(said.find("model.layers.0.mlp.up_proj.weight"), std::string::npos) << said;
  }
}

/// Writes fail from the n-th on.
class FullDisk : public Disk {
 public:
  explicit FullDisk(int writes) : left_(writes) {}
  ssize_t pwrite(int file, const void* data, std::size_t bytes, off_t offset) override {
    if (left_-- > 0) return Disk::pwrite(file, data, bytes, offset);
    errno = ENOSPC;
    return -1;
  }

 private:
  int left_;
};

TEST(Import, GoesOnWhereItWasEnded) {
  Folder f;
  ImportOptions options{.file_bytes = 20000};
  const fs::path from = golden_folder() / "qwen3-moe";
  const ImportReport whole = import_alone(from, f.path / "whole", options);
  ASSERT_GT(whole.files, 4);
  FullDisk disk(7);
  ImportOptions failing = options;
  failing.disk = &disk;
  EXPECT_THROW(import_alone(from, f.path / "run", failing), Error);
  EXPECT_FALSE(fs::exists(f.path / "run/checkpoints/step-00000000"));
  const ImportReport second = import_alone(from, f.path / "run", options);
  EXPECT_GT(second.files_kept, 0);
  EXPECT_LT(second.files_kept, second.files);
  EXPECT_LT(second.bytes_read, second.stored_bytes);
  EXPECT_EQ(second.root, whole.root);
  const ImportReport third = import_alone(from, f.path / "run", options);
  EXPECT_TRUE(third.was_there);
  EXPECT_EQ(third.root, whole.root);
  for (const fs::directory_entry& e : fs::directory_iterator(f.path / "run/checkpoints/step-00000000"))
    EXPECT_TRUE(e.path().extension() == ".h5" || e.path().filename() == "manifest.json") << e.path();
  EXPECT_NE(refusal(golden_folder() / "llama", f.path / "run", ExitStatus::usage).find("another model"),
            std::string::npos);
}

TEST(Import, RanksShareTheFiles) {
  Folder f;
  ImportOptions options{.file_bytes = 20000};
  const fs::path from = golden_folder() / "mixtral";
  const ImportReport alone = import_alone(from, f.path / "alone", options);
  auto groups = make_thread_groups("import", 3);
  ImportReport report;
  std::vector<std::thread> threads;
  for (int r = 0; r < 3; ++r)
    threads.emplace_back([&, r] {
      const ImportReport mine = import_model(*groups[static_cast<std::size_t>(r)], from, f.path / "shared", options);
      export_model(*groups[static_cast<std::size_t>(r)], f.path / "shared", f.path / "out",
                   {.type = {}, .file_bytes = 20000});
      if (r == 0) report = mine;
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(report.root, alone.root);
  EXPECT_GT(report.files, 3);
  EXPECT_EQ(tensors_of(from), tensors_of(f.path / "out"));
}

TEST(Import, TheLedgerSaysWhereTheWeightsAreFrom) {
  Folder f;
  make_model(golden_folder() / "llama", f.path / "in", false);
  f.write("in/README.md", "---\nlicense: apache-2.0\n---\n# A model\n");
  import_alone(f.path / "in", f.path / "run");
  const CheckpointReader reader(f.path / "run");
  const Trace t = trace(read_ledger(f.path / "run/ledger.jsonl"), reader.manifest().state.ledger_head, "ledger");
  EXPECT_EQ(t.checkpoint.root, reader.manifest().root);
  export_alone(f.path / "run", f.path / "out");
  const std::string card = content(f.path / "out/README.md");
  for (const char* part :
       {"license: \"apache-2.0\"", "base_model: \"in\"", "library_name: transformers", "| in | apache-2.0 | bf16 |",
        "Nothing since.", "stands under: apache-2.0.", reader.manifest().root.c_str()})
    EXPECT_NE(card.find(part), std::string::npos) << card;
  EXPECT_THROW(export_alone(f.path / "run", f.path / "out"), Error);  // it is there
}

}  // namespace
}  // namespace fourmi::interop
