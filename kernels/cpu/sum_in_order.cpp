#include "kernels/ops/sum_in_order.h"

#include <algorithm>
#include <type_traits>

#include "kernels/numerics/fixed128.h"
#include "kernels/ops/door.h"

namespace fourmi {
namespace {

constexpr std::int64_t block = 512;  // elements summed at a time, so that the running sum stays in L1

template <class T>
T add(T a, T b) {
  if constexpr (sizeof(T) == 16) {
    return static_cast<T>(static_cast<uint128>(a) + static_cast<uint128>(b));
  } else {
    return a + b;
  }
}

template <class In, class Out>
Out convert_sum(In x) {
  if constexpr (std::is_same_v<In, Out>) {
    return x;
  } else {
    return from_fixed128<Out>(x);
  }
}

template <class In, class Out>
void sum(std::span<const Tensor> parts, const Tensor& y, Into into) {
  In running[block];
  Out* const out = y.as<Out>();
  const std::int64_t n = y.num_elements();
  for (std::int64_t begin = 0; begin < n; begin += block) {
    const std::int64_t m = std::min(block, n - begin);
    std::copy_n(parts[0].as<In>() + begin, m, running);
    for (std::size_t p = 1; p < parts.size(); ++p) {
      const In* const next = parts[p].as<In>() + begin;
      for (std::int64_t i = 0; i < m; ++i) running[i] = add(running[i], next[i]);
    }
    if constexpr (std::is_same_v<In, Out>)
      if (into == Into::add)
        for (std::int64_t i = 0; i < m; ++i) running[i] = add(out[begin + i], running[i]);
    for (std::int64_t i = 0; i < m; ++i) out[begin + i] = convert_sum<In, Out>(running[i]);
  }
}

}  // namespace

void sum_in_order(const Stream& stream, std::span<const Tensor> parts, const Tensor& y, Into into) {
  FOURMI_DOOR(sum_in_order, stream, parts, y, into);
  FOURMI_CHECK(!parts.empty() && std::ssize(parts) <= max_parts_in_order, "a sum of {} parts", parts.size());
  const DType in = parts[0].dtype;
  for (const Tensor& p : parts)
    FOURMI_CHECK(p.dtype == in && p.num_elements() == y.num_elements(), "a part {} {} of a sum of {} into {}",
                 name_of(p.dtype), to_string(p.shape), name_of(in), to_string(y.shape));
  FOURMI_CHECK(into == Into::write || in == y.dtype, "a sum of {} added to {}", name_of(in), name_of(y.dtype));
  const auto is = [&](DType from, DType to) { return in == from && y.dtype == to; };
  if (is(DType::f32, DType::f32)) return sum<float, float>(parts, y, into);
  if (is(DType::f64, DType::f64)) return sum<double, double>(parts, y, into);
  if (is(DType::fx128, DType::fx128)) return sum<int128, int128>(parts, y, into);
  if (is(DType::fx128, DType::f32)) return sum<int128, float>(parts, y, into);
  if (is(DType::fx128, DType::f64)) return sum<int128, double>(parts, y, into);
  FOURMI_CHECK(false, "a sum of {} into {}", name_of(in), name_of(y.dtype));
}

}  // namespace fourmi
