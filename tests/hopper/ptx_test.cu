// Each of Hopper's asynchronous instructions alone, as kernels/cuda/hopper/ptx.h gives it, against what the PTX ISA
// says of it: on a card the first thing to be right. On the emulated card it tests the emulation.
#include "kernels/cuda/dynamic_shared.h"
#include "kernels/cuda/hopper/bf16_ptx.h"
#include "kernels/cuda/launch.h"
#include "tests/hopper/card.h"
#include "tests/hopper/test_data.h"

namespace fourmi::cuda::hopper {
namespace {

using test::hopper::Memory;
using test::hopper::Random;
using test::hopper::stream;

std::vector<std::uint8_t> random_bytes(Random& random, std::int64_t count) {
  std::vector<std::uint8_t> v(static_cast<std::size_t>(count));
  for (auto& b : v) b = static_cast<std::uint8_t>(random());
  return v;
}

/// What lies in shared memory after a box was loaded.
template <int rank>
__global__ void __launch_bounds__(128, 1)
    load_and_show(const __grid_constant__ TensorMap map, int a, int b, int c, int d, int bytes, std::byte* out) {
  std::byte* const box = dynamic_shared();
  auto* const barrier = reinterpret_cast<Barrier*>(box + bytes);
  if (threadIdx.x == 0) {
    init(barrier, 1);
    fence_init();
  }
  __syncthreads();
  if (threadIdx.x < 32 && elected()) {
    prefetch(&map);
    arrive_expecting(barrier, static_cast<unsigned>(bytes));
    if constexpr (rank == 2) load_box(&map, box, barrier, a, b);
    if constexpr (rank == 3) load_box(&map, box, barrier, a, b, c);
    if constexpr (rank == 4) load_box(&map, box, barrier, a, b, c, d);
  }
  wait(barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < bytes; i += 128) out[i] = box[i];
}

/// The box's bytes by the definition.
std::vector<std::uint8_t> box_of(const MappedTensor& t, const std::vector<std::uint8_t>& memory,
                                 const std::array<std::int64_t, 5>& at) {
  const std::int64_t size = t.element_bytes();
  std::vector<std::uint8_t> box(static_cast<std::size_t>(t.box_bytes()));
  for (std::int64_t i = 0; i < t.box_bytes() / size; ++i) {
    std::int64_t rest = i, from = 0;
    bool inside = true;
    for (std::size_t dim = 0; dim < static_cast<std::size_t>(t.rank); ++dim) {
      const std::int64_t index = at[dim] + rest % t.box[dim];
      rest /= t.box[dim];
      inside = inside && index >= 0 && index < t.dims[dim];
      from += index * (dim == 0 ? size : t.strides[dim - 1]);
    }
    for (std::int64_t k = 0; k < size; ++k)
      box[swizzled(t.swizzle, static_cast<std::uint32_t>(i * size + k))] =
          inside ? memory[static_cast<std::size_t>(from + k)] : std::uint8_t{0};
  }
  return box;
}

template <int rank>
void check_box(MappedTensor t, const std::vector<std::uint8_t>& bytes, const std::array<std::int64_t, 5>& at) {
  const Memory memory(bytes), out(static_cast<std::size_t>(t.box_bytes()));
  t.address = memory.get(), t.rank = rank;
  const auto n = static_cast<int>(t.box_bytes());
  launch(stream(), load_and_show<rank>, 1, 128, n + 8, encode(t), static_cast<int>(at[0]), static_cast<int>(at[1]),
         static_cast<int>(at[2]), static_cast<int>(at[3]), n, static_cast<std::byte*>(out.get()));
  const auto got = out.values<std::uint8_t>(), want = box_of(t, bytes, at);
  for (std::size_t i = 0; i < want.size(); ++i) ASSERT_EQ(got[i], want[i]) << "byte " << i;
}

TEST(HopperPtx, BoxesComeSwizzledWithZerosOutside) {
  Random random(1);
  constexpr auto u8 = MappedTensor::Element::u8, f32 = MappedTensor::Element::f32, bf16 = MappedTensor::Element::bf16;
  const auto bytes = random_bytes(random, 1 << 16);
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    test::shuffle_card(seed);
    check_box<2>({nullptr, u8, 2, {208, 100}, {224}, {128, 64}, Swizzle::span_128}, bytes, {128, 16});
    check_box<2>({nullptr, u8, 2, {208, 100}, {224}, {128, 64}, Swizzle::span_128}, bytes, {0, 80});
    check_box<2>({nullptr, u8, 2, {208, 100}, {224}, {64, 64}, Swizzle::span_64}, bytes, {64, 3});
    check_box<2>({nullptr, u8, 2, {208, 100}, {224}, {32, 64}, Swizzle::span_32}, bytes, {160, 3});
    check_box<2>({nullptr, u8, 2, {208, 100}, {224}, {208, 16}, Swizzle::none}, bytes, {-16, -3});
    check_box<2>({nullptr, bf16, 2, {104, 100}, {224}, {64, 64}, Swizzle::span_128}, bytes, {64, 50});
    check_box<3>({nullptr, bf16, 3, {72, 40, 4}, {144, 5760}, {64, 64, 1}, Swizzle::span_128}, bytes, {64, 0, 3});
    check_box<2>({nullptr, f32, 2, {7, 50}, {48}, {4, 128}, Swizzle::none}, bytes, {4, 0});  // as scales are read
    check_box<2>({nullptr, f32, 2, {1, 50}, {48}, {4, 128}, Swizzle::none}, bytes, {0, 40});
    // Strides that are no multiples of each other, as panels have them.
    check_box<3>({nullptr, u8, 3, {80, 30, 5}, {80, 2416}, {128, 32, 1}, Swizzle::span_128}, bytes, {0, 0, 4});
    check_box<4>({nullptr, u8, 4, {80, 30, 5, 3}, {80, 2416, 13008}, {128, 32, 1, 1}, Swizzle::span_128}, bytes,
                 {0, 0, 3, 2});
  }
}

__global__ void __launch_bounds__(32, 1) bytes_and_back(const std::byte* from, int bytes, std::byte* out) {
  std::byte* const to = dynamic_shared();
  auto* const barrier = reinterpret_cast<Barrier*>(to + bytes);
  if (threadIdx.x == 0) {
    init(barrier, 1);
    fence_init();
  }
  __syncwarp();
  for (unsigned phase = 0; phase < 5; ++phase) {  // parity 0, 1, 0 ...
    if (threadIdx.x == 0) {
      arrive_expecting(barrier, static_cast<unsigned>(bytes));
      load_bytes(from + phase * static_cast<unsigned>(bytes), to, barrier, static_cast<unsigned>(bytes));
    }
    wait(barrier, phase % 2);
    for (int i = static_cast<int>(threadIdx.x); i < bytes; i += 32) out[static_cast<int>(phase) * bytes + i] = to[i];
    __syncwarp();
  }
}

TEST(HopperPtx, BytesComeInPhases) {
  Random random(2);
  const auto bytes = random_bytes(random, 5 * 48);
  const Memory from(bytes), out(bytes.size());
  launch(stream(), bytes_and_back, 1, 32, 48 + 8, static_cast<const std::byte*>(from.get()), 48,
         static_cast<std::byte*>(out.get()));
  EXPECT_EQ(out.values<std::uint8_t>(), bytes);
}

/// Two warpgroups, each a product [64, 128] of its rows of a [128, 128] by b [128, 128]; or added to `first`.
template <bool adds>
__global__ void __launch_bounds__(256, 1)
    one_product(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const float* first,
                float* out) {
  std::byte* const shared = dynamic_shared();
  constexpr unsigned bytes = 128 * 128;
  auto* const barrier = reinterpret_cast<Barrier*>(shared + 2 * bytes);
  if (threadIdx.x == 0) {
    init(barrier, 1);
    fence_init();
    arrive_expecting(barrier, 2 * bytes);
    load_box(&a, shared, barrier, 0, 0);
    load_box(&b, shared + bytes, barrier, 0, 0);
  }
  __syncthreads();
  float sum[64];
  for (int i = 0; i < 64; ++i) sum[i] = adds ? first[threadIdx.x * 64 + static_cast<unsigned>(i)] : 0;
  wait(barrier, 0);
  const unsigned warpgroup = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  const Operand rows = operand_of_rows(shared_address(shared + warpgroup * 64 * 128));
  const Operand columns = operand_of_rows(shared_address(shared + bytes));
  fence_products();
  if constexpr (adds)
    multiply_add_64_128_32(sum, rows, columns);
  else
    multiply_64_128_32(sum, rows, columns);
#pragma unroll
  for (unsigned k = 32; k < 128; k += 32) multiply_add_64_128_32(sum, advanced(rows, k), advanced(columns, k));
  commit_products();
  wait_products<0>(sum);
  for (int i = 0; i < 64; ++i) out[threadIdx.x * 64 + static_cast<unsigned>(i)] = sum[i];
}

TEST(HopperPtx, ProductsReadSwizzledRowsAndKnowWhoseSumsAreWhose) {
  constexpr auto u8 = MappedTensor::Element::u8;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    test::shuffle_card(seed);
    Random random(seed);
    std::vector<std::uint8_t> a(128 * 128), b(128 * 128);
    // Multiples of 1/4 up to 2: all sums are exact, also in the short accumulator.
    for (auto& x : a)
      x = static_cast<std::uint8_t>((random() % 5 == 0 ? 0x28 + 8 * (random() % 4) : 0) | (random() & 128));
    for (auto& x : b)
      x = static_cast<std::uint8_t>((random() % 3 == 0 ? 0x30 + 8 * (random() % 3) : 0) | (random() & 128));
    std::vector<float> first(256 * 64);
    for (auto& x : first) x = static_cast<float>(random() % 64);
    const bool adds = seed % 2 == 0;
    const Memory a_memory(a), b_memory(b), first_memory(first), out(256 * 64 * 4);
    MappedTensor map{a_memory.get(), u8, 2, {128, 128}, {128}, {128, 128}, Swizzle::span_128};
    const TensorMap a_map = encode(map);
    map.address = b_memory.get();
    launch(stream(), adds ? one_product<true> : one_product<false>, 1, 256, 2 * 128 * 128 + 8, a_map, encode(map),
           static_cast<const float*>(first_memory.get()), static_cast<float*>(out.get()));
    const auto got = out.values<float>();
    for (std::size_t thread = 0; thread < 256; ++thread)
      for (std::size_t i = 0; i < 64; ++i) {
        const std::size_t row = thread / 32 * 16 + thread % 32 / 4 + i % 4 / 2 * 8;
        const std::size_t column = i / 4 * 8 + thread % 4 * 2 + i % 2;
        double sum = adds ? static_cast<double>(first[thread * 64 + i]) : 0;
        for (std::size_t k = 0; k < 128; ++k)
          sum += test::hopper::e4m3(a[row * 128 + k]) * test::hopper::e4m3(b[column * 128 + k]);
        ASSERT_EQ(static_cast<double>(got[thread * 64 + i]), sum) << "row " << row << " column " << column;
      }
  }
}

