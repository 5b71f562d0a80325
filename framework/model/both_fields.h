// A layer that works in one of two precisions has a struct for each, and they are never in use together. The second
// one costs little: it lies in what the first has for itself, then in the memory that layers share. (It is to keep
// less: Recompute::full nothing.) Results are read by others, so both have the same.
#pragma once

#include <deque>

#include "framework/model/fields.h"

namespace fourmi {

/// Two structs with the same list of fields, how much of it each keeps, and their sizes.
template <class Saved, class Sizes>
struct BothFields {
  Recompute mode;
  Saved& first;
  const Sizes& sizes;
  Recompute second_mode;
  Saved& second;
  const Sizes& second_sizes;

  void reserve(SharedFields& layers) {
    layers.reserve(mode, first, sizes);
    std::int64_t own = 0, shared = 0;
    const std::int64_t size = own_bytes();
    second.fields(second_sizes, [&](Tensor&, std::string_view, Shape shape, DType dtype, Keep keep) {
      if (keep == Keep::result) return;
      const std::int64_t bytes = SharedFields::padded(shape, dtype);
      (lies_in_own(keep, own + bytes <= size) ? own : shared) += bytes;
    });
    layers.reserve(shared);
  }

  /// After the shared memory was allocated.
  void place(const SharedFields& layers, Arena& arena, const std::string& prefix) {
    const Tensor memory = arena.allocate({own_bytes()}, DType::u8, prefix + "fields");
    std::int64_t own = 0, shared = 0;
    std::deque<Tensor> results;
    first.fields(sizes, [&](Tensor& t, std::string_view name, Shape shape, DType dtype, Keep keep) {
      if (is_beside(arena, keep))
        t = arena.allocate_table(shape, dtype, prefix + std::string(name));
      else if (keep == Keep::result)
        t = results.emplace_back(arena.allocate(shape, dtype, prefix + std::string(name)));
      else if (is_shared(mode, keep))
        t = SharedFields::part_of(layers.memory(), shared, shape, dtype);
      else
        t = SharedFields::part_of(memory, own, shape, dtype);
    });
    own = shared = 0;
    second.fields(second_sizes, [&](Tensor& t, std::string_view name, Shape shape, DType dtype, Keep keep) {
      if (keep == Keep::result) {
        FOURMI_CHECK(!results.empty() && results.front().shape == shape && results.front().dtype == dtype,
                     "result {}{} of two precisions", prefix, name);
        t = results.front();
        results.pop_front();
        return;
      }
      if (is_beside(arena, keep)) {
        t = arena.allocate_table(shape, dtype, prefix + std::string(name));
        return;
      }
      const bool in_own = lies_in_own(keep, own + SharedFields::padded(shape, dtype) <= memory.bytes());
      t = SharedFields::part_of(in_own ? memory : layers.memory(), in_own ? own : shared, shape, dtype);
      FOURMI_CHECK(own <= memory.bytes() && shared <= layers.memory().bytes(), "field {}{} of the second precision",
                   prefix, name);
    });
  }

 private:
  /// What the second one keeps must not be cut off by what it does not.
  bool lies_in_own(Keep keep, bool fits) const {
    return is_shared(second_mode, keep) ? second_mode == Recompute::full && fits : true;
  }
  static std::int64_t own_bytes(Recompute mode, Saved& saved, const Sizes& sizes) {
    std::int64_t bytes = 0;
    saved.fields(sizes, [&](Tensor&, std::string_view, Shape shape, DType dtype, Keep keep) {
      if (keep != Keep::result && !is_shared(mode, keep)) bytes += SharedFields::padded(shape, dtype);
    });
    return bytes;
  }
  std::int64_t own_bytes() {
    return std::max(own_bytes(mode, first, sizes), own_bytes(second_mode, second, second_sizes));
  }
};

}  // namespace fourmi
