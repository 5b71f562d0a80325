// Damage to checkpoints whose boxes are rectangles: exit status 4, naming tensor and part, as with boxes of rows.
#include <random>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/inspect.h"
#include "framework/checkpoint/prove.h"
#include "tests/checkpoint/tilings.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

class RectangleDamage : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::vector<TensorSpec> specs{{"/model/a", "/model/b", DType::f32, {6, 8}},
                                        {"/model/c", "", DType::bf16, {4, 6, 3}}};
    folder_ =
        save_cut(specs, {grid_tiling(specs[0].shape, 2, 2), grid_tiling(specs[1].shape, 2, 2)}, run_.path(), 10).path;
    text_ = read_file(folder_ / "manifest.json");
    manifest_ = parse_manifest(text_, "m");
  }
  TemporaryFolder run_;
  fs::path folder_;
  std::string text_;
  Manifest manifest_;
};

TEST_F(RectangleDamage, FlipsNameTensorAndPart) {
  const auto group = make_self_group("test");
  for (const TensorEntry& t : manifest_.tensors)
    for (const BoxEntry& b : t.boxes) {
      const fs::path file = folder_ / manifest_.files[static_cast<std::size_t>(b.file)].name;
      const std::string good = read_file(file);
      for (std::int64_t i = 0; i < t.bytes_of(b.part); ++i) {
        std::string bad = good;
        bad[static_cast<std::size_t>(b.offset + i)] ^= static_cast<char>(1 << (i % 8));
        write_file(file, bad);
        try {
          prove_checkpoint(*group, folder_);
          ADD_FAILURE() << "accepted";
        } catch (const DamageError& e) {
          const std::string part = fmt::format("{} ({})", t.name, to_text(b.part, t.shape));
          ASSERT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
          ASSERT_NE(part.find("columns"), std::string::npos);
        }
      }
      write_file(file, good);
    }
  prove_checkpoint(*group, folder_);
}

TEST_F(RectangleDamage, EveryByteOfTheManifest) {
  for (std::size_t i = 0; i < text_.size(); ++i) {
    std::string bad = text_;
    bad[i] ^= 1;
    EXPECT_THROW(parse_manifest(bad, "m"), DamageError) << "byte " << i;
  }
}

TEST_F(RectangleDamage, ForgedManifests) {
  ASSERT_NO_THROW(parse_manifest(forged(text_, "\"step\"", "\"step\""), "m"));
  const std::vector<std::pair<std::string, std::string>> forgeries{
      {"\"first_column\":0", "\"first_column\":1"},
      {"\"first_column\":4", "\"first_column\":0"},
      {"\"first_column\":4", "\"first_column\":-4"},
      {"\"first_column\":4", "\"first_column\":9223372036854775807"},
      {"\"first_column\":4", "\"first_column\":\"4\""},
      {"\"first_column\":0,", ""},
      {"\"num_columns\":4", "\"num_columns\":3"},
      {"\"num_columns\":4", "\"num_columns\":0"},
      {"\"num_columns\":4", "\"num_columns\":8"},
      {"\"num_columns\":4", "\"num_columns\":9223372036854775807"},
      {"\"num_columns\":4", "\"num_columns\":18446744073709551615"},
      {",\"num_columns\":4", ""},
      {"\"first_row\":0", "\"first_row\":1"},
      {"\"shape\":[6,8]", "\"shape\":[8,6]"},
      {"\"shape\":[6,8]", "\"shape\":[48]"},
      {"\"shape\":[6,8]", "\"shape\":[6,8,1]"},  // the root digest knows shapes
      {"\"shape\":[6,8]", "\"shape\":[0,8]"}};
  for (const auto& [from, to] : forgeries)
    EXPECT_THROW(parse_manifest(forged(text_, from, to), "m"), DamageError) << from << " -> " << to;
}

/// Two boxes that say that they lie where the other does: the tiling holds, the digests tell.
TEST_F(RectangleDamage, BoxesThatChangePlaces) {
  Manifest m = manifest_;
  std::vector<BoxEntry>& boxes = m.tensors[0].boxes;
  std::swap(boxes[0].file, boxes[1].file);
  std::swap(boxes[0].offset, boxes[1].offset);
  fs::remove(folder_ / "manifest.json");
  write_file(folder_ / "manifest.json", to_text(m));
  ASSERT_TRUE(inspect(folder_, Proof::listing)[0].good());
  const auto found = inspect(folder_, Proof::full);
  ASSERT_FALSE(found[0].good());
  EXPECT_NE(std::string(found[0].problem->what()).find("/model/a"), std::string::npos) << found[0].problem->what();
  const std::vector<TensorSpec> specs{{"/model/a", "/model/b", DType::f32, {6, 8}}};
  const auto group = make_self_group("test");
  const Checkpoint c = prove_checkpoint(*group, folder_);  // the files are as they were
  const CutBoxes live(specs, {{whole(specs[0].shape)}}, 0, false);
  load_boxes(*group, c, live.get());
  EXPECT_THROW(prove_live_state(*group, c, live.get()), Error);
}

}  // namespace
}  // namespace fourmi::testing
