// Threads that the system may refuse.
#pragma once

#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "kernels/runtime/error.h"

namespace fourmi {

/// Starts a thread that calls `work`. Throws Error(environment) that names `what` where the system has no memory or no
/// number for it.
template <typename Work>
std::thread start_thread(std::string_view what, Work&& work) {
  try {
    return std::thread(std::forward<Work>(work));
  } catch (const std::system_error& error) {
    throw Error(ExitStatus::environment, std::string(what),
                fmt::format("no thread: {}, expected one more", error.code().message()),
                "It needs memory for its stack and a free process number: ulimit -v, ulimit -u");
  }
}

}  // namespace fourmi
