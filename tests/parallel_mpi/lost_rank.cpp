// lost_rank HOW RANK FOLDER: rank RANK is lost while the others wait for it in MPI. Every rank that is told writes
// FOLDER/rank-<r>: lost rank, phase, step, reporter, exit status, seconds since the loss, when the loss was (steady
// clock).
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "kernels/runtime/error.h"
#include "parallel/watchdog.h"
#include "parallel/world.h"

namespace {

double seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void step(fourmi::World& world, const std::string& how, int lost, double& lost_at) {
  double now = seconds() + 0.1;  // all ranks know when it will happen
  world.group().broadcast(std::as_writable_bytes(std::span(&now, 1)), 0);
  lost_at = now;
  if (world.rank() == lost) {
    while (seconds() < now) usleep(1000);
    if (how == "sigkill") kill(getpid(), SIGKILL);
    if (how == "sigsegv") raise(SIGSEGV);
    if (how == "exit_0") _exit(0);
    throw fourmi::Error(fourmi::ExitStatus::environment, "a test", "no memory, expected some");
  }
  world.group().barrier();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace fourmi;
  if (argc != 4) return 2;
  signal(SIGTERM, SIG_IGN);  // mpirun sends it as soon as a rank is gone; training only notes it, too
  const std::string how = argv[1], folder = argv[3];
  const int lost = std::atoi(argv[2]);
  double lost_at = 0;
  World world;
  Watchdog watchdog(world.group(), [&](const Loss& loss) {
    world.abandon(loss.cause);
    const std::string path = folder + "/rank-" + std::to_string(world.rank());
    if (FILE* f = std::fopen((path + ".new").c_str(), "w")) {
      std::fprintf(f, "%d %d %ld %d %d %.6f %.6f\n", loss.rank, loss.phase, static_cast<long>(loss.step), loss.reporter,
                   loss.exit_status, seconds() - lost_at, lost_at);
      std::fclose(f);
      std::rename((path + ".new").c_str(), path.c_str());
    }
    World::end_process(static_cast<int>(ExitStatus::rank_lost));
  });
  watchdog.set_phase(5, 77);
  try {
    step(world, how, lost, lost_at);
    watchdog.goodbye();
    return 0;
  } catch (const Error& e) {
    if (e.status() == ExitStatus::rank_lost) watchdog.wait_for_loss(std::chrono::seconds(2));
    watchdog.announce_failure(e.what(), static_cast<int>(e.status()));
    World::end_process(static_cast<int>(e.status()));
  }
}
