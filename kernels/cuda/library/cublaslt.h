// cuBLASLt as a table of the functions that are used.
#pragma once

#include <cublasLt.h>

#include "kernels/cuda/library/shared_library.h"

#define FOURMI_CUBLASLT(ONE)                \
  ONE(cublasLtGetVersion)                   \
  ONE(cublasLtGetStatusString)              \
  ONE(cublasLtCreate)                       \
  ONE(cublasLtDestroy)                      \
  ONE(cublasLtMatmulDescCreate)             \
  ONE(cublasLtMatmulDescDestroy)            \
  ONE(cublasLtMatmulDescSetAttribute)       \
  ONE(cublasLtMatrixLayoutCreate)           \
  ONE(cublasLtMatrixLayoutDestroy)          \
  ONE(cublasLtMatmulPreferenceCreate)       \
  ONE(cublasLtMatmulPreferenceDestroy)      \
  ONE(cublasLtMatmulPreferenceSetAttribute) \
  ONE(cublasLtMatmulAlgoGetHeuristic)       \
  ONE(cublasLtMatmul)

namespace fourmi::cuda::library {

struct CublasLt {
#define FOURMI_FUNCTION(name) decltype(&::name) name = nullptr;
  FOURMI_CUBLASLT(FOURMI_FUNCTION)
#undef FOURMI_FUNCTION

  static constexpr Wanted wanted{"cuBLASLt", "libcublasLt.so.13",
                                 "Install cuBLAS of CUDA 13, or name its folder in LD_LIBRARY_PATH", 130000};
  std::vector<Symbol> symbols() {
#define FOURMI_FUNCTION(name) {#name, reinterpret_cast<void**>(&name)},
    return {FOURMI_CUBLASLT(FOURMI_FUNCTION)};
#undef FOURMI_FUNCTION
  }
  std::int64_t version() const {
    return static_cast<std::int64_t>(cublasLtGetVersion());
  }
};

}  // namespace fourmi::cuda::library
