// Attention by cuDNN against our own kernels: on an emulated card by one that computes from strides and tables, in
// double (tests/cuda_on_cpu/attention_plans.cpp), so that a row in the wrong place is a wrong result.
#include <gtest/gtest.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/library/libraries.h"
#include "tests/hopper/test_data.h"

namespace fourmi {
namespace {

using cuda::library::Libraries;
using test::hopper::Memory;
using test::hopper::Random;

const cuda::CudaStream& card() {
  return test::hopper::stream();
}

class LibraryAttention : public testing::Test {
 protected:
  void SetUp() override {
    if (!card().libraries().attention(card())) GTEST_SKIP() << cuda::library::library_facts().back();
  }
};

std::vector<bfloat16> random_values(Random& random, std::int64_t n) {
  std::vector<bfloat16> v(static_cast<std::size_t>(n));
  for (bfloat16& x : v) x = bfloat16(static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 1000);
  return v;
}

struct Case {
  std::vector<std::int64_t> lengths;
  std::int64_t H, G, Q, V;
  std::int64_t room = 0;  ///< documents that are announced beside those that there are
};

/// What a way to attention gives: o, lse, dq, dk, dv.
struct Results {
  std::vector<bfloat16> o, dq, dk, dv;
  std::vector<float> lse;
};

template <class Y>
void expect_near(const std::vector<Y>& got, const std::vector<Y>& expected, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), expected.size());
  double error = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto a = static_cast<double>(static_cast<float>(got[i])),
               b = static_cast<double>(static_cast<float>(expected[i]));
    ASSERT_NEAR(a, b, tolerance * (1 + std::abs(b))) << what << " " << i;
    error += (a - b) * (a - b), size += b * b;
  }
  EXPECT_LE(error, 1e-4 * size) << what;
}

void check(const Case& c) {
  std::int64_t M = 0, longest = 0;
  std::vector<std::int32_t> begin, end;
  for (const std::int64_t length : c.lengths) {
    for (std::int64_t i = 0; i < length; ++i) {
      begin.push_back(static_cast<std::int32_t>(M));
      end.push_back(static_cast<std::int32_t>(M + i + 1));
    }
    M += length, longest = std::max(longest, length);
  }
  SCOPED_TRACE(
      fmt::format("{} documents, {} rows, {} heads of {} and {}, {} of keys", c.lengths.size(), M, c.H, c.Q, c.V, c.G));
  Random random(static_cast<std::uint64_t>(M + c.H + c.Q));
  const Shape q{M, c.H, c.Q}, k{M, c.G, c.Q}, v{M, c.G, c.V}, o{M, c.H, c.V};
  const auto memory = [&](const Shape& s) { return Memory(random_values(random, s.num_elements())); };
  const Memory in_q = memory(q), in_k = memory(k), in_v = memory(v), in_do = memory(o), in_begin(begin), in_end(end);
  const auto tensor = [](const Memory& m, const Shape& s, DType d = DType::bf16) {
    return Tensor(m.get(), d, s, Device::cuda);
  };
  ThreadPool pool(1);
  const Stream stream(const_cast<cuda::CudaStream&>(card()), pool);
  const Attention attention{.scale = 1 / std::sqrt(static_cast<double>(c.Q)),
                            .documents = {static_cast<std::int64_t>(c.lengths.size()) + c.room, longest}};
  const Tensor tq = tensor(in_q, q), tk = tensor(in_k, k), tv = tensor(in_v, v), tdo = tensor(in_do, o),
               ranges[] = {tensor(in_begin, {M}, DType::i32), tensor(in_end, {M}, DType::i32)};
  const auto bytes = [](const Shape& s) { return static_cast<std::size_t>(2 * s.num_elements()); };
  const auto results = [&](auto forward, auto backward) {
    const Memory out(bytes(o)), lse(static_cast<std::size_t>(4 * M * c.H)), dq(bytes(q)), dk(bytes(k)), dv(bytes(v));
    const Tensor to = tensor(out, o), tl = tensor(lse, {M, c.H}, DType::f32);
    forward(to, tl);
    backward(to, tl, tensor(dq, q), tensor(dk, k), tensor(dv, v));
    return Results{out.values<bfloat16>(), dq.values<bfloat16>(), dk.values<bfloat16>(), dv.values<bfloat16>(),
                   lse.values<float>()};
  };
  const Results ours = results(
      [&](const Tensor& to, const Tensor& tl) {
        cuda::plain_attention_forward(stream, attention, tq, tk, tv, ranges[0], ranges[1], to, tl);
      },
      [&](const Tensor& to, const Tensor& tl, const Tensor& dq, const Tensor& dk, const Tensor& dv) {
        cuda::plain_attention_backward(stream, attention, tq, tk, tv, ranges[0], ranges[1], to, tl, tdo, dq, dk, dv);
      });
  auto* const library = card().libraries().attention(card());
  const std::int64_t launches = library->num_launches();
  const Results theirs =
      results([&](const Tensor& to,
                  const Tensor& tl) { attention_forward(stream, attention, tq, tk, tv, ranges[0], ranges[1], to, tl); },
              [&](const Tensor& to, const Tensor& tl, const Tensor& dq, const Tensor& dk, const Tensor& dv) {
                attention_backward(stream, attention, tq, tk, tv, ranges[0], ranges[1], to, tl, tdo, dq, dk, dv);
              });
  EXPECT_EQ(library->num_launches() - launches, 2);
  expect_near(theirs.o, ours.o, 0.02, "o");
  expect_near(theirs.lse, ours.lse, 1e-4, "lse");
  expect_near(theirs.dq, ours.dq, 0.03, "dq");
  expect_near(theirs.dk, ours.dk, 0.03, "dk");
  expect_near(theirs.dv, ours.dv, 0.03, "dv");
}

