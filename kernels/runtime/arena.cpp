#include "kernels/runtime/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

namespace fourmi {

Arena::Arena(Options options, std::int64_t capacity_bytes) : options_(std::move(options)), capacity_(capacity_bytes) {
  if (measuring() || capacity_ == 0) return;
  // Anonymous pages come zeroed and are only backed once touched, so a generous capacity costs nothing.
  void* p =
      mmap(nullptr, static_cast<std::size_t>(capacity_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED)
    throw Error(ExitStatus::environment, "arena " + name(), fmt::format("{} bytes could not be had", capacity_),
                "Use more ranks, a smaller data.micro_batch_size or a machine with more memory");
  storage_ = static_cast<std::byte*>(p);
}

Arena::~Arena() {
  if (storage_) munmap(storage_, static_cast<std::size_t>(capacity_));
}

Tensor Arena::allocate(Shape shape, DType dtype, std::string_view what) {
  std::int64_t n = 16;  // no dtype takes more an element
  for (int i = 0; i < shape.rank; ++i) {
    FOURMI_CHECK(shape[i] >= 0 && !__builtin_mul_overflow(n, shape[i], &n), "{} of shape {}", what, to_string(shape));
  }
  const std::int64_t padded = (bytes_of(dtype, shape) + alignment - 1) / alignment * alignment;
  if (!measuring() && used_ + padded > capacity_)
    throw Error(
        ExitStatus::environment, "arena " + name(),
        fmt::format("{} needs {} bytes, {} of {} are free\n{}", what, padded, capacity_ - used_, capacity_, table()),
        "Use a smaller data.micro_batch_size or more ranks");
  Tensor t(nullptr, dtype, shape);
  if (!measuring()) {
    t.data = storage_ + used_;
    if (options_.poison) std::memset(t.data, 0xff, static_cast<std::size_t>(padded));
  }
  used_ += padded;
  peak_ = std::max(peak_, used_);
  auto it = by_name_.find(what);
  if (it == by_name_.end()) it = by_name_.emplace(std::string(what), 0).first;
  it->second += padded;
  return t;
}

void Arena::release(std::int64_t mark) {
  FOURMI_CHECK(mark <= used_, "arena {}: released up to {} of {}", name(), mark, used_);
  if (options_.poison && storage_) std::memset(storage_ + mark, 0xff, static_cast<std::size_t>(used_ - mark));
  used_ = mark;
}

std::string Arena::table() const {
  std::vector<std::pair<std::string, std::int64_t>> rows(by_name_.begin(), by_name_.end());
  std::sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.second > b.second; });
  std::string s;
  for (auto& [what, bytes] : rows) s += fmt::format("{:>14}  {}\n", bytes, what);
  return s;
}

}  // namespace fourmi
