// The header of a safetensors file that lies: refused with a place, or tensors that cover the data from its first byte
// to its last, and that are read back as they were when they are written again. Input: the file; and the same header
// over as much data as its largest number says, which no input could hold.
#include <limits>
#include <string>

#include "framework/interop/safetensors_header.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace fourmi;
using namespace fourmi::interop;

std::int64_t largest_number(std::string_view text) {
  std::int64_t largest = 0, n = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') {
      n = 0;
    } else if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, c - '0', &n)) {
      return std::numeric_limits<std::int64_t>::max();
    }
    largest = std::max(largest, n);
  }
  return largest;
}

void try_header(std::string_view text, std::int64_t data_bytes) {
  SafetensorsHeader header;
  if (!fuzz::accepted([&] { header = parse_safetensors_header(text, data_bytes, "fuzzed.safetensors"); },
                      {ExitStatus::input}))
    return;
  std::int64_t at = 0;
  bool known = true;
  for (const StoredTensor& t : header.tensors) {
    fuzz::require(t.begin == at && t.end >= at && t.end <= data_bytes, "a tensor that lies elsewhere");
    at = t.end;
    known &= t.type != StoredType::other;
    if (t.type != StoredType::other)
      fuzz::require(t.shape.num_elements() * size_of(t.type) == t.bytes(), "a shape that is not its bytes");
  }
  fuzz::require(at == data_bytes, "bytes of no tensor");
  if (!known) return;
  std::vector<StoredTensor> tensors = header.tensors;
  lay_out(tensors);
  const std::string written = safetensors_header_text(tensors);
  const std::int64_t length =
      header_length(written.substr(0, 8), std::numeric_limits<std::int64_t>::max(), "written.safetensors");
  fuzz::require(length == std::ssize(written) - 8, "another length than was written");
  const SafetensorsHeader again = parse_safetensors_header(written.substr(8), data_bytes, "written.safetensors");
  fuzz::require(again.tensors.size() == tensors.size(), "a header that was written reads back differently");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  std::int64_t length = 0;
  if (!fuzz::accepted(
          [&] { length = header_length(file.substr(0, 8), static_cast<std::int64_t>(size), "fuzzed.safetensors"); },
          {ExitStatus::input}))
    return 0;
  const std::string_view text = file.substr(8, static_cast<std::size_t>(length));
  try_header(text, static_cast<std::int64_t>(size) - 8 - length);
  try_header(text, largest_number(text));
  return 0;
}
