// cuDNN as a table of what is asked of it before its C++ frontend takes over (cudnn/attention_plans.cpp).
#pragma once

#include <cstddef>

#include "kernels/cuda/library/shared_library.h"

namespace fourmi::cuda::library {

struct Cudnn {
  std::size_t (*get_version)() = nullptr;

  /// Packed rows with their log-sum-exp, heads of 192 and 128 in both directions.
  static constexpr Wanted wanted{"cuDNN", "libcudnn.so.9",
                                 "Install cuDNN 9 for CUDA 13, or name its folder in LD_LIBRARY_PATH", 91300};
  std::vector<Symbol> symbols() { return {{"cudnnGetVersion", reinterpret_cast<void**>(&get_version)}}; }
  std::int64_t version() const { return static_cast<std::int64_t>(get_version()); }
};

}  // namespace fourmi::cuda::library
