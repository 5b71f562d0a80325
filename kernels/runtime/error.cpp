#include "kernels/runtime/error.h"

namespace fourmi {

Error::Error(ExitStatus status, std::string place, std::string cause, std::string remedy)
    : status_(status), place_(std::move(place)), cause_(std::move(cause)), remedy_(std::move(remedy)) {
  text_ = place_.empty() ? cause_ : place_ + ": " + cause_;
  if (!remedy_.empty()) text_ += ". " + remedy_;
}

namespace detail {
void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  throw Error(ExitStatus::bug, fmt::format("{}:{}", file, line),
              fmt::format("{}{}expected {}", message, message.empty() ? "" : ", ", condition),
              "This is a bug in fourmi; please report it with the recipe and the log");
}
}  // namespace detail

}  // namespace fourmi
