// What a stream has of NVIDIA's libraries. They are opened, and their handles made, when an operation first asks; a
// machine that lacks them, or a run that never asks, does without.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/library/attention.h"
#include "kernels/cuda/library/cublaslt_plans.h"
#include "kernels/cuda/library/cudnn.h"

namespace fourmi::cuda::library {

class Libraries {
 public:
  /// `linker`: outlives it; null: the machine's.
  explicit Libraries(const Linker* linker = nullptr);
  ~Libraries();
  Libraries(const Libraries&) = delete;
  Libraries& operator=(const Libraries&) = delete;

  /// Null where cuBLASLt is missing, or is not to be used: the caller then has another way.
  CublasLtPlans* cublaslt();
  /// Throws Error(environment) where it is missing: for a caller who has none.
  CublasLtPlans& need_cublaslt();

  /// cuDNN's attention for `stream`, whose libraries these are. Null where cuDNN or its frontend is missing, or is not
  /// to be used.
  LibraryAttention* attention(const CudaStream& stream);

  /// Off: products, attention are ours though the library is there. For who compares the two, between operations.
  void use_cublaslt(bool use) { uses_cublaslt_ = use; }
  void use_cudnn(bool use) { uses_cudnn_ = use; }

 private:
  const Library<CublasLt>& opened_cublaslt();

  const Linker* linker_;
  bool uses_cublaslt_ = true, uses_cudnn_ = true;
  std::unique_ptr<Library<CublasLt>> cublaslt_;
  std::unique_ptr<CublasLtPlans> plans_;
  std::unique_ptr<Library<Cudnn>> cudnn_;
  std::unique_ptr<LibraryAttention> attention_;
};

/// One line a library, for people: what is there, what it is used for, and what computes where it is not.
std::vector<std::string> library_facts(const Linker* linker = nullptr);

}  // namespace fourmi::cuda::library