TEST_F(LibraryAttention, IsOurs) {
  check({{70}, 2, 2, 128, 128});
  check({{1, 40, 2, 29}, 4, 2, 128, 128});
  check({{33, 31}, 2, 1, 192, 128});
  check({{20, 44, 3}, 4, 4, 64, 64, 6});  // fewer documents than announced
}

/// More documents than threads of the block that makes the tables, in runs of rows that they end within.
TEST_F(LibraryAttention, ManyDocuments) {
  std::vector<std::int64_t> lengths;
  for (int i = 0; i < 1100; ++i) lengths.push_back(1 + i % 3);
  check({lengths, 1, 1, 64, 64});
}

TEST_F(LibraryAttention, WhatIsNotItsCallIsOurs) {
  constexpr std::int64_t M = 16, H = 2, Q = 64;
  Random random(3);
  std::vector<std::int32_t> begin(M, 0), end(M);
  for (std::int32_t i = 0; i < M; ++i) end[static_cast<std::size_t>(i)] = i + 1;
  const Memory q(random_values(random, M * H * Q)), k(random_values(random, M * H * Q)), o(M * H * Q * 2),
      lse(M * H * 4), b(begin), e(end);
  const auto tensor = [](const Memory& m, const Shape& s, DType d = DType::bf16) {
    return Tensor(m.get(), d, s, Device::cuda);
  };
  ThreadPool pool(1);
  const Stream stream(const_cast<cuda::CudaStream&>(card()), pool);
  auto* const library = card().libraries().attention(card());
  const auto launches = [&](const Attention& attention) {
    const std::int64_t before = library->num_launches();
    const Tensor x = tensor(k, {M, H, Q});
    attention_forward(stream, attention, tensor(q, {M, H, Q}), x, x, tensor(b, {M}, DType::i32),
                      tensor(e, {M}, DType::i32), tensor(o, {M, H, Q}), tensor(lse, {M, H}, DType::f32));
    return library->num_launches() - before;
  };
  EXPECT_EQ(launches({}), 0);
  EXPECT_EQ(launches({.documents = {1, M}}), 1);
  card().libraries().use_cudnn(false);
  EXPECT_EQ(launches({.documents = {1, M}}), 0);
  card().libraries().use_cudnn(true);
  EXPECT_EQ(launches({.documents = {1, M}}), 1);
}

