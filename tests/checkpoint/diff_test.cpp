#include "framework/checkpoint/diff.h"

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/checkpoint/sample.h"

namespace fourmi::testing {
namespace {

Checkpoint open(const std::filesystem::path& run) {
  const auto alone = make_self_group("test");
  return *open_model(*alone, run).checkpoint;
}

/// One f32 tensor [3, 2] of the given values, and one i32 that stays.
void save(const std::filesystem::path& folder, std::vector<float> values, const std::string& training, int ranks = 1) {
  on_ranks(ranks, [&](Group& group) {
    std::vector<std::int32_t> same = {7, 8};
    const std::int64_t begin = 3 * group.rank() / ranks, end = 3 * (group.rank() + 1) / ranks;
    std::vector<Box> boxes = {
        {"/model/a", "", {3, 2}, begin, Tensor(values.data() + 2 * begin, DType::f32, {end - begin, 2})},
        {"/same", "", {2}, group.rank() == 0 ? 0 : 2, Tensor(same.data(), DType::i32, {group.rank() == 0 ? 2 : 0})}};
    CheckpointState state = sample_state(4);
    state.training = training;
    ASSERT_TRUE(save_checkpoint(group, folder, boxes, state).committed());
  });
}

TEST(CheckpointDiff, SameStateOfOtherRanksIsTheSame) {
  const TemporaryFolder one, four;
  save_sample(1, one.path() / "checkpoints", 10);
  save_sample(4, four.path() / "checkpoints", 10);
  const CheckpointDifference d = compare_checkpoints(open(one.path()), open(four.path()));
  EXPECT_TRUE(d.same());
  EXPECT_EQ(d.root_a, d.root_b);
  EXPECT_EQ(d.num_equal, static_cast<std::int64_t>(sample_tensors().size()));
  EXPECT_TRUE(nlohmann::json::parse(to_json(d))["same"]);
}

TEST(CheckpointDiff, SaysWhichElementsDifferAndByHowMuch) {
  const TemporaryFolder a, b;
  save(a.path() / "checkpoints", {1, 2, 3, 4, 5, 6}, "{}");
  save(b.path() / "checkpoints", {1, 2, 3.5, 4, 5, 4}, "{}", 2);
  const CheckpointDifference d = compare_checkpoints(open(a.path()), open(b.path()));
  ASSERT_EQ(d.tensors.size(), 1u);
  const TensorDifference& t = d.tensors[0];
  EXPECT_EQ(t.name, "/model/a");
  EXPECT_EQ(t.num_elements, 6);
  EXPECT_EQ(t.num_different, 2);
  EXPECT_EQ(t.first, 2);
  EXPECT_EQ(t.value_a, 3);
  EXPECT_EQ(t.value_b, 3.5);
  EXPECT_EQ(t.max_abs, 2);
  EXPECT_DOUBLE_EQ(t.relative, std::sqrt(4.25) / std::sqrt(91.0));
  EXPECT_FALSE(d.training_state_differs);
  EXPECT_EQ(d.num_equal, 1);
  EXPECT_NE(to_text(d).find("2 of 6 elements"), std::string::npos);
}

TEST(CheckpointDiff, BitsDecideNotValues) {
  const TemporaryFolder a, b;
  save(a.path() / "checkpoints", {0.0F, 1, 1, 1, 1, 1}, "{}");
  save(b.path() / "checkpoints", {-0.0F, 1, 1, 1, 1, 1}, "{}");
  const CheckpointDifference zeros = compare_checkpoints(open(a.path()), open(b.path()));
  ASSERT_EQ(zeros.tensors.size(), 1u) << "0 and -0 are different states";
  EXPECT_EQ(zeros.tensors[0].num_different, 1);
  EXPECT_EQ(zeros.tensors[0].max_abs, 0);
  const TemporaryFolder c;
  save(c.path() / "checkpoints", {std::nanf(""), 1, 1, 1, 1, 9}, "{}");
  EXPECT_TRUE(std::isnan(compare_checkpoints(open(a.path()), open(c.path())).tensors.at(0).max_abs));
}

TEST(CheckpointDiff, MissingTensorsOtherShapesAndState) {
  const TemporaryFolder a, b;
  save(a.path() / "checkpoints", {1, 2, 3, 4, 5, 6}, "{}");
  on_ranks(1, [&](Group& group) {
    std::vector<float> values(8);
    std::vector<Box> boxes = {{"/model/a", "", {4, 2}, 0, Tensor(values.data(), DType::f32, {4, 2})},
                              {"/model/b", "", {8}, 0, Tensor(values.data(), DType::f32, {8})}};
    CheckpointState state = sample_state(4);
    state.training = R"({"position":1})";
    ASSERT_TRUE(save_checkpoint(group, b.path() / "checkpoints", boxes, state).committed());
  });
  const CheckpointDifference d = compare_checkpoints(open(a.path()), open(b.path()));
  EXPECT_TRUE(d.training_state_differs);
  ASSERT_EQ(d.tensors.size(), 3u);
  EXPECT_EQ(d.tensors[0].what, "f32 [3, 2] and f32 [4, 2]");
  EXPECT_EQ(d.tensors[1].what, "only in B");
  EXPECT_EQ(d.tensors[2].what, "only in A");
}

}  // namespace
}  // namespace fourmi::testing
