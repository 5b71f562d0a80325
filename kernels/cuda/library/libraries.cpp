#include "kernels/cuda/library/libraries.h"

#include "kernels/cuda/library/system_linker.h"

namespace fourmi::cuda::library {
namespace {

const Linker& machines_linker() {
  static const SystemLinker linker;
  return linker;
}

}  // namespace

Libraries::Libraries(const Linker* linker) : linker_(linker ? linker : &machines_linker()) {}
Libraries::~Libraries() = default;

const Library<CublasLt>& Libraries::opened_cublaslt() {
  if (!cublaslt_) cublaslt_ = std::make_unique<Library<CublasLt>>(*linker_);
  return *cublaslt_;
}

CublasLtPlans& Libraries::need_cublaslt() {
  if (!plans_) plans_ = std::make_unique<CublasLtPlans>(opened_cublaslt().need());
  return *plans_;
}

CublasLtPlans* Libraries::cublaslt() {
  return uses_cublaslt_ && opened_cublaslt().get() ? &need_cublaslt() : nullptr;
}

std::vector<std::string> library_facts(const Linker* linker) {
  const Library<CublasLt> cublaslt(linker ? *linker : machines_linker());
  return {cublaslt.text() + (cublaslt.get() ? "; computes bf16 products of 64 x 64 x 64 and more"
                                            : "; bf16 products are computed by fourmi's own kernels")};
}

}  // namespace fourmi::cuda::library
