#include "parallel/nccl/windows.h"

#include <dlfcn.h>

#include "kernels/runtime/error.h"

namespace fourmi::nccl {

WindowLibrary load_windows(const std::string& name) {
  WindowLibrary library{.functions = load(name), .windows = {}};
  library.functions->get_version(&library.version);
  void* const handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);  // open already, and stays so
  for_each_window_function(library.windows, [&](const char* function, auto& slot) {
    slot = handle ? reinterpret_cast<std::decay_t<decltype(slot)>>(::dlsym(handle, function)) : nullptr;
    if (!slot && static_cast<void*>(&slot) != &library.windows.get_lsa_device_pointer)
      throw Error(ExitStatus::environment, "NCCL",
                  fmt::format("{} (version {}) has no {}, which windows need", name, library.version, function),
                  "Install NCCL 2.30 or newer where the loader finds it, or choose hierarchical or all-to-all");
  });
  return library;
}

}  // namespace fourmi::nccl
