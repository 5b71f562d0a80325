// The tokenizer `bytes` as a tokenizer.json that other libraries load: ids 0 to 255 are bytes, 256 the end of a
// document.
#pragma once

#include <string>

namespace fourmi::interop {

/// Byte-level BPE without a merge: the same ids for every text but one that spells out the end token.
std::string bytes_tokenizer_json();
inline constexpr const char* bytes_end_token = "<|endoftext|>";

}  // namespace fourmi::interop
