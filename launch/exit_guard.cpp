#include "launch/exit_guard.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>

#include "framework/checkpoint/h5_exit.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

std::atomic<bool> guarded{false};  // an exit handler has no other way to know

void on_exit_of_a_library() {
  if (!guarded) return;
  constexpr char text[] =
      "fourmi: error: memory: a library ended the program, expected it to report its failure. It does so where memory "
      "is refused: "
      "fourmi train RECIPE --dry-run shows what each rank needs\n";
  const bool written = ::write(STDERR_FILENO, text, sizeof text - 1) > 0;  // no memory is needed for this
  static_cast<void>(written);
  ::_exit(static_cast<int>(ExitStatus::environment));
}

}  // namespace

ExitGuard::ExitGuard() {
  keep_hdf5_out_of_exit();  // handlers run in reverse: one made later would come before ours
  static_cast<void>(std::atexit(on_exit_of_a_library));
  guarded = true;
}

ExitGuard::~ExitGuard() {
  guarded = false;
}

}  // namespace fourmi
