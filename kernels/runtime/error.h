// How fourmi fails: one exception type that carries what a user needs (place, found, expected, remedy) and the exit
// status of the contract. Everything below main() throws it; main() prints it once and exits with its status.
#pragma once

#include <fmt/format.h>

#include <exception>
#include <string>

namespace fourmi {

/// Exit status of each fourmi process (docs/contract: "Exit status").
enum class ExitStatus : int {
  ok = 0,           ///< the target was reached, or nothing was left to do
  bug = 1,          ///< a bug in fourmi
  usage = 2,        ///< wrong usage, an invalid recipe, a policy that refuses it
  environment = 3,  ///< the environment lacks something or ran out of it (memory, disk, run directory in use)
  input = 4,        ///< an input is absent, corrupt or does not fit
  guard = 5,        ///< stopped by a guard: a person must look
  stopped = 6,      ///< stopped early on request, checkpoint committed
  rank_lost = 7,    ///< a rank was lost or hung
  budget = 8,       ///< the budget is spent, checkpoint committed
};

/// One failure. what() is "<place>: <cause>. <remedy>", where cause reads "<what was found>, <what was expected>".
class Error : public std::exception {
 public:
  Error(ExitStatus status, std::string place, std::string cause, std::string remedy = {});
  const char* what() const noexcept override { return text_.c_str(); }
  ExitStatus status() const { return status_; }
  const std::string& place() const { return place_; }
  const std::string& cause() const { return cause_; }
  const std::string& remedy() const { return remedy_; }

 private:
  ExitStatus status_;
  std::string place_, cause_, remedy_, text_;
};

namespace detail {
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);
}

}  // namespace fourmi

/// An invariant of fourmi itself: when it fails, that is a bug (exit status 1), and file and line say where.
#define FOURMI_CHECK(condition, ...)                                                                 \
  do {                                                                                               \
    if (!(condition)) [[unlikely]]                                                                   \
      ::fourmi::detail::check_failed(__FILE__, __LINE__, #condition, ::fmt::format("" __VA_ARGS__)); \
  } while (0)
