// In place of kernels/cuda/library/system_linker.h: the card that is emulated on the CPU has libraries of its own.
#pragma once

#include <cstring>
#include <iterator>

#include "kernels/cuda/library/cublaslt.h"
#include "kernels/cuda/library/shared_library.h"

namespace fourmi::cuda::library {

class SystemLinker final : public Linker {
 public:
  void* open(const char* soname) const override {
    static char opened[2];
    const char* const names[] = {"libcublasLt.so.13", "libcudnn.so.9"};
    for (std::size_t i = 0; i < std::size(names); ++i)
      if (std::strcmp(soname, names[i]) == 0) return &opened[i];
    return nullptr;
  }
  void* find(void*, const char* symbol) const override {
#define FOURMI_FUNCTION(name) \
  if (std::strcmp(symbol, #name) == 0) return reinterpret_cast<void*>(&::name);
    FOURMI_CUBLASLT(FOURMI_FUNCTION)
#undef FOURMI_FUNCTION
    std::size_t (*const version)() = +[]() -> std::size_t { return 91900; };
    return std::strcmp(symbol, "cudnnGetVersion") == 0 ? reinterpret_cast<void*>(version) : nullptr;
  }
  std::string trouble() const override {
    return "not on the emulated card";
  }
};

}  // namespace fourmi::cuda::library
