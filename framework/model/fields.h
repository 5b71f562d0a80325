// A layer's saved activations are one struct, and one list a layer says what is in it: name, shape, dtype, how long it
// is needed. Arenas, measuring and recompute read that list; offload is to read the same one.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "framework/recipe/recipe.h"
#include "kernels/runtime/arena.h"

namespace fourmi {

enum class Keep : std::uint8_t {
  result,        ///< read by others than the layer after its forward: memory of its own in every mode
  needed,        ///< backward reads it, and making it again costs what forward cost
  recomputable,  ///< backward reads it; recompute() of the same layer makes it again from needed ones at little cost
  temporary,     ///< read only by the verb that makes it: layers share its memory in every mode
  table  ///< as needed; small, and the host reads it: with a device it lies in the host's memory, and is not shared
};

/// Does a field of this kind live in the memory that all layers of a model share? Its content is then lost as soon as
/// the next layer runs.
constexpr bool is_shared(Recompute mode, Keep keep) {
  switch (keep) {
    case Keep::result:
      return false;
    case Keep::needed:
    case Keep::table:
      return mode == Recompute::full;
    case Keep::recomputable:
      return mode != Recompute::none;
    case Keep::temporary:
      return true;
  }
  return false;
}

/// Allocates every field of a struct that has `template <class Visit> void fields(const Sizes&, Visit&&)`, where the
/// visitor is called as visit(tensor, "name", Shape, DType, Keep).
template <class Saved, class Sizes>
void allocate_fields(Saved& saved, const Sizes& sizes, Arena& arena, std::string_view prefix) {
  saved.fields(sizes, [&](Tensor& t, std::string_view name, Shape shape, DType dtype, Keep keep) {
    const std::string what = std::string(prefix) + std::string(name);
    t = keep == Keep::table ? arena.allocate_table(shape, dtype, what) : arena.allocate(shape, dtype, what);
  });
}

/// Is a field a table that lies beside its arena, in the host's memory?
inline bool is_beside(const Arena& arena, Keep keep) {
  return keep == Keep::table && arena.device() != Device::cpu;
}

/// Memory that structs share which are not in use at the same time. Twice over them: reserve() learns the largest,
/// after allocate() place() gives each field memory of its own or a part of the shared one.
class SharedFields {
 public:
  template <class Saved, class Sizes>
  void reserve(Recompute mode, Saved& saved, const Sizes& sizes) {
    std::int64_t bytes = 0;
    saved.fields(sizes, [&](Tensor&, std::string_view, Shape shape, DType dtype, Keep keep) {
      if (is_shared(mode, keep)) bytes += padded(shape, dtype);
    });
    reserve(bytes);
  }
  void reserve(std::int64_t bytes) { bytes_ = std::max(bytes_, bytes); }
  void allocate(Arena& arena, std::string_view name) { memory_ = arena.allocate({bytes_}, DType::u8, name); }

  template <class Saved, class Sizes>
  void place(Recompute mode, Saved& saved, const Sizes& sizes, Arena& arena, std::string_view prefix) {
    std::int64_t at = 0;
    saved.fields(sizes, [&](Tensor& t, std::string_view name, Shape shape, DType dtype, Keep keep) {
      if (is_beside(arena, keep)) {
        t = arena.allocate_table(shape, dtype, std::string(prefix) + std::string(name));
        return;
      }
      if (!is_shared(mode, keep)) {
        t = arena.allocate(shape, dtype, std::string(prefix) + std::string(name));
        return;
      }
      t = part_of(memory_, at, shape, dtype);
      FOURMI_CHECK(at <= bytes_, "shared field {}{} ends at {} of {}", prefix, name, at, bytes_);
    });
  }

  const Tensor& memory() const { return memory_; }
  static std::int64_t padded(const Shape& shape, DType dtype) {
    return (bytes_of(dtype, shape) + Arena::alignment - 1) / Arena::alignment * Arena::alignment;
  }
  /// The part that begins at byte `at`, which then is where the next one begins.
  static Tensor part_of(const Tensor& memory, std::int64_t& at, const Shape& shape, DType dtype) {
    const std::int64_t begin = std::exchange(at, at + padded(shape, dtype));
    return Tensor(memory.data ? static_cast<std::uint8_t*>(memory.data) + begin : nullptr, dtype, shape, memory.device);
  }

 private:
  std::int64_t bytes_ = 0;
  Tensor memory_;
};

/// A struct's fields that lie in one memory from here on lie at the same places of another. No contents move.
template <class Saved, class Sizes>
void move_fields(Saved& saved, const Sizes& sizes, const Tensor& from, const Tensor& to) {
  const auto* const begin = static_cast<const std::uint8_t*>(from.data);
  saved.fields(sizes, [&](Tensor& t, std::string_view, const Shape&, DType, Keep) {
    const auto* const at = static_cast<const std::uint8_t*>(t.data);
    if (std::less_equal<>()(begin, at) && std::less<>()(at, begin + from.bytes()))
      t.data = static_cast<std::uint8_t*>(to.data) + (at - begin);
  });
}

}  // namespace fourmi
