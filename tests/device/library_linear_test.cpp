// Linear maps by cuBLASLt: on an emulated card by one that computes from what descriptors say, in double
// (tests/cuda_on_cpu/cublaslt.cpp), so that a wrong layout is a wrong result.
#include <gtest/gtest.h>

#include "kernels/cuda/library/fp8_peer.h"
#include "kernels/cuda/library/libraries.h"
#include "kernels/cuda/library/system_linker.h"
#include "kernels/ops/linear.h"
#include "tests/hopper/test_data.h"

namespace fourmi {
namespace {

using cuda::library::CublasLtPlans;
using cuda::library::Libraries;
using test::hopper::Memory;
using test::hopper::Random;
using test::hopper::Scaled;

Libraries& libraries() {
  return test::hopper::stream().libraries();
}

class LibraryLinear : public testing::Test {
 protected:
  void SetUp() override {
    if (!libraries().cublaslt()) GTEST_SKIP() << cuda::library::library_facts().front();
  }
};

enum class Added { nothing, another, itself };

struct Case {
  std::int64_t M, N, K;
  int map;  ///< 0: forward, 1: of the input, 2: of the weights
  DType out;
  Added added = Added::nothing;
};

std::vector<bfloat16> random_values(Random& random, std::int64_t n) {
  std::vector<bfloat16> v(static_cast<std::size_t>(n));
  for (bfloat16& x : v) x = bfloat16(static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 512);
  return v;
}

template <class Y>
double wide(Y y) {
  return static_cast<double>(static_cast<float>(y));
}

template <class Y>
void check(const Case& c, bool by_library) {
  SCOPED_TRACE(fmt::format("{} x {} x {}, map {} into {}, added {}", c.M, c.N, c.K, c.map, name_of(c.out),
                           static_cast<int>(c.added)));
  Random random(static_cast<std::uint64_t>(c.M + 3 * c.N + 7 * c.K + c.map));
  const Shape x{c.M, c.K}, w{c.N, c.K}, y{c.M, c.N};
  const Shape first = c.map == 0 ? x : y, second = c.map == 2 ? x : w, out = c.map == 0 ? y : c.map == 1 ? x : w;
  const auto a = random_values(random, first.num_elements()), b = random_values(random, second.num_elements());
  std::vector<Y> before(static_cast<std::size_t>(out.num_elements()));
  for (Y& v : before) v = Y(wide(random_values(random, 1)[0]) * 10.0 < 0 ? -3.5F : 12.25F);
  const Memory a_memory(a), b_memory(b), before_memory(before), out_memory(before.size() * sizeof(Y));
  ThreadPool pool(1);
  const Stream stream(const_cast<cuda::CudaStream&>(test::hopper::stream()), pool);
  const auto tensor = [](const Memory& m, DType d, const Shape& s) { return Tensor(m.get(), d, s, Device::cuda); };
  const Tensor ta = tensor(a_memory, DType::bf16, first), tb = tensor(b_memory, DType::bf16, second);
  const bool in_place = c.map == 2 || c.added == Added::itself;
  const Tensor to = tensor(in_place ? before_memory : out_memory, c.out, out);
  const Tensor added = c.added == Added::nothing ? Tensor{} : tensor(before_memory, c.out, out);

  const std::int64_t products = libraries().need_cublaslt().num_products();
  if (c.map == 0) linear_forward(stream, ta, tb, to, added);
  if (c.map == 1) linear_backward_input(stream, ta, tb, to, added);
  if (c.map == 2) linear_backward_weight(stream, ta, tb, to);
  EXPECT_EQ(libraries().need_cublaslt().num_products() - products, by_library);

  const auto got = (in_place ? before_memory : out_memory).values<Y>();
  const std::int64_t sum = c.map == 0 ? c.K : c.map == 1 ? c.N : c.M;
  const double rounding = c.out == DType::bf16 ? 0x1p-8 : 1e-6;
  for (std::int64_t i = 0; i < out[0]; ++i)
    for (std::int64_t j = 0; j < out[1]; ++j) {
      const auto at = static_cast<std::size_t>(i * out[1] + j);
      double value = c.map == 2 || c.added != Added::nothing ? wide(before[at]) : 0, size = std::abs(value);
      for (std::int64_t s = 0; s < sum; ++s) {
        const double p = wide(a[static_cast<std::size_t>(c.map == 2 ? s * c.N + i : i * sum + s)]) *
                         wide(b[static_cast<std::size_t>(c.map == 0 ? j * c.K + s : s * c.K + j)]);
        value += p, size += std::abs(p);
      }
      ASSERT_NEAR(wide(got[at]), value, rounding * std::abs(value) + 2e-6 * size) << i << ", " << j;
    }
}

void check(const Case& c, bool by_library = true) {
  c.out == DType::bf16 ? check<bfloat16>(c, by_library) : check<float>(c, by_library);
}

TEST_F(LibraryLinear, IsTheFormula) {
  for (const auto& [M, N, K] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t>{64, 64, 64}, {72, 136, 200}, {200, 64, 88}})
    for (const int map : {0, 1, 2})
      for (const DType out : {DType::bf16, DType::f32})
        for (const Added added : {Added::nothing, Added::another, Added::itself})
          if (map < 2 || (out == DType::f32 && added == Added::nothing)) check({M, N, K, map, out, added});
}

TEST_F(LibraryLinear, OursIsTheSameFormula) {
  libraries().use_cublaslt(false);
  for (const int map : {0, 1, 2}) check({72, 136, 200, map, DType::f32}, false);
  libraries().use_cublaslt(true);
  check({72, 136, 100, 0, DType::f32}, false);  // rows of 200 bytes
  check({72, 136, 200, 0, DType::f32});
}

TEST_F(LibraryLinear, TheSameCallHasTheSameBits) {
  Random random(5);
  const auto x = random_values(random, 72 * 200), w = random_values(random, 136 * 200);
  ThreadPool pool(1);
  const Stream stream(const_cast<cuda::CudaStream&>(test::hopper::stream()), pool);
  std::vector<float> first;
  for (int i = 0; i < 3; ++i) {
    const Memory x_memory(x), w_memory(w), y_memory(72 * 136 * 4);
    linear_forward(stream, Tensor(x_memory.get(), DType::bf16, {72, 200}, Device::cuda),
                   Tensor(w_memory.get(), DType::bf16, {136, 200}, Device::cuda),
                   Tensor(y_memory.get(), DType::f32, {72, 136}, Device::cuda));
    const auto y = y_memory.values<float>();
    if (i == 0) first = y;
    ASSERT_EQ(y, first);
  }
}

/// The machine's cuBLASLt but for the heuristics, which answer `status`.
cuda::library::CublasLt with_heuristics(cublasStatus_t status) {
  static cublasStatus_t answer;
  answer = status;
  auto table = cuda::library::Library<cuda::library::CublasLt>(cuda::library::SystemLinker()).need();
  table.cublasLtMatmulAlgoGetHeuristic =
      +[](cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
          cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int,
          cublasLtMatmulHeuristicResult_t*, int* count) {
        *count = 0;
        return answer;
      };
  return table;
}

TEST_F(LibraryLinear, WhatTheLibraryHasNoAlgorithmForIsNotDone) {
  const auto table = with_heuristics(CUBLAS_STATUS_NOT_SUPPORTED);
  CublasLtPlans plans(table);
  const auto m = cuda::library::matmul_of({.num_rows = 64, .num_in = 64, .num_out = 64});
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(plans.multiply(test::hopper::stream().handle(), m, {}, nullptr));
  EXPECT_EQ(plans.num_refused(), 1);
  EXPECT_EQ(plans.num_products(), 0);
}

TEST_F(LibraryLinear, AnythingElseThatTheLibrarySaysIsAnError) {
  const auto table = with_heuristics(CUBLAS_STATUS_INVALID_VALUE);
  CublasLtPlans plans(table);
  const auto m = cuda::library::matmul_of({.num_rows = 64, .num_in = 64, .num_out = 64});
  try {
    plans.multiply(test::hopper::stream().handle(), m, {}, nullptr);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::environment);
    EXPECT_EQ(e.place(), "cuBLASLt");
  }
}

