// cuBLASLt as its documentation has it, slowly. It refuses what the library refuses on a Hopper card: e4m3 elements
// that do not lie along the sum, squares on both sides, columns and scales that are not aligned.
#include "tests/cuda_on_cpu/cublasLt.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/numerics/bfloat16.h"
#include "kernels/numerics/float8.h"

struct CublasLtOnCpu {
  int created = 1;
};
struct CublasLtOnCpuOperation {
  std::int32_t transposed[2] = {CUBLAS_OP_N, CUBLAS_OP_N}, modes[2] = {};
  const float* scales[2] = {};
};
struct CublasLtOnCpuLayout {
  cudaDataType_t type;
  std::int64_t rows, columns, stride;
};
struct CublasLtOnCpuPreference {
  std::uint64_t workspace = 0;
  std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK, alignment[4] = {256, 256, 256, 256};
};

namespace {

using Layout = CublasLtOnCpuLayout;
using Operation = CublasLtOnCpuOperation;

std::int64_t size_of(cudaDataType_t t) {
  return t == CUDA_R_32F ? 4 : t == CUDA_R_16BF ? 2 : 1;
}

double load(const Layout& m, const void* data, std::int64_t row, std::int64_t column) {
  const auto* const at = static_cast<const std::byte*>(data) + (column * m.stride + row) * size_of(m.type);
  if (m.type == CUDA_R_32F) {
    float f;
    std::memcpy(&f, at, 4);
    return static_cast<double>(f);
  }
  if (m.type == CUDA_R_16BF) {
    std::uint16_t bits;
    std::memcpy(&bits, at, 2);
    return static_cast<double>(static_cast<float>(fourmi::bfloat16::from_bits(bits)));
  }
  return static_cast<double>(static_cast<float>(fourmi::float8_e4m3::from_bits(static_cast<std::uint8_t>(*at))));
}

void store(const Layout& m, void* data, std::int64_t row, std::int64_t column, double value) {
  auto* const at = static_cast<std::byte*>(data) + (column * m.stride + row) * size_of(m.type);
  const auto f = static_cast<float>(value);
  if (m.type == CUDA_R_32F) {
    std::memcpy(at, &f, 4);
  } else {
    const std::uint16_t bits = fourmi::bfloat16(f).bits;
    std::memcpy(at, &bits, 2);
  }
}

/// One input: lines by the sum.
struct Side {
  const Layout& layout;
  bool sum_is_rows;
  std::int64_t lines() const { return sum_is_rows ? layout.columns : layout.rows; }
  std::int64_t sum() const { return sum_is_rows ? layout.rows : layout.columns; }
  double value(const void* data, std::int64_t line, std::int64_t k) const {
    return sum_is_rows ? load(layout, data, k, line) : load(layout, data, line, k);
  }
};

double scale(int mode, const float* scales, std::int64_t lines, std::int64_t sum, std::int64_t line, std::int64_t k) {
  if (mode == CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F) return static_cast<double>(scales[k / 128 * lines + line]);
  const std::int64_t along = ((sum + 127) / 128 + 3) / 4 * 4;
  return static_cast<double>(scales[line / 128 * along + k / 128]);
}

bool aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

cublasStatus_t judge(const Operation& o, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const Side first{a, o.transposed[0] == CUBLAS_OP_T}, second{b, o.transposed[1] == CUBLAS_OP_N};
  if (first.sum() != second.sum() || first.lines() != d.rows || second.lines() != d.columns || c.rows != d.rows ||
      c.columns != d.columns || c.type != d.type || a.type != b.type)
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const Layout* x : {&a, &b, &c, &d})
    if (x->stride < x->rows) return CUBLAS_STATUS_INVALID_VALUE;
  const bool scaled = a.type == CUDA_R_8F_E4M3;
  if (d.type == CUDA_R_8F_E4M3 || a.type == CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!scaled) return o.modes[0] == 0 && o.modes[1] == 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
  if (o.transposed[0] != CUBLAS_OP_T || o.transposed[1] != CUBLAS_OP_N) return CUBLAS_STATUS_NOT_SUPPORTED;
  for (const Layout* x : {&a, &b, &d})
    if (x->stride * size_of(x->type) % 16 != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  constexpr int lines = CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F, squares = CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
  for (const int mode : o.modes)
    if (mode != lines && mode != squares) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (o.modes[0] == squares && o.modes[1] == squares) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (d.rows % 4 != 0 || d.columns % 4 != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  for (const float* s : o.scales)
    if (!s || !aligned(s)) return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t destroy(T* p) {
  delete p;
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t read(T& to, const void* from, std::size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

std::size_t cublasLtGetVersion() {
  return 130100;
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_INVALID_VALUE ? "an invalid value"
         : status == CUBLAS_STATUS_SUCCESS     ? "success"
                                               : "not supported";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new CublasLtOnCpu;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return destroy(handle);
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* o, cublasComputeType_t compute, cudaDataType_t scalars) {
  if (compute != CUBLAS_COMPUTE_32F || scalars != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *o = new Operation;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t o) {
  return destroy(o);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t o, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return read(o->transposed[attribute - CUBLASLT_MATMUL_DESC_TRANSA], value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
      return read(o->scales[attribute - CUBLASLT_MATMUL_DESC_A_SCALE_POINTER], value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_MODE:
    case CUBLASLT_MATMUL_DESC_B_SCALE_MODE:
      return read(o->modes[attribute - CUBLASLT_MATMUL_DESC_A_SCALE_MODE], value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* m, cudaDataType type, std::uint64_t rows,
                                          std::uint64_t columns, std::int64_t stride) {
  *m = new Layout{type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns), stride};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t m) {
  return destroy(m);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* p) {
  *p = new CublasLtOnCpuPreference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
  return destroy(p);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    std::size_t bytes) {
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return read(p->workspace, value, bytes);
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) return read(p->reductions, value, bytes);
  return read(p->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t o, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t p, int asked,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  *count = 0;
  // Anything else may split sums in ways that differ from run to run, or hold for some addresses alone.
  if ((p->reductions & ~std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}) != 0 || asked < 1)
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const std::uint32_t alignment : p->alignment)
    if (alignment != 16) return CUBLAS_STATUS_INVALID_VALUE;
  if (const cublasStatus_t status = judge(*o, *a, *b, *c, *d); status != CUBLAS_STATUS_SUCCESS) return status;
  results[0] = {{{0x666f75726d69, p->workspace}}, p->workspace, CUBLAS_STATUS_SUCCESS, 1.0F, {}};
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t o, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t) {
  if (const cublasStatus_t status = judge(*o, *a_layout, *b_layout, *c_layout, *d_layout);
      status != CUBLAS_STATUS_SUCCESS)
    return status;
  if (algorithm->data[0] != 0x666f75726d69 || algorithm->data[1] > workspace_bytes ||
      reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0)
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const void* p : {a, b, c, static_cast<const void*>(d)})
    if (!p || !aligned(p)) return CUBLAS_STATUS_INVALID_VALUE;
  float by, added;
  std::memcpy(&by, alpha, 4), std::memcpy(&added, beta, 4);

  const cuda_on_cpu::MemoryOpen open;
  std::memset(workspace, 0xff, workspace_bytes);
  const Side first{*a_layout, o->transposed[0] == CUBLAS_OP_T}, second{*b_layout, o->transposed[1] == CUBLAS_OP_N};
  const std::int64_t lines[2] = {first.lines(), second.lines()}, sum = first.sum();
  std::vector<double> values[2];
  for (int s = 0; s < 2; ++s) {
    values[s].resize(static_cast<std::size_t>(lines[s] * sum));
    for (std::int64_t i = 0; i < lines[s]; ++i)
      for (std::int64_t k = 0; k < sum; ++k) {
        double v = s == 0 ? first.value(a, i, k) : second.value(b, i, k);
        if (o->modes[s] != 0) v *= scale(o->modes[s], o->scales[s], lines[s], sum, i, k);
        values[s][static_cast<std::size_t>(i * sum + k)] = v;
      }
  }
  for (std::int64_t j = 0; j < lines[1]; ++j)
    for (std::int64_t i = 0; i < lines[0]; ++i) {
      const double *x = &values[0][static_cast<std::size_t>(i * sum)],
                   *y = &values[1][static_cast<std::size_t>(j * sum)];
      double total = 0;
      for (std::int64_t k = 0; k < sum; ++k) total += x[k] * y[k];
      total *= static_cast<double>(by);
      if (added != 0) total += static_cast<double>(added) * load(*c_layout, c, i, j);
      store(*d_layout, d, i, j, total);
    }
  return CUBLAS_STATUS_SUCCESS;
}
