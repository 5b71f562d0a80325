// The named arenas of a rank. Built twice: once measuring, which gives the exact sizes, then for real with those sizes.
#pragma once

#include <array>
#include <utility>

#include "kernels/runtime/arena.h"

namespace fourmi {

struct Arenas {
  /// Measuring.
  Arenas() : Arenas(Arena::Mode::measure, {0, 0, 0, 0, 0}) {}
  /// For real, with what a measuring set counted.
  explicit Arenas(const Arenas& measured)
      : Arenas(Arena::Mode::allocate, {measured.weights.peak(), measured.gradients.peak(), measured.optimizer.peak(),
                                       measured.activations.peak(), measured.communication.peak()}) {}

  /// Name and bytes, in the order in which people ask.
  std::array<std::pair<const char*, std::int64_t>, 5> sizes() const {
    return {{{"weights", weights.peak()},
             {"gradients", gradients.peak()},
             {"optimizer", optimizer.peak()},
             {"activations", activations.peak()},
             {"communication", communication.peak()}}};
  }

  Arena weights, gradients, optimizer, activations, communication;

 private:
  Arenas(Arena::Mode mode, std::array<std::int64_t, 5> bytes)
      : weights({"weights", mode}, bytes[0]),
        gradients({"gradients", mode}, bytes[1]),
        optimizer({"optimizer", mode}, bytes[2]),
        activations({"activations", mode}, bytes[3]),
        communication({"communication", mode}, bytes[4]) {}
};

}  // namespace fourmi
