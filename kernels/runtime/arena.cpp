#include "kernels/runtime/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace fourmi {

Arena::Arena(Options options, std::int64_t capacity_bytes) : options_(std::move(options)), capacity_(capacity_bytes) {
  if (measuring() || capacity_ == 0) return;
  if (DeviceRuntime* d = options_.device) {
    storage_ = static_cast<std::byte*>(place() == Place::device ? d->allocate(capacity_, "arena " + name())
                                                                : d->allocate_host(capacity_, "arena " + name()));
    return;
  }
  // Anonymous pages come zeroed and are only backed once touched, so a generous capacity costs nothing.
  void* p =
      mmap(nullptr, static_cast<std::size_t>(capacity_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED)
    throw Error(ExitStatus::environment, "arena " + name(), fmt::format("{} bytes could not be had", capacity_),
                "Use more ranks, a smaller data.micro_batch_size or a machine with more memory");
  storage_ = static_cast<std::byte*>(p);
}

Arena::~Arena() {
  if (!storage_) return;
  if (!options_.device)
    munmap(storage_, static_cast<std::size_t>(capacity_));
  else if (place() == Place::device)
    options_.device->release(storage_);
  else
    options_.device->release_host(storage_);
}

void Arena::fill(std::int64_t begin, std::int64_t end) {
  if (device() == Device::cpu)
    std::memset(storage_ + begin, 0xff, static_cast<std::size_t>(end - begin));
  else
    options_.device->fill(storage_ + begin, 0xff, end - begin);
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
  Tensor t(nullptr, dtype, shape, device());
  if (!measuring()) {
    t.data = storage_ + used_;
    if (options_.poison) fill(used_, used_ + padded);
  }
  used_ += padded;
  peak_ = std::max(peak_, used_);
  auto it = by_name_.find(what);
  if (it == by_name_.end()) it = by_name_.emplace(std::string(what), 0).first;
  it->second += padded;
  return t;
}

Tensor Arena::allocate_table(Shape shape, DType dtype, std::string_view what) {
  if (device() == Device::cpu) return allocate(shape, dtype, what);
  if (measuring()) return Tensor(nullptr, dtype, shape);
  tables_.push_back(std::make_unique<std::byte[]>(static_cast<std::size_t>(bytes_of(dtype, shape))));
  return Tensor(tables_.back().get(), dtype, shape);
}

void Arena::release(std::int64_t mark) {
  FOURMI_CHECK(mark <= used_, "arena {}: released up to {} of {}", name(), mark, used_);
  if (options_.poison && storage_) fill(mark, used_);
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
