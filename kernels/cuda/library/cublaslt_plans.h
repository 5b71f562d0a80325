// Products by cuBLASLt. What a product needs of the library (descriptors, and the algorithm that its heuristics name)
// is asked for once a shape and kept: a steady step asks for nothing and allocates nothing.
//
// The same call has the same bits: the algorithm depends on the shape, the library's version and the kind of card alone
// (no clock, no measurement, and addresses count as multiples of 16 bytes wherever they lie), scratch memory is as
// large in each call, and of the ways to split a sum only those are allowed that join parts in a step of their own.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <memory>

#include "kernels/cuda/library/cublaslt.h"
#include "kernels/cuda/library/matmul.h"

namespace fourmi::cuda::library {

/// Of the device. c: null, or what is added; may be d. Scales as Scales says; null where a matrix has none.
struct MatmulOperands {
  const void *a = nullptr, *b = nullptr, *c = nullptr;
  void* d = nullptr;
  const float *a_scales = nullptr, *b_scales = nullptr;
};

class CublasLtPlans {
 public:
  /// Scratch memory that algorithms may use.
  static constexpr std::size_t scratch_bytes = std::size_t{32} << 20;

  explicit CublasLtPlans(const CublasLt& library);
  ~CublasLtPlans();
  CublasLtPlans(const CublasLtPlans&) = delete;
  CublasLtPlans& operator=(const CublasLtPlans&) = delete;

  /// False where the library has no algorithm for this product: nothing was done. `scratch`: scratch_bytes of them,
  /// aligned to 256.
  bool multiply(cudaStream_t stream, const Matmul&, const MatmulOperands&, void* scratch);

  std::int64_t num_products() const { return num_products_; }
  /// Shapes that the library has no algorithm for.
  std::int64_t num_refused() const { return num_refused_; }

 private:
  struct Plan;
  const Plan& plan(const Matmul&, const MatmulOperands&);
  void set_scales(const Plan&, const Matmul&, const MatmulOperands&) const;
  void check(cublasStatus_t status, const char* what) const;

  const CublasLt* library_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<Matmul, std::unique_ptr<Plan>> plans_;
  std::int64_t num_products_ = 0, num_refused_ = 0;
};

}  // namespace fourmi::cuda::library
