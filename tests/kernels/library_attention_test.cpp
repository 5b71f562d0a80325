// Which calls of attention cuDNN computes, and how it is told where their rows lie: plain values, no card.
#include <gtest/gtest.h>

#include "kernels/cuda/library/attention_graph.h"

namespace fourmi::cuda::library {
namespace {

struct Call {
  std::int64_t M = 300, H = 8, G = 2, Q = 192, V = 128;
  Attention attention{.scale = 0.5, .documents = {3, 200}};
  DType dtype = DType::bf16, lse = DType::f32;
  std::int64_t num_keys = 300;
  std::uintptr_t address = 4096;

  std::optional<AttentionGraph> graph(bool backward = true) const {
    const auto tensor = [&](Shape s) { return Tensor(reinterpret_cast<void*>(address), dtype, s, Device::cuda); };
    const Tensor q = tensor({M, H, Q}), k = tensor({num_keys, G, Q}), v = tensor({num_keys, G, V}),
                 o = tensor({M, H, V}), l(nullptr, lse, {M, H}, Device::cuda);
    return backward ? graph_of(attention, {q, k, v, o, l, &o, &q, &k, &v}) : graph_of(attention, {q, k, v, o, l});
  }
};
template <class Change>
bool fits(Change change) {
  Call c;
  change(c);
  EXPECT_EQ(c.graph(true).has_value(), c.graph(false).has_value());
  return c.graph().has_value();
}

TEST(LibraryAttentionGraph, TakesWholeDocumentsInBf16) {
  EXPECT_TRUE(fits([](Call&) {}));
  EXPECT_TRUE(fits([](Call& c) { c.Q = 128; }));
  EXPECT_TRUE(fits([](Call& c) { c.Q = c.V = 64; }));
  EXPECT_TRUE(fits([](Call& c) { c.G = 8; }));
  EXPECT_TRUE(fits([](Call& c) { c.attention.block = 16; }));
}

TEST(LibraryAttentionGraph, LeavesTheRestToOurs) {
  EXPECT_FALSE(fits([](Call& c) { c.attention.documents = {}; }));
  EXPECT_FALSE(fits([](Call& c) { c.attention.query_leaves = 4; }));
  EXPECT_FALSE(fits([](Call& c) { c.dtype = DType::f32; }));
  EXPECT_FALSE(fits([](Call& c) { c.lse = DType::f64; }));
  EXPECT_FALSE(fits([](Call& c) { c.num_keys = 301; }));
  EXPECT_FALSE(fits([](Call& c) { c.Q = 64; }));
  EXPECT_FALSE(fits([](Call& c) { c.Q = c.V = 96; }));
  EXPECT_FALSE(fits([](Call& c) { c.Q = c.V = 192; }));
  EXPECT_FALSE(fits([](Call& c) { c.G = 3; }));
  EXPECT_FALSE(fits([](Call& c) { c.address = 4104; }));
  EXPECT_FALSE(fits([](Call& c) { c.M = c.num_keys = std::int64_t{1} << 21; }));
}

TEST(LibraryAttentionGraph, TensorsAreOurRows) {
  const AttentionGraph all = *Call{}.graph(), g = part_of(all, 1);
  EXPECT_TRUE(all.backward);
  EXPECT_EQ(all.scale, 0.5F);
  EXPECT_EQ(g.heads, 4);
  EXPECT_EQ(g.key_heads, 1);
  // Element (row, head, c) of [M, H, Q] is (row H + head) Q + c, however many heads a launch has.
  for (const AttentionGraph& x : {all, g}) {
    EXPECT_EQ(query_of(x).row_stride, 8 * 192);
    EXPECT_EQ(query_of(x).head_stride, 192);
    EXPECT_EQ(key_of(x).row_stride, 2 * 192);
    EXPECT_EQ(value_of(x).row_stride, 2 * 128);
    EXPECT_EQ(value_of(x).head_stride, 128);
    EXPECT_EQ(output_of(x).row_stride, 8 * 128);
    EXPECT_EQ(output_of(x).head_stride, 128);
    EXPECT_EQ(lse_of(x).row_stride, 8);
    EXPECT_EQ(lse_of(x).head_stride, 1);
  }
  EXPECT_EQ(query_of(g).heads, 4);
  EXPECT_EQ(value_of(g).heads, 1);
}

TEST(LibraryAttentionGraph, FewShapesOfPlans) {
  EXPECT_EQ(rounded_up(1, 1), 1);
  EXPECT_EQ(rounded_up(3, 1), 3);
  EXPECT_EQ(rounded_up(17, 1), 20);
  EXPECT_EQ(rounded_up(1, 128), 128);
  EXPECT_EQ(rounded_up(129, 128), 256);
  EXPECT_EQ(rounded_up(4096, 128), 4096);
  EXPECT_EQ(rounded_up(4097, 128), 5120);
  for (std::int64_t n = 1; n < 5000; n += 7) {
    EXPECT_GE(rounded_up(n, 1), n);
    EXPECT_LE(rounded_up(n, 1) * 4, n * 5 + 4);
    EXPECT_EQ(rounded_up(rounded_up(n, 128), 128), rounded_up(n, 128));
  }
  EXPECT_EQ(Call{}.graph()->documents, 3);
  EXPECT_EQ(Call{}.graph()->longest, 256);
}

TEST(LibraryAttentionGraph, ScratchOfBackwardIsAllPairs) {
  const AttentionGraph g{.backward = true, .documents = 2, .longest = 4096, .rows = 8192, .heads = 16};
  EXPECT_EQ(least_scratch_bytes(g), std::int64_t{2} * 16 * 4096 * 4096 * 2);
  AttentionGraph forward = g;
  forward.backward = false;
  EXPECT_EQ(least_scratch_bytes(forward), 0);
}

}  // namespace
}  // namespace fourmi::cuda::library
