#include "parallel/dispatch/rounds.h"

#include <algorithm>

#include "kernels/runtime/error.h"

namespace fourmi {

BlockLoads::BlockLoads(int num_kinds, std::int64_t num_blocks, int num_ranks)
    : num_blocks_(num_blocks), mine_(static_cast<std::size_t>(num_kinds * num_blocks)) {
  all_.resize(mine_.size() * static_cast<std::size_t>(num_ranks));
  sums_.resize(static_cast<std::size_t>(num_kinds * num_ranks));
}

void BlockLoads::clear() {
  std::fill(mine_.begin(), mine_.end(), 0);
}

void BlockLoads::choose_rounds(Group& group, std::span<const std::int64_t> most, std::vector<std::int64_t>& ends) {
  group.all_gather(std::as_bytes(std::span(mine_)), std::as_writable_bytes(std::span(all_)));
  ends.clear();
  std::fill(sums_.begin(), sums_.end(), 0);
  for (std::int64_t b = 0; b < num_blocks_; ++b) {
    const auto load = [&](std::size_t list) {
      return all_[list * static_cast<std::size_t>(num_blocks_) + static_cast<std::size_t>(b)];
    };
    const auto limit = [&](std::size_t list) { return most[list % most.size()]; };
    bool fits = true;
    for (std::size_t list = 0; list < sums_.size(); ++list) fits &= sums_[list] + load(list) <= limit(list);
    if (!fits) {
      ends.push_back(b);
      std::fill(sums_.begin(), sums_.end(), 0);
    }
    for (std::size_t list = 0; list < sums_.size(); ++list) {
      sums_[list] += load(list);
      FOURMI_CHECK(sums_[list] <= limit(list), "block {} alone brings {}, at most {} fit", b, sums_[list], limit(list));
    }
  }
  ends.push_back(num_blocks_);
}

}  // namespace fourmi
