// Runs a body over rows with threads, compiled for the instruction set that the stream chose. A body is a struct with
//   FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const;
// no sum of it may cross a row, so that neither threads nor instruction sets change a bit.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/numerics/target.h"
#include "kernels/runtime/stream.h"

namespace fourmi {

namespace detail {
template <class Body>
void run_base(const void* body, std::int64_t begin, std::int64_t end) {
  (*static_cast<const Body*>(body))(begin, end);
}
template <class Body>
FOURMI_AVX512 void run_avx512(const void* body, std::int64_t begin, std::int64_t end) {
  (*static_cast<const Body*>(body))(begin, end);
}
}  // namespace detail

/// Rows per thread's share such that waking a thread is worth it.
inline std::int64_t grain_of(std::int64_t elements_per_row) {
  return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, elements_per_row));
}

/// The whole of it on the calling thread, in order.
template <class Body>
void run_rows_here(const Stream& stream, std::int64_t num_rows, const Body& body) {
  if (num_rows == 0) return;
  (stream.isa() == Isa::avx512 ? detail::run_avx512<Body> : detail::run_base<Body>)(&body, 0, num_rows);
}

template <class Body>
void run_rows(const Stream& stream, std::int64_t num_rows, std::int64_t grain, const Body& body) {
  struct Call {
    void (*run)(const void*, std::int64_t, std::int64_t);
    const Body* body;
  };
  const Call call{stream.isa() == Isa::avx512 ? detail::run_avx512<Body> : detail::run_base<Body>, &body};
  stream.pool().parallel_for(num_rows, grain,
                             [&call](std::int64_t begin, std::int64_t end) { call.run(call.body, begin, end); });
}

/// The stream without 512-bit vectors, for bodies whose inner loops are too short for them to pay.
inline Stream short_vectors(const Stream& stream) {
  return Stream(stream.pool(), std::min(stream.isa(), Isa::avx2));
}

}  // namespace fourmi
