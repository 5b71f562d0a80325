// The denormal rule of bf16 arithmetic (docs/numerics.md "Linear"): vdpbf16ps takes denormal inputs as zero and returns
// zero for denormal results whatever the control register says. Code that imitates it with ordinary fused multiply-adds
// sets the control register to do the same.
#pragma once

#include <immintrin.h>

namespace fourmi {

/// While it lives (and is active), this thread's SSE and AVX arithmetic takes denormals as zero and flushes results
/// that are tiny after rounding to zero. Compilers may move arithmetic across the change of the register: keep the
/// guarded arithmetic in a function that is not inlined and returns through memory.
class FlushDenormals {
 public:
  explicit FlushDenormals(bool active = true) : before_(_mm_getcsr()) {
    if (active) _mm_setcsr(before_ | flush_to_zero | denormals_are_zero);
  }
  ~FlushDenormals() { _mm_setcsr(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  static constexpr unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x0040;
  unsigned before_;
};

}  // namespace fourmi
