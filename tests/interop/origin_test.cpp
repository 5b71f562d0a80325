// What model.from supplies of each kind of model: what `fourmi import` writes for it.
#include "framework/interop/origin.h"

#include <gtest/gtest.h>

#include "framework/interop/import.h"
#include "framework/recipe/read.h"
#include "framework/recipe/write.h"
#include "framework/tokenizer/choose.h"
#include "tests/interop/folders.h"

namespace fourmi::interop {
namespace {

namespace fs = std::filesystem;

const fs::path tests = fs::path(FOURMI_SOURCE_DIR) / "tests";

void import_alone(const fs::path& from, const fs::path& to) {
  const auto group = make_self_group("import");
  import_model(*group, from, to);
}

class FromModel : public testing::Test {
 protected:
  Recipe load(const fs::path& from, const std::vector<std::string>& overrides = {}) const {
    folder.write("recipe.yaml", fmt::format("run: {{name: tune, steps: 1, directory: {}}}\nmodel: {{from: {}}}\n"
                                            "data: {{tokenizer: model, sequence_length: 16, global_batch_size: 1, "
                                            "train: [{{name: made, format: synthetic}}]}}\n",
                                            (folder.path / "tune").string(), from.string()));
    return load_recipe(folder.path / "recipe.yaml", overrides, 0, origins());
  }
  /// Of the model itself as of the run that its import makes.
  void expect_as_imported(const fs::path& from) const {
    const fs::path run = folder.path / "imported";
    fs::remove_all(run);
    import_alone(from, run);
    const Recipe imported = load_recipe(run / "recipe.yaml");
    for (const fs::path& model : {from, run, run / "checkpoints/step-00000000", run / "checkpoints"}) {
      SCOPED_TRACE(model);
      Recipe r = load(model);
      EXPECT_EQ(r.model.from, model.string());
      EXPECT_TRUE(model == from || r.data.tokenizer == run / "tokenizer.json") << r.data.tokenizer;
      const VocabularyFiles files(r.data, r.run.directory);
      pin_tokenizer(r.data, r.run.directory);
      EXPECT_EQ(r.data.tokenizer_sha256, imported.data.tokenizer_sha256);
      EXPECT_EQ(r.data.end_of_document, imported.data.end_of_document);
      EXPECT_EQ(r.data.begin_of_text, imported.data.begin_of_text);
      r.model.from = imported.model.from, r.model.config = imported.model.config;
      EXPECT_TRUE(r.model == imported.model);
    }
  }
  std::string refused(const fs::path& from, const std::vector<std::string>& overrides = {}) const {
    try {
      load(from, overrides);
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::input) << e.what();
      return e.what();
    }
    return "valid";
  }
  fs::path hugging_face(const std::string& golden, const std::string& tokenizer) const {
    const fs::path to = folder.path / "hf";
    fs::remove_all(to);
    fs::copy(tests / "golden" / golden, to);
    if (!tokenizer.empty()) fs::copy_file(tests / "tokenizer/goldens" / (tokenizer + ".json"), to / "tokenizer.json");
    return to;
  }

  Folder folder;
};

TEST_F(FromModel, SuppliesWhatAnImportWrites) {
  expect_as_imported(hugging_face("qwen2", "qwen2"));
  expect_as_imported(hugging_face("deepseek-v3-mtp", "llama"));
  for (const char* name : {"bytes", "characters"})
    expect_as_imported(tests / "interop/gguf" / (std::string(name) + ".gguf"));
}

TEST_F(FromModel, NeedsNoWeightsOfAFolder) {
  const fs::path hf = hugging_face("qwen2", "qwen2");
  fs::remove(hf / "model.safetensors");
  EXPECT_EQ(load(hf).model.model_type, "qwen2");
  EXPECT_EQ(load(hf).data.tokenizer, (hf / "tokenizer.json").string());
}

TEST_F(FromModel, SaysWhatIsNotThere) {
  const fs::path bare = hugging_face("llama", "");
  EXPECT_NE(refused(bare).find("hf/tokenizer.json: found no such file"), std::string::npos) << refused(bare);
  EXPECT_EQ(load(bare, {"data.tokenizer=bytes"}).model.model_type, "llama");
  const fs::path nothing = folder.path / "nothing";
  fs::create_directories(nothing);
  EXPECT_NE(refused(nothing).find("model.from: found " + nothing.string() + ", which is no model"), std::string::npos)
      << refused(nothing);
  folder.write("some.gguf", "GGUF and no more");
  EXPECT_NE(refused(folder.path / "some.gguf").find("some.gguf"), std::string::npos);
  // An import that took no tokenizer over says bytes; whoever asks for the model's own is told.
  const fs::path run = folder.path / "run";
  import_alone(bare, run);
  EXPECT_EQ(load(run).data.tokenizer, "bytes");
  fs::copy_file(tests / "tokenizer/goldens/qwen2.json", run / "huggingface/tokenizer.json");
  EXPECT_NE(refused(run).find("did not take over"), std::string::npos) << refused(run);
}

TEST_F(FromModel, AVocabularyInsideAFileIsWrittenForThoseWhoNeedIt) {
  const fs::path gguf = tests / "interop/gguf/bytes.gguf", run = folder.path / "tune";
  Recipe r = load(gguf);
  EXPECT_EQ(r.data.tokenizer, gguf.string());
  fs::path made;
  {
    DataSection data = r.data;
    const VocabularyFiles files(data, run);
    made = data.tokenizer_file;
    EXPECT_TRUE(fs::exists(made));
    pin_tokenizer(data, run);
    fs::create_directories(run);
    keep_tokenizer(data, run);
    r.data.tokenizer_sha256 = data.tokenizer_sha256;
  }
  EXPECT_FALSE(fs::exists(made));
  folder.write("tune/recipe.yaml", "");
  const VocabularyFiles files(r.data, run);  // the run has its copy
  EXPECT_EQ(r.data.tokenizer_file, "");
  pin_tokenizer(r.data, run);
  EXPECT_EQ(r.data.tokenizer_file, (run / "tokenizer.json").string());
  // Without both it is no tokenizer.json.
  r.data.tokenizer_file.clear();
  try {
    pin_tokenizer(r.data, {});
    ADD_FAILURE() << "a GGUF file was read as a tokenizer.json";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("bytes.gguf is a GGUF file"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace fourmi::interop
