// A layer's saved activations are one struct, and one list a layer says what is in it: name, shape, dtype, whether it can be
// computed again. Arenas and measuring read that list; recompute and offload are to read the same one.
#pragma once

#include <string>
#include <string_view>

#include "kernels/runtime/arena.h"

namespace fourmi {

enum class Keep : std::uint8_t {
  needed,       ///< backward cannot do without it
  recomputable  ///< forward of the same layer can make it again from needed ones
};

/// Allocates every field of a struct that has `template <class Visit> void fields(const Sizes&, Visit&&)`, where the visitor is
/// called as visit(tensor, "name", Shape, DType, Keep).
template <class Saved, class Sizes>
void allocate_fields(Saved& saved, const Sizes& sizes, Arena& arena, std::string_view prefix) {
  saved.fields(sizes, [&](Tensor& t, std::string_view name, Shape shape, DType dtype, Keep) {
    t = arena.allocate(shape, dtype, std::string(prefix) + std::string(name));
  });
}

}  // namespace fourmi