/// Plans that need so many bytes a key head, or refuse; what they are given is written down.
class FakePlans final : public cuda::library::AttentionPlans {
 public:
  explicit FakePlans(std::int64_t bytes) : bytes_(bytes) {}
  std::vector<cuda::library::AttentionGraph> graphs;
  std::vector<cuda::library::AttentionOperands> operands;
  int asked = 0;
  std::optional<std::int64_t> scratch_bytes(const cuda::library::AttentionGraph& g) override {
    ++asked;
    return bytes_ < 0 ? std::nullopt : std::optional(bytes_ * g.key_heads);
  }
  void run(const cuda::library::AttentionGraph& g, const cuda::library::AttentionOperands& at, void* scratch) override {
    EXPECT_NE(scratch, nullptr);
    graphs.push_back(g), operands.push_back(at);
  }
  std::string refusal() const override { return {}; }

 private:
  std::int64_t bytes_;
};

cuda::library::AttentionGraph small_graph() {
  return {.backward = true,
          .documents = 1,
          .longest = 128,
          .rows = 100,
          .heads = 12,
          .key_heads = 6,
          .all_heads = 12,
          .all_key_heads = 6,
          .Q = 192,
          .V = 128};
}

TEST(LibraryAttentionParts, HeadsGoInAsManyLaunchesAsScratchAllows) {
  auto plans = std::make_unique<FakePlans>(1 << 20);
  FakePlans& fake = *plans;
  cuda::library::LibraryAttention library(std::move(plans), nullptr, 2 << 20);
  const auto g = small_graph();
  ASSERT_EQ(library.key_heads_at_once(g), 2);
  const int asked = fake.asked;
  EXPECT_EQ(library.key_heads_at_once(g), 2);
  EXPECT_EQ(fake.asked, asked);
  std::vector<bfloat16> memory(1);
  std::vector<float> lse(100);
  auto* const p = memory.data();
  library.run(g, 2, {.q = p, .k = p, .v = p, .o = p, .lse = lse.data(), .d_o = p, .dq = p, .dk = p, .dv = p});
  ASSERT_EQ(fake.operands.size(), 3u);
  for (std::int64_t i = 0; i < 3; ++i) {
    const auto& at = fake.operands[static_cast<std::size_t>(i)];
    EXPECT_EQ(fake.graphs[static_cast<std::size_t>(i)].heads, 4);
    EXPECT_EQ(fake.graphs[static_cast<std::size_t>(i)].key_heads, 2);
    const auto elements = [p](const void* x) {
      return (reinterpret_cast<std::intptr_t>(x) - reinterpret_cast<std::intptr_t>(p)) / 2;
    };
    EXPECT_EQ(elements(at.q), 4 * i * 192);
    EXPECT_EQ(elements(at.dq), 4 * i * 192);
    EXPECT_EQ(elements(at.k), 2 * i * 192);
    EXPECT_EQ(elements(at.dk), 2 * i * 192);
    EXPECT_EQ(elements(at.v), 2 * i * 128);
    EXPECT_EQ(elements(at.dv), 2 * i * 128);
    EXPECT_EQ(elements(at.o), 4 * i * 128);
    EXPECT_EQ(elements(at.d_o), 4 * i * 128);
    EXPECT_EQ(at.lse - lse.data(), 4 * i);
  }
}

TEST(LibraryAttentionParts, WhatNoPlanDoesIsLeftAlone) {
  cuda::library::LibraryAttention refused(std::make_unique<FakePlans>(-1), nullptr);
  EXPECT_EQ(refused.key_heads_at_once(small_graph()), 0);
  cuda::library::LibraryAttention large(std::make_unique<FakePlans>(3 << 20), nullptr, 2 << 20);
  EXPECT_EQ(large.key_heads_at_once(small_graph()), 0);
}

}  // namespace
}  // namespace fourmi
