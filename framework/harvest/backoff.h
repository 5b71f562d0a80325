// How long to wait before a request is sent again.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <random>

namespace fourmi::harvest {

struct Backoff {
  std::chrono::milliseconds first{1000}, most{60'000};

  /// After the `failures`-th failure in a row (from 1): doubling, of which a random half is left out, so that many
  /// requests that failed together do not come back together; never less than the server asked for.
  std::chrono::milliseconds delay(int failures, std::optional<std::chrono::seconds> retry_after,
                                  std::mt19937_64& random) const {
    const double doubled = static_cast<double>(first.count()) * std::pow(2.0, std::min(failures - 1, 40));
    const double longest = std::min(doubled, static_cast<double>(most.count()));
    const double share = 0.5 + 0.5 * static_cast<double>(random() >> 11) * 0x1p-53;
    const std::chrono::milliseconds own(static_cast<std::int64_t>(longest * share));
    return retry_after ? std::max<std::chrono::milliseconds>(own, *retry_after) : own;
  }
};

}  // namespace fourmi::harvest
