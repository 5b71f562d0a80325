#include "parallel/nccl/library.h"

#include <dlfcn.h>

#include "kernels/runtime/error.h"

namespace fourmi::nccl {

namespace {

constexpr const char* remedy =
    "Install NCCL 2.22 or newer (Debian and Ubuntu: libnccl2 of NVIDIA's repository) where the loader finds it, or "
    "start one rank";

}  // namespace

std::shared_ptr<const Functions> load(const std::string& name) {
  void* library = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* why = ::dlerror();
    throw Error(ExitStatus::environment, "NCCL",
                fmt::format("{} could not be opened ({}), ranks on GPUs move their tensors by it", name,
                            why ? why : "no reason was given"),
                remedy);
  }
  auto functions = std::make_shared<Functions>();
  for_each_function(*functions, [&](const char* function, auto& slot) {
    slot = reinterpret_cast<std::decay_t<decltype(slot)>>(::dlsym(library, function));
    if (!slot)
      throw Error(ExitStatus::environment, "NCCL", fmt::format("{} has no {}, it was expected", name, function),
                  remedy);
  });
  int version = 0;
  if (functions->get_version(&version) != success || version < least_version)
    throw Error(ExitStatus::environment, "NCCL",
                fmt::format("version {} of {} was found, at least {} was expected", version, name, least_version),
                remedy);
  return functions;
}

}  // namespace fourmi::nccl
