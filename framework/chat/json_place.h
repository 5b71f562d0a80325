// Where in a JSON text a value stands: for messages that send a reader to the column, which parsers do not keep.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace fourmi {

/// Keys and indices from the outermost value inward.
using JsonPath = std::vector<std::variant<std::string, std::size_t>>;

/// The byte at which the value at `path` begins; as far inward as the path leads. `json` is valid, no key stands twice.
std::size_t json_place(std::string_view json, const JsonPath& path);

/// "messages[2].role".
std::string to_text(const JsonPath& path);

}  // namespace fourmi
