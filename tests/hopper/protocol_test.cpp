// Programs that break the protocol of Hopper's asynchronous instructions: the emulated card has to find them, since a
// real one may hang, or be right by luck. Only for the emulated card.
#include <gtest/gtest.h>

#include "tests/cuda_on_cpu/language.h"
//
#include "kernels/cuda/hopper/bf16_ptx.h"
#include "kernels/cuda/hopper/ptx.h"
#include "kernels/cuda/lanes.h"
#include "tests/hopper/card.h"

namespace fourmi::cuda::hopper {
namespace {

/// Two tiles of 128 rows and a barrier in shared memory.
struct Scene {
  static constexpr int tile = 128 * 128;
  std::byte* shared = cuda_on_cpu::dynamic_shared();
  Barrier* barrier = reinterpret_cast<Barrier*>(shared + 2 * tile);
  unsigned thread = cuda_on_cpu::thread_index().x;
};

alignas(16) std::byte ones[Scene::tile];

void run(const std::function<void(Scene&)>& kernel, unsigned threads = 128) {
  std::memset(ones, 0x38, sizeof(ones));  // 1 as e4m3
  cuda_on_cpu::run_kernel({1, 1, 1}, {threads, 1, 1}, 2 * Scene::tile + 64, "a test", false, [&] {
    Scene s;
    kernel(s);
  });
}
void begin(const Scene& s, unsigned arrivals = 1) {
  if (s.thread == 0) {
    init(s.barrier, arrivals);
    fence_init();
  }
  __syncthreads();
}
TensorMap tile_map(std::int64_t rows = 128) {
  return encode({ones, MappedTensor::Element::u8, 2, {128, rows}, {128}, {128, 128}, Swizzle::span_128});
}
void load_both(const Scene& s) {
  const TensorMap map = tile_map();
  arrive_expecting(s.barrier, 2 * Scene::tile);
  load_box(&map, s.shared, s.barrier, 0, 0);
  load_box(&map, s.shared + Scene::tile, s.barrier, 0, 0);
}
void multiply(const Scene& s, float (&sum)[64]) {
  multiply_64_128_32(sum, operand_of_rows(shared_address(s.shared)),
                     operand_of_rows(shared_address(s.shared + Scene::tile)));
}

TEST(HopperProtocol, WhatIsRightIsDone) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    test::shuffle_card(seed);
    run([](Scene& s) {
      begin(s);
      if (s.thread == 0) load_both(s);
      wait(s.barrier, 0);
      float sum[64] = {};
      fence_products();
      multiply(s, sum);
      commit_products();
      wait_products<0>(sum);
      for (const float x : sum) EXPECT_EQ(x, 32);
    });
  }
  EXPECT_EQ(test::copies_left_on_card(), 0u);
}

TEST(HopperProtocol, DataAreNotThereBeforeTheWait) {
  int missing = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    test::shuffle_card(seed);
    run([&](Scene& s) {
      begin(s);
      if (s.thread == 0) load_both(s);
      __syncthreads();
      missing += s.thread == 64 && s.shared[0] != std::byte{0x38};
      wait(s.barrier, 0);
      EXPECT_EQ(s.shared[0], std::byte{0x38});
    });
  }
  EXPECT_GT(missing, 5);
}

TEST(HopperProtocol, SumsAreNotThereBeforeTheWait) {
  run([](Scene& s) {
    begin(s);
    if (s.thread == 0) load_both(s);
    wait(s.barrier, 0);
    float sum[64] = {};
    fence_products();
    multiply(s, sum);
    commit_products();
    for (const float x : sum) EXPECT_TRUE(std::isnan(x));
    wait_products<0>(sum);
  });
}

TEST(HopperProtocol, WhatIsOverwrittenTooEarlyShows) {
  run([](Scene& s) {
    begin(s);
    if (s.thread == 0) load_both(s);
    wait(s.barrier, 0);
    float sum[64] = {};
    fence_products();
    multiply(s, sum);
    commit_products();
    __syncthreads();
    if (s.thread == 0) load_both(s);  // the next step, while this one is read
    __syncthreads();
    wait_products<0>(sum);
    const bool is_wrong = std::any_of(sum, sum + 64, [](float x) { return std::isnan(x); });
    wait(s.barrier, 1);
    EXPECT_TRUE(is_wrong || s.thread > 0);
  });
}