/// Two warpgroups, each a product over 64 of bf16 of its 64 rows of a [128, 64] by b [columns, 64]. Operands that lie
/// along their lines are [64, 128] and [64, columns] in memory.
template <Along of_a, Along of_b, int columns>
__global__ void __launch_bounds__(256, 1)
    one_bf16_product(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* out) {
  std::byte* const shared = dynamic_shared();
  constexpr int slab = 64 * 128, a_bytes = 128 * 128, b_bytes = columns * 128;
  std::byte* const shared_b = shared + a_bytes;
  auto* const barrier = reinterpret_cast<Barrier*>(shared_b + b_bytes);
  if (threadIdx.x == 0) {
    init(barrier, 1);
    fence_init();
    arrive_expecting(barrier, a_bytes + b_bytes);
    for (int i = 0; i < 128 / 64; ++i)
      of_a == Along::sum ? load_box(&a, shared + i * slab, barrier, 0, 64 * i)
                         : load_box(&a, shared + i * slab, barrier, 64 * i, 0);
    for (int i = 0; i < columns / 64; ++i)
      of_b == Along::sum ? load_box(&b, shared_b + i * slab, barrier, 0, 64 * i)
                         : load_box(&b, shared_b + i * slab, barrier, 64 * i, 0);
  }
  __syncthreads();
  wait(barrier, 0);
  const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  const auto operand = [](Along along, const void* p) {
    return along == Along::sum ? operand_of_rows(shared_address(p)) : operand_of_columns(shared_address(p), slab);
  };
  const Operand rows = operand(of_a, shared + warpgroup * slab), lines = operand(of_b, shared_b);
  float sum[columns / 2];
#pragma unroll
  for (float& s : sum) s = 0;
  fence_products();
#pragma unroll
  for (unsigned i = 0; i < 4; ++i)
    multiply_add<of_a, of_b>(sum, advanced(rows, i * (of_a == Along::sum ? 32 : 2048)),
                             advanced(lines, i * (of_b == Along::sum ? 32 : 2048)));
  commit_products();
  wait_all_products(sum);
  for (int i = 0; i < columns / 2; ++i) out[static_cast<int>(threadIdx.x) * columns / 2 + i] = sum[i];
}

