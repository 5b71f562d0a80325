// For tests that call Hopper's kernels themselves, not through an operation's door: a stream of the card, its memory,
// and operands with scales. Only for programs that are linked with a card.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cuda/stream.h"
#include "kernels/numerics/bfloat16.h"
#include "kernels/runtime/cuda_devices.h"
#include "kernels/runtime/device.h"

namespace fourmi::test::hopper {

using Random = std::mt19937_64;

inline double e4m3(std::uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  if ((bits & 127) == 127) return std::numeric_limits<double>::quiet_NaN();
  const double magnitude = exponent ? std::ldexp(8 + fraction, exponent - 10) : std::ldexp(fraction, -9);
  return bits & 128 ? -magnitude : magnitude;
}
inline std::uint8_t random_element(Random& random) {
  return static_cast<std::uint8_t>((random() & 128) | random() % 127);
}
inline float random_scale(Random& random) {
  return std::ldexp(1.0F + static_cast<float>(random() % 4096) / 4096, static_cast<int>(random() % 10) - 6);
}

/// A card of few multiprocessors, so that blocks have many tiles.
inline const cuda::CudaStream& stream(int multiprocessors = 3) {
  static const auto runtime = open_cuda_device(0);
  static const cuda::Card cards[] = {{0, 1, 227 << 10, 1 << 20, "one", {9, 0}},
                                     {0, 3, 227 << 10, 1 << 20, "three", {9, 0}}};
  static const cuda::CudaStream streams[] = {{cards[0], *runtime}, {cards[1], *runtime}};
  return streams[multiprocessors == 1 ? 0 : 1];
}

/// Memory of the card with 256 bytes of poison behind it, which nothing may change; before it was written it is poison
/// too.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_(bytes) {
    void* p = nullptr;
    cuda::check(cudaMalloc(&p, bytes + guard), "memory of a test");
    memory_ = p;
    cuda::check(cudaMemsetAsync(p, 0xff, bytes + guard, stream().handle()), "memory of a test");
    cuda::check(cudaStreamSynchronize(stream().handle()), "memory of a test");  // for other streams too
  }
  template <class T>
  explicit Memory(const std::vector<T>& values) : Memory(values.size() * sizeof(T)) {
    move(memory_, values.data(), bytes_, cudaMemcpyHostToDevice);
  }
  ~Memory() {
    std::vector<std::uint8_t> behind(guard);
    move(behind.data(), static_cast<std::uint8_t*>(memory_) + bytes_, guard, cudaMemcpyDeviceToHost);
    for (const std::uint8_t b : behind)
      if (b != 0xff) {
        ADD_FAILURE() << "written behind " << bytes_ << " bytes of the card";
        break;
      }
    cudaFree(memory_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* get() const { return memory_; }
  template <class T>
  std::vector<T> values() const {
    std::vector<T> v(bytes_ / sizeof(T));
    move(v.data(), memory_, bytes_, cudaMemcpyDeviceToHost);
    return v;
  }

 private:
  static void move(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    cuda::check(cudaMemcpyAsync(to, from, bytes, kind, stream().handle()), "memory of a test");
    cuda::check(cudaDeviceSynchronize(), "memory of a test");
  }
  static constexpr std::size_t guard = 256;
  void* memory_ = nullptr;
  std::size_t bytes_;
};

/// Rows of e4m3_rows or panels of e4m3_panels [E, N, K] on the host, by the definition in tensor.h; random.
class Scaled {
 public:
  Scaled(Random& random, DType dtype, std::int64_t E, std::int64_t N, std::int64_t K)
      : is_panels_(dtype == DType::e4m3_panels), N_(N), K_(K) {
    const std::int64_t matrix = is_panels_ ? ScaledFormat::panel_bytes(N, K) : N * ScaledFormat::row_bytes(dtype, K);
    bytes.assign(static_cast<std::size_t>(E * matrix), 0);
    for (std::int64_t e = 0; e < E; ++e)
      for (std::int64_t n = 0; n < N; ++n)
        for (std::int64_t k = 0; k < K; ++k) {
          bytes[element(e, n, k)] = random_element(random);
          if (k % 128 == 0 && (!is_panels_ || n % 128 == 0)) {
            const float s = random_scale(random);
            std::memcpy(&bytes[scale_at(e, n, k)], &s, 4);
          }
        }
  }
  float scale(std::int64_t e, std::int64_t n, std::int64_t k) const {
    float s;
    std::memcpy(&s, &bytes[scale_at(e, n, k)], 4);
    return s;
  }
  double value(std::int64_t e, std::int64_t n, std::int64_t k) const {
    return e4m3(bytes[element(e, n, k)]) * static_cast<double>(scale(e, n, k));
  }
  std::size_t element(std::int64_t e, std::int64_t n, std::int64_t k) const {
    return static_cast<std::size_t>(line(e, n) + k);
  }
  std::size_t scale_at(std::int64_t e, std::int64_t n, std::int64_t k) const {
    const std::int64_t rows = is_panels_ ? std::min<std::int64_t>(128, N_ - n / 128 * 128) : 1;
    return static_cast<std::size_t>(line(e, is_panels_ ? n / 128 * 128 : n) + rows * K_ + k / 128 * 4);
  }

  std::vector<std::uint8_t> bytes;

 private:
  std::int64_t line(std::int64_t e, std::int64_t n) const {
    if (!is_panels_) return (e * N_ + n) * ScaledFormat::row_bytes(DType::e4m3_rows, K_);
    return e * ScaledFormat::panel_bytes(N_, K_) + n / 128 * ScaledFormat::panel_bytes(128, K_) + n % 128 * K_;
  }
  bool is_panels_;
  std::int64_t N_, K_;
};

}  // namespace fourmi::test::hopper
