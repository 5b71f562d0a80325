// JSON as a template's values, in the order of its keys.
#pragma once

#include <string>
#include <string_view>

#include "framework/chat/jinja/value.h"

namespace fourmi::jinja {

/// Throws std::string, the cause: no JSON, a key twice, a number beyond 64 bits, more than 100 values in each other.
Value parse_json(std::string_view json);

}  // namespace fourmi::jinja