template <Along of_a, Along of_b, int columns>
void check_bf16_product(std::uint64_t seed) {
  test::shuffle_card(seed);
  Random random(seed);
  constexpr std::size_t sums = 64;
  const auto drawn = [&](std::size_t count) {
    std::vector<bfloat16> v(count);
    for (bfloat16& x : v) x = bfloat16(static_cast<float>(random() % 15) - 7);  // all sums are exact
    return v;
  };
  const auto a = drawn(128 * sums), b = drawn(columns * sums);
  const Memory a_memory(a), b_memory(b), out(256 * columns / 2 * 4);
  const auto map = [](const Memory& m, Along along, std::int64_t lines) {
    const std::int64_t inner = along == Along::sum ? 64 : lines, outer = along == Along::sum ? lines : 64;
    return encode({m.get(), MappedTensor::Element::bf16, 2, {inner, outer}, {2 * inner}, {64, 64}, Swizzle::span_128});
  };
  launch(stream(), one_bf16_product<of_a, of_b, columns>, 1, 256, (128 + columns) * 128 + 8, map(a_memory, of_a, 128),
         map(b_memory, of_b, columns), static_cast<float*>(out.get()));
  const auto got = out.values<float>();
  const auto at = [](const std::vector<bfloat16>& m, Along along, std::size_t lines, std::size_t line, std::size_t k) {
    return static_cast<double>(static_cast<float>(m[along == Along::sum ? line * sums + k : k * lines + line]));
  };
  for (std::size_t thread = 0; thread < 256; ++thread)
    for (std::size_t i = 0; i < columns / 2; ++i) {
      const std::size_t row = thread / 32 * 16 + thread % 32 / 4 + i % 4 / 2 * 8;
      const std::size_t column = i / 4 * 8 + thread % 4 * 2 + i % 2;
      double sum = 0;
      for (std::size_t k = 0; k < sums; ++k) sum += at(a, of_a, 128, row, k) * at(b, of_b, columns, column, k);
      ASSERT_EQ(static_cast<double>(got[thread * columns / 2 + i]), sum) << "row " << row << " column " << column;
    }
}

