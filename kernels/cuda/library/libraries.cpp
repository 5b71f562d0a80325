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

LibraryAttention* Libraries::attention(const CudaStream& stream) {
  if (!uses_cudnn_ || !attention_plans_missing().empty()) return nullptr;
  if (!cudnn_) cudnn_ = std::make_unique<Library<Cudnn>>(*linker_);
  if (!cudnn_->get()) return nullptr;
  if (!attention_)
    attention_ = std::make_unique<LibraryAttention>(open_attention_plans(*linker_, stream.handle()), stream.handle());
  return attention_.get();
}

std::vector<std::string> library_facts(const Linker* linker) {
  const Linker& from = linker ? *linker : machines_linker();
  const Library<CublasLt> cublaslt(from);
  const Library<Cudnn> cudnn(from);
  const std::string without = attention_plans_missing();
  const bool has_attention = cudnn.get() && without.empty();
  return {cublaslt.text() + (cublaslt.get() ? "; computes bf16 products of 64 x 64 x 64 and more"
                                            : "; bf16 products are computed by fourmi's own kernels"),
          cudnn.text() + (without.empty() ? "" : "; " + without) +
              (has_attention ? "; computes attention in bf16 over whole documents"
                             : "; attention is computed by fourmi's own kernels")};
}

}  // namespace fourmi::cuda::library