/// The ISA's two examples of lines that are contiguous, bf16 with swizzles of 32 and 64 bytes: the exact layouts and
/// offsets that it prints for them. That of 128 bytes follows the same rule.
TEST(HopperProtocol, TurnedOperandsLieAsInTheIsasExamples) {
  struct Example {
    std::uint64_t mode, leading, stride;  // in bytes
    Swizzle swizzle;
    std::uint32_t pieces, next_m, next_s, next_k;  // of the exact layout ((8, pieces, 2), (8, 2)) : ((1, 8, m), (s, k))
  };
  const Example examples[] = {{3, 128 * 2, 256 * 2, Swizzle::span_32, 2, 128, 16, 256},
                              {2, 256 * 2, 512 * 2, Swizzle::span_64, 4, 256, 32, 512},
                              {1, 512 * 2, 1024 * 2, Swizzle::span_128, 8, 512, 64, 1024}};
  for (const Example& e : examples) {
    constexpr std::uint32_t begin = 0x4000;
    const Operand o = std::uint64_t{begin >> 4} | e.leading >> 4 << 16 | e.stride >> 4 << 32 | e.mode << 62;
    for (std::uint32_t line = 0; line < 16 * e.pieces; ++line)
      for (std::uint32_t k = 0; k < 16; ++k) {
        const std::uint32_t at =
            line % 8 + line / 8 % e.pieces * 8 + line / 8 / e.pieces * e.next_m + k % 8 * e.next_s + k / 8 * e.next_k;
        ASSERT_EQ(cuda_on_cpu::hopper::turned_address(o, line, k), swizzled(e.swizzle, begin + 2 * at));
      }
  }
}

using HopperProtocolDeath = ::testing::Test;

void expect_broken(const char* what, const std::function<void(Scene&)>& kernel) {
  EXPECT_DEATH(run(kernel), what);
}

TEST(HopperProtocolDeath, Barriers) {
  expect_broken("not initialised", [](Scene& s) { wait(s.barrier, 0); });
  expect_broken("not initialised", [](Scene& s) { arrive(s.barrier); });
  expect_broken("more arrive", [](Scene& s) {
    begin(s, 3);
    if (s.thread == 0) arrive_expecting(s.barrier, 16);
    __syncthreads();
    arrive(s.barrier);
  });
  expect_broken("wait for ever", [](Scene& s) {
    begin(s);
    wait(s.barrier, 0);
  });
  expect_broken("wait for ever", [](Scene& s) {  // too many bytes are expected
    begin(s);
    if (s.thread == 0) {
      const TensorMap map = tile_map();
      arrive_expecting(s.barrier, Scene::tile + 16);
      load_box(&map, s.shared, s.barrier, 0, 0);
    }
    wait(s.barrier, 0);
  });
  expect_broken("wait for ever", [](Scene& s) {  // the wrong parity
    begin(s);
    if (s.thread == 0) load_both(s);
    wait(s.barrier, 0);
    wait(s.barrier, 0 ^ 1);  // has ended before it began, but the next is
    wait(s.barrier, 0);
    __syncthreads();
    if (s.thread == 0) arrive(s.barrier);
    wait(s.barrier, 1);
    wait(s.barrier, 0);
  });
}

TEST(HopperProtocolDeath, Copies) {
  expect_broken("there was no fence", [](Scene& s) {
    if (s.thread == 0) {
      init(s.barrier, 1);
      load_both(s);
    }
  });
  expect_broken("two copies", [](Scene& s) {
    begin(s);
    const TensorMap map = tile_map();
    if (s.thread == 0)
      for (int i = 0; i < 64; ++i) load_box(&map, s.shared, s.barrier, 0, 0);
  });
  expect_broken("does not begin where it must", [](Scene& s) {
    begin(s);
    const TensorMap map = tile_map();
    load_box(&map, s.shared + 128, s.barrier, 0, 0);
  });
  expect_broken("another rank", [](Scene& s) {
    begin(s);
    const TensorMap map = tile_map();
    load_box(&map, s.shared, s.barrier, 0, 0, 0);
  });
  expect_broken("outside of shared memory", [](Scene& s) {
    begin(s);
    const TensorMap map = tile_map();
    load_box(&map, s.shared + (220 << 10), s.barrier, 0, 0);
  });
  expect_broken("multiples of 16", [](Scene& s) {
    begin(s);
    load_bytes(ones + 8, s.shared, s.barrier, 16);
  });
}

