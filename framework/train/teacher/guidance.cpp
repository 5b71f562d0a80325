#include "framework/train/teacher/guidance.h"

namespace fourmi {

void refuse_device(const Arena& arena, const char* mode) {
  if (arena.device() == Device::cpu) return;
  throw Error(ExitStatus::environment, "distill.mode",
              fmt::format("found {} on a GPU, for which the divergences have no kernels yet, expected the CPU", mode),
              "Set run.device: cpu");
}

}  // namespace fourmi