/// y by the definition of the formats.
void check_scaled(std::int64_t M, std::int64_t N, std::int64_t K, DType dtype) {
  SCOPED_TRACE(fmt::format("{} x {} x {} {}", M, N, K, name_of(dtype)));
  Random random(static_cast<std::uint64_t>(M + N + K));
  const Scaled x(random, DType::e4m3_rows, 1, M, K), w(random, DType::e4m3_panels, 1, N, K);
  const Memory x_memory(x.bytes), w_memory(w.bytes), y_memory(static_cast<std::size_t>(M * N * size_of(dtype))),
      scratch(static_cast<std::size_t>(cuda::library::fp8_scratch(M, N, K).bytes));
  const cuda::library::Fp8Peer p{x_memory.get(), w_memory.get(), y_memory.get(), dtype, M, N, K, scratch.get()};
  ASSERT_TRUE(fits(p));
  const auto& stream = test::hopper::stream();
  prepare(stream, p);
  ASSERT_TRUE(multiply(stream, p));
  const auto f32 = dtype == DType::f32 ? y_memory.values<float>() : std::vector<float>{};
  const auto bf16 = dtype == DType::bf16 ? y_memory.values<bfloat16>() : std::vector<bfloat16>{};
  for (std::int64_t m = 0; m < M; ++m)
    for (std::int64_t n = 0; n < N; ++n) {
      const auto at = static_cast<std::size_t>(m * N + n);
      double sum = 0, size = 0;
      for (std::int64_t k = 0; k < K; ++k) {
        const double v = x.value(0, m, k) * w.value(0, n, k);
        sum += v, size += std::abs(v);
      }
      ASSERT_NEAR(dtype == DType::f32 ? wide(f32[at]) : wide(bf16[at]), sum,
                  (dtype == DType::f32 ? 1e-5 : 0x1p-8) * std::abs(sum) + 1e-5 * size)
          << m << ", " << n;
    }
}

