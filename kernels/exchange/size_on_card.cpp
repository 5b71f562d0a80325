#include "kernels/exchange/size_on_card.h"

#include <algorithm>
#include <cmath>

#include "kernels/runtime/error.h"

namespace fourmi::exchange {
namespace {

constexpr int sending_warps = 8;  // of a multiprocessor; as many receive: a block of 512 threads

}  // namespace

SizeOnCard size_on_card(int num_ranks, const CardAndLink& card, int multiprocessors) {
  FOURMI_CHECK(num_ranks >= 1 && multiprocessors >= 0, "{} ranks on {} multiprocessors", num_ranks, multiprocessors);
  // Of the rows that a rank sends (P - 1) / P cross the link, which is what bounds all of them.
  const double P = num_ranks, rate = card.link_bytes_per_second * P / std::max(1.0, P - 1);
  const double of_one = sending_warps * card.bytes_in_flight_of_warp / card.latency_seconds;
  const int wanted = static_cast<int>(std::ceil(1.25 * rate / of_one / 2)) * 2;
  SizeOnCard size;
  size.num_multiprocessors =
      multiprocessors > 0 ? multiprocessors : std::clamp(wanted, 4, std::max(4, card.num_multiprocessors / 4 / 2 * 2));
  size.num_channels = std::max(1, size.num_multiprocessors * sending_warps / num_ranks);
  return size;
}

}  // namespace fourmi::exchange
