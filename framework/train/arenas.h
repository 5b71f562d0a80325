// The named arenas of a rank. Built twice: once measuring, which gives the exact sizes, then for real with those sizes.
#pragma once

#include <array>
#include <string>
#include <utility>

#include "framework/recipe/recipe.h"
#include "kernels/runtime/arena.h"

namespace fourmi {

struct Arenas {
  static constexpr std::size_t count = 8;
  static constexpr std::array<const char*, count> names{"weights",       "gradients", "optimizer", "activations",
                                                        "communication", "staging",   "teacher",   "writer"};

  /// Measuring. `device`: whose memory it is to be; null: the CPU's.
  explicit Arenas(const MemorySection& memory, DeviceRuntime* device = nullptr)
      : Arenas(Arena::Mode::measure, memory.offload_optimizer ? Place::host : Place::device, device, {}) {}
  /// For real, with what a measuring set counted. Throws Error(environment) with the table of all of them where one
  /// cannot be had.
  explicit Arenas(const Arenas& measured)
      : Arenas(Arena::Mode::allocate, measured.optimizer.place(), measured.weights.runtime(), measured.bytes()) {}

  /// Name and bytes, in the order in which people ask.
  std::array<std::pair<const char*, std::int64_t>, count> sizes() const {
    std::array<std::pair<const char*, std::int64_t>, count> sizes;
    for (std::size_t i = 0; i < count; ++i) sizes[i] = {names[i], all()[i]->peak()};
    return sizes;
  }
  std::array<Place, count> places() const {
    std::array<Place, count> places{};
    for (std::size_t i = 0; i < count; ++i) places[i] = all()[i]->place();
    return places;
  }

  Arena weights, gradients, optimizer, activations, communication;
  Arena staging;  ///< panels of optimizer state on the device; empty unless the state lies on the host
  Arena teacher;  ///< all of the teacher's; empty without one in this job
  Arena writer;   ///< the copy of the student that writes; empty where none does

 private:
  using Bytes = std::array<std::int64_t, count>;
  Arenas(Arena::Mode mode, Place optimizer_place, DeviceRuntime* device, const Bytes& bytes)
      : weights(options(0, mode, device), bytes[0]),
        gradients(options(1, mode, device), bytes[1]),
        optimizer(options(2, mode, device, optimizer_place), bytes[2]),
        activations(options(3, mode, device), bytes[3]),
        communication(options(4, mode, device), bytes[4]),
        staging(options(5, mode, device), bytes[5]),
        teacher(options(6, mode, device), bytes[6]),
        writer(options(7, mode, device), bytes[7]) {}
  static Arena::Options options(std::size_t i, Arena::Mode mode, DeviceRuntime* device, Place place = Place::device) {
    return {.name = names[i], .mode = mode, .poison = false, .place = place, .device = device};
  }
  std::array<const Arena*, count> all() const {
    return {&weights, &gradients, &optimizer, &activations, &communication, &staging, &teacher, &writer};
  }
  Bytes bytes() const {
    Bytes b{};
    for (std::size_t i = 0; i < count; ++i) b[i] = all()[i]->peak();
    return b;
  }
};

}  // namespace fourmi
