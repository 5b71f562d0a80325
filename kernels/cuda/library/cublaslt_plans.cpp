#include "kernels/cuda/library/cublaslt_plans.h"

#include <utility>

#include "kernels/cuda/check.h"

namespace fourmi::cuda::library {
namespace {

cudaDataType_t data_type(Element e) {
  switch (e) {
    case Element::bf16:
      return CUDA_R_16BF;
    case Element::f32:
      return CUDA_R_32F;
    case Element::e4m3:
      return CUDA_R_8F_E4M3;
  }
  FOURMI_CHECK(false, "an element");
}

cublasLtMatmulMatrixScale_t scale_mode(Scales scales) {
  return scales == Scales::squares ? CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F
                                   : CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
}

}  // namespace

struct CublasLtPlans::Plan {
  const CublasLt& library;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  bool has_algorithm = false;
  cublasLtMatmulAlgo_t algorithm{};

  explicit Plan(const CublasLt& l) : library(l) {}
  ~Plan() {
    for (cublasLtMatrixLayout_t layout : {a, b, d})
      if (layout) library.cublasLtMatrixLayoutDestroy(layout);
    if (operation) library.cublasLtMatmulDescDestroy(operation);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  template <class T>
  cublasStatus_t set(cublasLtMatmulDescAttributes_t attribute, const T& value) const {
    return library.cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(T));
  }
};

CublasLtPlans::CublasLtPlans(const CublasLt& library) : library_(&library) {
  check(library.cublasLtCreate(&handle_), "a handle");
}

CublasLtPlans::~CublasLtPlans() {
  plans_.clear();
  library_->cublasLtDestroy(handle_);
}

void CublasLtPlans::check(cublasStatus_t status, const char* what) const {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ExitStatus::environment, "cuBLASLt",
              fmt::format("{}: {}, success was expected", what, library_->cublasLtGetStatusString(status)),
              "Run fourmi doctor; what came before in the log may say more");
}

void CublasLtPlans::set_scales(const Plan& p, const Matmul& m, const MatmulOperands& operands) const {
  if (m.a_scales == Scales::none) return;
  check(p.set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, operands.a_scales), "scales of the first matrix");
  check(p.set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, operands.b_scales), "scales of the second matrix");
}

const CublasLtPlans::Plan& CublasLtPlans::plan(const Matmul& m, const MatmulOperands& operands) {
  if (const auto known = plans_.find(m); known != plans_.end()) return *known->second;
  FOURMI_CHECK(trouble(m) == nullptr, "a product by cuBLASLt: {}", trouble(m));
  const CublasLt& l = *library_;
  auto p = std::make_unique<Plan>(l);
  check(l.cublasLtMatmulDescCreate(&p->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "an operation");
  const cublasOperation_t as_it_is = CUBLAS_OP_N, transposed = CUBLAS_OP_T;
  check(p->set(CUBLASLT_MATMUL_DESC_TRANSA, m.transposed_a ? transposed : as_it_is), "an operation's first matrix");
  check(p->set(CUBLASLT_MATMUL_DESC_TRANSB, m.transposed_b ? transposed : as_it_is), "an operation's second matrix");
  if (m.a_scales != Scales::none) {
    check(p->set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, scale_mode(m.a_scales)), "scales of the first matrix");
    check(p->set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, scale_mode(m.b_scales)), "scales of the second matrix");
    set_scales(*p, m, operands);
  }
  for (const auto& [layout, x] : {std::pair{&p->a, &m.a}, std::pair{&p->b, &m.b}, std::pair{&p->d, &m.d}})
    check(l.cublasLtMatrixLayoutCreate(layout, data_type(x->element), static_cast<std::uint64_t>(x->rows),
                                       static_cast<std::uint64_t>(x->columns), x->stride),
          "a layout");

  cublasLtMatmulPreference_t preference = nullptr;
  check(l.cublasLtMatmulPreferenceCreate(&preference), "preferences");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    return l.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value));
  };
  const std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, alignment = 16;
  cublasStatus_t status = prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, scratch_bytes);
  if (status == CUBLAS_STATUS_SUCCESS) status = prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
  for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    if (status == CUBLAS_STATUS_SUCCESS) status = prefer(attribute, alignment);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  cublasStatus_t answer = CUBLAS_STATUS_SUCCESS;
  if (status == CUBLAS_STATUS_SUCCESS)
    answer =
        l.cublasLtMatmulAlgoGetHeuristic(handle_, p->operation, p->a, p->b, p->d, p->d, preference, 1, &found, &count);
  l.cublasLtMatmulPreferenceDestroy(preference);
  check(status, "preferences");
  if (answer != CUBLAS_STATUS_NOT_SUPPORTED) check(answer, "an algorithm");
  p->has_algorithm = answer == CUBLAS_STATUS_SUCCESS && count > 0 && found.state == CUBLAS_STATUS_SUCCESS;
  p->algorithm = found.algo;
  if (!p->has_algorithm) ++num_refused_;
  return *plans_.emplace(m, std::move(p)).first->second;
}

bool CublasLtPlans::multiply(cudaStream_t stream, const Matmul& m, const MatmulOperands& operands, void* scratch) {
  const Plan& p = plan(m, operands);
  if (!p.has_algorithm) return false;
  set_scales(p, m, operands);
  const float one = 1, added = operands.c ? 1 : 0;
  const void* const c = operands.c ? operands.c : operands.d;
  check(library_->cublasLtMatmul(handle_, p.operation, &one, operands.a, p.a, operands.b, p.b, &added, c, p.d,
                                 operands.d, p.d, &p.algorithm, scratch, scratch_bytes, stream),
        "a product");
  ++num_products_;
  return true;
}

}  // namespace fourmi::cuda::library
