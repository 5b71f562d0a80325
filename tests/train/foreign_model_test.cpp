// A model that another program made, opened without an import: the same weights, to the bit, as by way of one.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "framework/interop/import.h"
#include "framework/train/inference.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

class ForeignInference : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Kinds, ForeignInference,
                         testing::Values("golden/llama-tied", "golden/mixtral", "interop/gguf/bytes.gguf"),
                         [](const auto& i) { return "Kind" + std::to_string(i.index); });

TEST_P(ForeignInference, HasTheWeightsOfItsImport) {
  const fs::path model = fs::path(FOURMI_SOURCE_DIR) / "tests" / GetParam();
  std::string folder = "/dev/shm/fourmi-foreign-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const auto group = make_self_group("world");
  ThreadPool pool(1);
  const Stream stream(pool);
  interop::import_model(*group, model, fs::path(folder) / "run");
  fs::path companions;
  {
    const InferenceModel imported(*group, fs::path(folder) / "run", stream), direct(*group, model, stream);
    companions = direct.companions();
    EXPECT_EQ(direct.recipe().precision.compute, imported.recipe().precision.compute);
    EXPECT_EQ(direct.recipe().data.tokenizer_sha256, imported.recipe().data.tokenizer_sha256);
    for (const ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision, ParameterSet::router_bias}) {
      const Tensor a = imported.store().weights(set), b = direct.store().weights(set);
      ASSERT_EQ(a.bytes(), b.bytes());
      EXPECT_TRUE(a.bytes() == 0 || std::memcmp(a.data, b.data, static_cast<std::size_t>(a.bytes())) == 0);
    }
    EXPECT_TRUE(fs::exists(companions / "config.json"));
  }
  EXPECT_EQ(fs::exists(companions), fs::is_directory(model)) << "a GGUF file's small files are gone with the model";
  fs::remove_all(folder);
}

}  // namespace
}  // namespace fourmi
