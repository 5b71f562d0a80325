// Faults at the Nth call of write, fsync, rename, link and unlink of this test program (the calls of the C library are
// replaced in injected_io_test.cpp). Nothing happens unless armed.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>

namespace fourmi::injected {

enum class Fault {
  none,
  kill,       ///< the process ends as by kill -9; a write has by then put down half of its bytes
  disk_full,  ///< this write and all that follow put down half of their bytes at first, then fail with ENOSPC
  hang,       ///< this write waits until disarm()
};

/// The fault happens at the Nth call from now, from 1.
void arm(Fault fault, int nth_call);
void disarm();
int calls();  ///< since arm()

/// Runs `body` in a child process; its exit status, or -signal. 0 if it returned, 1 if it threw.
template <class Body>
int in_child(const Body& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 0;
    try {
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
      status = 1;
    }
    ::_exit(status);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
  }
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace fourmi::injected