TEST(HopperProtocolDeath, Products) {
  expect_broken("without a fence", [](Scene& s) {
    float sum[64] = {};
    multiply(s, sum);
  });
  expect_broken("different products", [](Scene& s) {
    float sum[64] = {};
    fence_products();
    if (s.thread % 2 == 0) s.shared += 64;
    multiply(s, sum);
  });
  expect_broken("does not begin with the pattern", [](Scene& s) {
    float sum[64] = {};
    fence_products();
    const Operand inside = operand_of_columns(shared_address(s.shared) + 128, 8192);
    multiply_add<Along::lines, Along::lines>(sum, inside, inside);
    commit_products();
    wait_all_products(sum);
  });
  expect_broken("was changed", [](Scene& s) {  // read before the last group was awaited
    float sum[64] = {};
    const Operand any = operand_of_rows(shared_address(s.shared));
    for (int i = 0; i < 2; ++i) {
      fence_products();
      multiply_add<Along::sum, Along::sum>(sum, any, any);
      commit_products();
      wait_products<1>();
    }
    sum[3] = 1;
    wait_all_products(sum);
  });
  expect_broken("was changed", [](Scene& s) {
    float sum[64] = {};
    fence_products();
    multiply(s, sum);
    sum[3] = 1;
    const Operand any = operand_of_rows(shared_address(s.shared));
    multiply_add_64_128_32(sum, any, any);
  });
  expect_broken("was changed", [](Scene& s) {
    float sum[64] = {};
    fence_products();
    multiply(s, sum);
    commit_products();
    sum[3] = 1;
    wait_products<0>(sum);
  });
}

void nothing() {}
cudaError_t launch(dim3 grid, dim3 block, std::size_t shared = 0) {
  const cudaLaunchConfig_t config{grid, block, shared, nullptr, nullptr, 0};
  return cudaLaunchKernelEx(&config, nothing);
}

TEST(EmulatedLaunch, WhatNoCardTakesIsAnError) {
  EXPECT_EQ(launch({3, 2, 1}, {1024, 1, 1}), cudaSuccess);
  EXPECT_EQ(launch({1, 65535, 1}, {1, 1, 1}), cudaSuccess);
  for (const dim3 grid : {dim3{0, 1, 1}, dim3{1, 0, 1}, dim3{1, 65536, 1}, dim3{1, 1, 65536}})
    EXPECT_EQ(launch(grid, {32, 1, 1}), cudaErrorInvalidConfiguration) << grid.x << " " << grid.y << " " << grid.z;
  EXPECT_EQ(launch({1, 1, 1}, {0, 1, 1}), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch({1, 1, 1}, {1056, 1, 1}), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch({1, 1, 1}, {32, 1, 1}, 48 << 10), cudaSuccess);
  EXPECT_EQ(launch({1, 1, 1}, {32, 1, 1}, 64 << 10), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10), cudaSuccess);
  EXPECT_EQ(launch({1, 1, 1}, {32, 1, 1}, 64 << 10), cudaSuccess);
}

TEST(EmulatedVectorDeath, TheirAddressesAreMultiplesOfTheirSize) {
  alignas(16) float values[8] = {};
  EXPECT_EQ(load<4>(values + 4).value[0], 0);
  volatile int one = 1;
  EXPECT_DEATH(load<4>(values + one), "misaligned address");
  EXPECT_DEATH(store(values + one, Vector<float, 2>{}), "misaligned address");
}

}  // namespace
}  // namespace fourmi::cuda::hopper