TEST_F(LibraryLinear, Fp8PeerIsTheFormula) {
  check_scaled(12, 40, 272, DType::bf16);
  check_scaled(64, 256, 128, DType::f32);
  check_scaled(20, 300, 656, DType::f32);  // a panel of 44, six scales a row
  check_scaled(260, 128, 16, DType::bf16);
}

TEST_F(LibraryLinear, Fp8GradientPeerAddsTheFormula) {
  constexpr std::int64_t N = 20, K = 36, S = 384;
  Random random(9);
  std::vector<std::uint8_t> dy(N * S), x(K * S);
  for (auto* v : {&dy, &x})
    for (std::uint8_t& e : *v) e = test::hopper::random_element(random);
  std::vector<float> dy_scales(S / 128 * N), x_scales(S / 128 * K), before(N * K);
  for (auto* v : {&dy_scales, &x_scales, &before})
    for (float& e : *v) e = test::hopper::random_scale(random);
  const Memory dy_memory(dy), x_memory(x), dy_scale_memory(dy_scales), x_scale_memory(x_scales), dw_memory(before);
  const cuda::library::Fp8GradientPeer p{dy_memory.get(),
                                         x_memory.get(),
                                         static_cast<const float*>(dy_scale_memory.get()),
                                         static_cast<const float*>(x_scale_memory.get()),
                                         static_cast<float*>(dw_memory.get()),
                                         N,
                                         K,
                                         S};
  ASSERT_TRUE(fits(p));
  ASSERT_TRUE(multiply(test::hopper::stream(), p));
  const auto dw = dw_memory.values<float>();
  for (std::size_t n = 0; n < N; ++n)
    for (std::size_t k = 0; k < K; ++k) {
      double sum = wide(before[n * K + k]), size = std::abs(sum);
      for (std::size_t s = 0; s < S; ++s) {
        const double v = test::hopper::e4m3(dy[n * S + s]) * wide(dy_scales[s / 128 * N + n]) *
                         test::hopper::e4m3(x[k * S + s]) * wide(x_scales[s / 128 * K + k]);
        sum += v, size += std::abs(v);
      }
      ASSERT_NEAR(wide(dw[n * K + k]), sum, 1e-5 * size) << n << ", " << k;
    }
}

TEST_F(LibraryLinear, PeersSayWhatDoesNotFit) {
  alignas(16) static std::byte memory[16];
  const cuda::library::Fp8Peer p{memory, memory, memory, DType::bf16, 8, 16, 48, memory};
  EXPECT_TRUE(fits(p));
  const auto changed = [&p](auto change) {
    auto other = p;
    change(other);
    return fits(other);
  };
  EXPECT_FALSE(changed([](auto& o) { o.K = 40; }));
  EXPECT_FALSE(changed([](auto& o) { o.M = 6; }));
  EXPECT_FALSE(changed([](auto& o) { o.N = 12; }));
  EXPECT_FALSE(changed([](auto& o) { o.x = memory + 8; }));
  EXPECT_FALSE(changed([](auto& o) { o.dtype = DType::f64; }));
}

/// A machine without the library.
class NoLinker final : public cuda::library::Linker {
 public:
  void* open(const char*) const override { return nullptr; }
  void* find(void*, const char*) const override { return nullptr; }
  std::string trouble() const override { return "none here"; }
};

TEST(LibraryAbsent, IsNoErrorUntilSomebodyNeedsIt) {
  const NoLinker linker;
  Libraries none(&linker);
  EXPECT_EQ(none.cublaslt(), nullptr);
  EXPECT_THROW(none.need_cublaslt(), Error);
  const auto facts = cuda::library::library_facts(&linker);
  ASSERT_FALSE(facts.empty());
  EXPECT_NE(facts.front().find("libcublasLt.so.13 was not found (none here)"), std::string::npos) << facts.front();
  EXPECT_NE(facts.front().find("own kernels"), std::string::npos) << facts.front();
}

}  // namespace
}  // namespace fourmi
