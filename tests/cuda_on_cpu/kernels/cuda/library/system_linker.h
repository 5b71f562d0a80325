// In place of kernels/cuda/library/system_linker.h: the card that is emulated on the CPU has a cuBLASLt of its own.
#pragma once

#include <cstring>

#include "kernels/cuda/library/cublaslt.h"
#include "kernels/cuda/library/shared_library.h"

namespace fourmi::cuda::library {

class SystemLinker final : public Linker {
 public:
  void* open(const char* soname) const override {
    return std::strcmp(soname, "libcublasLt.so.13") == 0 ? const_cast<char*>("opened") : nullptr;
  }
  void* find(void*, const char* symbol) const override {
#define FOURMI_FUNCTION(name) \
  if (std::strcmp(symbol, #name) == 0) return reinterpret_cast<void*>(&::name);
    FOURMI_CUBLASLT(FOURMI_FUNCTION)
#undef FOURMI_FUNCTION
    return nullptr;
  }
  std::string trouble() const override {
    return "not on the emulated card";
  }
};

}  // namespace fourmi::cuda::library
