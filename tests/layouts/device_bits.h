// What the device dispatcher is held against: the bits of the all-to-all, on the CPU and on a card.
#pragma once

#include "tests/layouts/mixtures.h"

namespace fourmi {

inline Mixture with_device(Mixture m) {
  m.device = true, m.node_size = 0;
  return m;
}
inline Mixture with_all_to_all(Mixture m) {
  m.device = false, m.node_size = 0;
  return m;
}

/// `r` in the mixture's layout, on the CPU or all ranks on `card`.
inline void expect_bits_of_the_all_to_all(const Mixture& m, const Recipe& r, int steps, const std::string& what,
                                          DeviceRuntime* card = nullptr) {
  Recipe device = m.of(r);
  if (card) device.parallel.dispatch_multiprocessors = 1;  // of each rank, and they share the card
  expect_equal_bits(train_on(with_all_to_all(m).of(r), m.ranks, steps, 1, nullptr, nullptr, card),
                    train_on(device, m.ranks, steps, 1, nullptr, nullptr, card), what);
}

}  // namespace fourmi
