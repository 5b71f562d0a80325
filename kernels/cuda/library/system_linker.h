// The machine's own linker. Where it looks is the system's matter: its cache, then LD_LIBRARY_PATH.
#pragma once

#include <dlfcn.h>

#include "kernels/cuda/library/shared_library.h"

namespace fourmi::cuda::library {

class SystemLinker final : public Linker {
 public:
  void* open(const char* soname) const override { return dlopen(soname, RTLD_NOW | RTLD_LOCAL); }
  void* find(void* opened, const char* symbol) const override { return dlsym(opened, symbol); }
  std::string trouble() const override {
    const char* const said = dlerror();
    return said ? said : "no reason given";
  }
};

}  // namespace fourmi::cuda::library
