#include "kernels/cuda/library/product.h"

#include "kernels/cuda/library/libraries.h"

namespace fourmi::cuda::library {

bool multiply(const CudaStream& stream, const linear::Problem& p) {
  CublasLtPlans* const plans = stream.libraries().cublaslt();
  if (!plans) return false;
  const MatmulOperands operands{.a = p.second.data, .b = p.first.data, .c = p.residual.data, .d = p.out.data};
  static_assert(CublasLtPlans::scratch_bytes <= CudaStream::workspace_bytes);
  return plans->multiply(stream.handle(), matmul_of(p.descriptor()), operands,
                         stream.workspace<std::byte>(CublasLtPlans::scratch_bytes));
}

}  // namespace fourmi::cuda::library