TEST(HopperPtx, ProductsOfBf16ReadRowsAndSlabs) {
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    check_bf16_product<Along::sum, Along::sum, 128>(seed);
    check_bf16_product<Along::sum, Along::sum, 256>(seed);
    check_bf16_product<Along::sum, Along::lines, 128>(seed);
    check_bf16_product<Along::sum, Along::lines, 256>(seed);
    check_bf16_product<Along::lines, Along::sum, 128>(seed);
    check_bf16_product<Along::lines, Along::lines, 128>(seed);
    check_bf16_product<Along::lines, Along::lines, 256>(seed);
  }
}

__global__ void __launch_bounds__(32, 1) round_pairs(const float* from, std::uint32_t* out) {
  out[threadIdx.x] = round_to_bfloat16(from[2 * threadIdx.x], from[2 * threadIdx.x + 1]);
}

TEST(HopperPtx, PairsAreRoundedAsElsewhere) {
  Random random(3);
  std::vector<float> values(64);
  for (float& v : values) v = std::bit_cast<float>(static_cast<std::uint32_t>(random()) & 0xbfffffffu);
  values[0] = 1.00390625F, values[1] = 1.01171875F;  // ties
  values[2] = std::bit_cast<float>(0x7f7fffffu), values[3] = std::bit_cast<float>(0x00000001u);
  const Memory from(values), out(128);
  launch(stream(), round_pairs, 1, 32, 0, static_cast<const float*>(from.get()),
         static_cast<std::uint32_t*>(out.get()));
  const auto got = out.values<std::uint16_t>();
  for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(got[i], bfloat16(values[i]).bits) << values[i];
}

}  // namespace
}  // namespace fourmi::cuda::hopper
