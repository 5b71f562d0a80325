#include "framework/checkpoint/reader.h"

#include "tests/checkpoint/sample.h"

namespace fourmi::testing {
namespace {

TEST(Reader, ReadsWholeTensorsByNameAndAliasFromEveryKindOfPath) {
  const TemporaryFolder run;
  save_sample(3, run.path() / "checkpoints", 10, {}, 1);
  save_sample(4, run.path() / "checkpoints", 20);
  const Boxes whole(0, 1, true), old(0, 1, true, 1);
  for (const char* place : {"", "checkpoints", "checkpoints/step-00000020", "checkpoints/latest", "checkpoints/"}) {
    const CheckpointReader reader(run.path() / place);
    EXPECT_EQ(reader.manifest().state.step, 20);
    EXPECT_EQ(reader.recipe(), sample_state(20).recipe);
    for (const Box& b : whole.get()) {
      for (const std::string& name : {b.name, b.alias}) {
        if (name.empty()) continue;
        ASSERT_TRUE(reader.has(name));
        std::vector<std::byte> bytes(static_cast<std::size_t>(b.data.bytes()) + 1, std::byte{0xee});
        reader.read(name, Tensor(bytes.data(), reader.entry(name).dtype, reader.entry(name).shape));
        EXPECT_EQ(0, std::memcmp(bytes.data(), b.data.data, bytes.size() - 1)) << name;
        EXPECT_EQ(bytes.back(), std::byte{0xee});
      }
    }
  }
  EXPECT_EQ(CheckpointReader(run.path() / "checkpoints/step-00000010").manifest().state.step, 10);
}

TEST(Reader, FallsBackPastADamagedCheckpointAndLeavesItWhereItIs) {
  const TemporaryFolder run;
  save_sample(2, run.path() / "checkpoints", 10);
  save_sample(2, run.path() / "checkpoints", 20);
  const auto file = run.path() / "checkpoints/step-00000020/rank-00001.h5";
  std::string bytes = read_file(file);
  bytes[bytes.size() / 2] ^= 1;
  write_file(file, bytes);
  const CheckpointReader reader(run.path());
  EXPECT_EQ(reader.manifest().state.step, 10);
  ASSERT_EQ(reader.messages().size(), 1u);
  EXPECT_NE(reader.messages()[0].find("rank-00001.h5"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST(Reader, RefusesWhatIsNotThere) {
  const TemporaryFolder run;
  EXPECT_THROW(CheckpointReader{run.path()}, Error);
  EXPECT_THROW(CheckpointReader{run.path() / "absent"}, Error);
  save_sample(1, run.path() / "checkpoints", 10);
  const CheckpointReader reader(run.path());
  EXPECT_FALSE(reader.has("/model/absent"));
  EXPECT_THROW(reader.entry("/model/absent"), Error);
  std::vector<float> out(37 * 11);
  EXPECT_NO_THROW(reader.read("/model/model.embed_tokens.weight", Tensor(out.data(), DType::f32, {37, 11})));
  EXPECT_THROW(reader.read("/model/model.embed_tokens.weight", Tensor(out.data(), DType::f32, {11, 37})), Error);
  EXPECT_THROW(reader.read("/model/model.embed_tokens.weight", Tensor(out.data(), DType::i32, {37, 11})), Error);
}

}  // namespace
}  // namespace fourmi::testing
