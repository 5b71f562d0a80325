// GGUF files against what PyPI's gguf, tokenizers and sentencepiece make of them (tests/interop/gguf), and files that
// lie.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "framework/digest/sha256.h"
#include "framework/interop/gguf/model.h"
#include "framework/interop/gguf/vocabulary.h"
#include "framework/interop/model_recipe.h"
#include "framework/tokenizer/bpe.h"
#include "tests/data/files.h"

namespace fourmi::interop {
namespace {

namespace fs = std::filesystem;

fs::path file(const std::string& name) {
  return fs::path(FOURMI_SOURCE_DIR) / "tests/interop/gguf" / name;
}

std::string contents(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  EXPECT_TRUE(in) << path;
  return text.str();
}

class Memory final : public ByteSource {
 public:
  explicit Memory(std::string bytes) : bytes_(std::move(bytes)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(bytes_.size()); }
  void read(std::int64_t offset, std::span<std::byte> out) const override {
    ASSERT_LE(static_cast<std::size_t>(offset) + out.size(), bytes_.size());
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
  }

 private:
  std::string bytes_;
};

class Gguf : public testing::TestWithParam<const char*> {
 protected:
  GgufModel model{file(std::string(GetParam()) + ".gguf")};
  nlohmann::json golden = nlohmann::json::parse(contents(file(std::string(GetParam()) + ".json")));
};

TEST_P(Gguf, HasTheTensorsOfTheReferenceToTheBit) {
  EXPECT_EQ(model.tensors().size(), golden["sha256"].size());
  for (const auto& [name, expected] : golden["sha256"].items()) {
    const LlamaTensor* tensor = model.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    std::vector<float> all(static_cast<std::size_t>(tensor->rows() * tensor->columns()));
    model.read_rows(*tensor, 0, tensor->rows(), all);
    EXPECT_EQ(sha256(std::string_view(reinterpret_cast<const char*>(all.data()), all.size() * sizeof(float))), expected)
        << name;
    // Some rows alone are the same.
    const std::int64_t begin = tensor->rows() / 3, count = std::min<std::int64_t>(5, tensor->rows() - begin);
    std::vector<float> some(static_cast<std::size_t>(count * tensor->columns()));
    model.read_rows(*tensor, begin, count, some);
    EXPECT_EQ(std::memcmp(some.data(), all.data() + begin * tensor->columns(), some.size() * sizeof(float)), 0) << name;
  }
}

TEST_P(Gguf, ItsVocabularyGivesTheIdsOfTheReference) {
  const BpeTokenizer tokenizer(read_tokenizer_json(model.tokenizer_json(), GetParam()), "", "data.end_of_document");
  const auto& texts = golden["texts"];
  ASSERT_GT(texts.size(), 30u);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::string text = texts[i];
    EXPECT_EQ(tokenizer.encode(text), golden["ids"][i].get<std::vector<std::int32_t>>()) << texts[i];
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST_P(Gguf, ItsConfigIsARecipe) {
  test::Folder folder;
  const fs::path config = fs::path(folder.path()) / "config.json";
  std::ofstream(config) << model.config_json();
  const Recipe recipe = model_recipe(config, {"tiny", "bytes", Compute::fp32});
  EXPECT_EQ(recipe.model.model_type, "llama");
  EXPECT_EQ(recipe.model.hidden_size, 64);
  EXPECT_EQ(recipe.model.num_key_value_heads, 2);
  EXPECT_EQ(recipe.model.rms_norm_eps, 1e-5);
  EXPECT_EQ(recipe.model.rope_theta, 100000);
  EXPECT_EQ(recipe.model.tie_word_embeddings, std::string(GetParam()) == "characters");
}

INSTANTIATE_TEST_SUITE_P(All, Gguf, testing::Values("bytes", "characters"),
                         [](const auto& p) { return std::string(p.param); });

std::string refusal(const std::string& bytes) {
  return test::message_of(ExitStatus::input, [&] {
    const GgufHeader header = read_gguf_header(Memory(bytes), "m.gguf");
    llama_tensors(header);
    llama_config_json(header);
    read_tokenizer_json(gguf_tokenizer_json(header), "m.gguf");
  });
}

/// `bytes` with `with` from where `after` ends, `skip` bytes on.
std::string changed(std::string bytes, const std::string& after, std::size_t skip, const std::string& with) {
  const std::size_t at = bytes.find(after);
  EXPECT_NE(at, std::string::npos) << after;
  return bytes.replace(at + after.size() + skip, with.size(), with);
}

TEST(GgufHeader, RefusesAFileThatIsCutAnywhere) {
  const std::string good = contents(file("bytes.gguf"));
  for (std::size_t length = 0; length < good.size(); length += length < 600 ? 7 : 1531)
    EXPECT_NE(refusal(good.substr(0, length)).find("m.gguf"), std::string::npos) << length;
  EXPECT_NE(refusal(good + std::string(64, '\0')).find("64 bytes that no tensor has"), std::string::npos);
}

TEST(GgufHeader, NamesWhatIsWrong) {
  const std::string good = contents(file("bytes.gguf")), many(8, '\xff');
  const struct {
    std::string bytes, message;
  } cases[] = {
      {changed(good, "", 0, "GGML"), "a GGUF file was expected"},
      {changed(good, "", 4, {1, 0, 0, 0}), "version 1, 2 or 3 was expected"},
      {changed(good, "", 4, {0, 0, 0, 3}), "of the other byte order"},
      {changed(good, "", 8, many), "tensors, at most"},
      {changed(good, "", 16, many), "keys, at most"},
      {changed(good, "llama.block_count", 0, {99}), "m.gguf: key llama.block_count: a value of type 99"},
      {changed(good, "llama.block_count", 4, {9, 0, 0, 0}), "missing: model.layers.2."},
      {changed(good, "llama.block_count", 4, {9, -1, -1, 127}), "missing: model.layers.2."},
      {changed(good, "llama.block_count", 4, {1, 0, 0, 0}), "has: blk.1."},
      {changed(good, "llama.attention.head_count", 4, {0, 0, 0, 0}), "key llama.attention.head_count: 0"},
      {changed(good, "llama.attention.head_count", 4, {8, 0, 0, 0}), "tensor blk.0.attn_k.weight: 32 rows, 16"},
      {changed(good, "general.architecture", 12, "qwen3"), "qwen3, llama was expected"},
      {changed(good, "tokenizer.ggml.model", 12, "bert"), "key tokenizer.ggml.model: bert"},
      {changed(good, "tokenizer.ggml.pre", 12, "tekken"), "key tokenizer.ggml.pre: tekken, one of gpt-2"},
      {changed(good, "tokenizer.ggml.tokens", 8, many), "key tokenizer.ggml.tokens: 18446744073709551615 entries"},
      {changed(good, "tokenizer.ggml.tokens", 4, {9}), "an array of arrays"},
      {changed(good, "blk.0.attn_q.weight", 0, {7}), "tensor blk.0.attn_q.weight: 7 dimensions"},
      {changed(good, "blk.0.attn_q.weight", 4, many), "tensor blk.0.attn_q.weight: 18446744073709551615, a number"},
      {changed(good, "blk.0.attn_q.weight", 20, {14}), "elements of type 14 (Q6_K)"},
      {changed(good, "blk.0.attn_q.weight", 24, {64}), "tensor blk.0.attn_q.weight: at byte"},
      {changed(good, "", good.find("blk.0.attn_q") + 11, "k"), "twice"},
  };
  for (const auto& c : cases) {
    const std::string message = refusal(c.bytes);
    EXPECT_NE(message.find(c.message), std::string::npos) << c.message << "\n" << message;
  }
}

TEST(GgufModel, NamesAFileThatIsNone) {
  for (const char* path : {"/nowhere/model.gguf", "/dev/null", "/"}) {
    const std::string message = test::message_of(ExitStatus::input, [&] { GgufModel model{fs::path(path)}; });
    EXPECT_NE(message.find(path), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace fourmi::interop
