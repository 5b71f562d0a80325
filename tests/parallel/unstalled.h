// Tests that measure time, on machines that may stand still for a second (a busy host, a virtual machine): what fails
// while the machine stood still is tried again; what fails otherwise is a failure.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <sstream>
#include <string>

namespace fourmi {

/// Collects what is wrong instead of failing at once.
class Problems {
 public:
  template <class A, class B>
  void equal(const A& found, const B& expected, const std::string& what) {
    if (!(found == expected)) text_ << what << ": " << found << ", expected " << expected << "\n";
  }
  template <class A, class B>
  void at_most(const A& found, const B& limit, const std::string& what) {
    if (!(found <= limit)) text_ << what << ": " << found << ", expected at most " << limit << "\n";
  }
  void add(const std::string& what) { text_ << what << "\n"; }
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
};

/// The longest time for which a process that wanted to run did not, in seconds. (A process of its own: the scenarios
/// fork, which a program of several threads should not.)
class StallMeter {
 public:
  StallMeter()
      : longest_(static_cast<double*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    process_ = fork();
    if (process_ == 0) run();
  }
  ~StallMeter() {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    munmap(const_cast<double*>(longest_), 4096);
  }
  StallMeter(const StallMeter&) = delete;
  StallMeter& operator=(const StallMeter&) = delete;
  double longest() const { return *longest_; }

 private:
  [[noreturn]] void run() {
    alarm(60);  // should the parent be killed
    for (;;) {
      timespec begin, end;
      clock_gettime(CLOCK_MONOTONIC, &begin);
      usleep(2000);
      clock_gettime(CLOCK_MONOTONIC, &end);
      const double late = static_cast<double>(end.tv_sec - begin.tv_sec) +
                          1e-9 * static_cast<double>(end.tv_nsec - begin.tv_nsec) - 0.002;
      if (late > *longest_) *longest_ = late;
    }
  }
  volatile double* longest_;
  pid_t process_ = -1;
};

/// Runs scenario(), which returns Problems. Tried again up to four times, if the machine stood still for 50 ms or more.
template <class Scenario>
void run_unstalled(Scenario scenario) {
  for (int attempt = 1;; ++attempt) {
    StallMeter meter;
    const std::string problems = scenario().text();
    if (problems.empty()) return;
    if (meter.longest() < 0.05 || attempt == 5) {
      ADD_FAILURE() << problems << "attempt " << attempt << "; the machine stood still for up to " << meter.longest()
                    << " s";
      return;
    }
  }
}

}  // namespace fourmi
