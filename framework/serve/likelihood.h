// Log probabilities from logits.
#pragma once

#include <span>

#include "framework/serve/writing.h"

namespace fourmi {

/// The token with what is to be said of it: nothing where `num_likeliest` is below 0. Of equals the smaller id is the
/// likelier.
WrittenToken token_of(std::span<const double> logits, std::int32_t token, int num_likeliest);

}  // namespace fourmi
