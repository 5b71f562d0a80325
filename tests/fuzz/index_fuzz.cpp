// A folder of two files of weights whose index lies: refused with a place, or every byte of every tensor can be read,
// once. Input: the index, a zero byte, the first file's header as JSON, a zero byte, the second's.
#include <string>
#include <vector>

#include "framework/interop/stored_model.h"
#include "tests/fuzz/folder.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace fourmi;

void write(const std::string& name, std::string_view text) {
  fuzz::write_file(fuzz::folder() + "/" + name, text);
}

/// As much data as the header's last tensor asks for, if that is little.
void write_weights(const std::string& name, const std::string& header) {
  std::size_t end = 0;
  for (std::size_t at = 0; (at = header.find(']', at)) != std::string::npos; ++at) {
    std::size_t digits = at;
    while (digits > 0 && header[digits - 1] >= '0' && header[digits - 1] <= '9') --digits;
    if (at - digits > 0 && at - digits < 5) end = std::max<std::size_t>(end, std::stoul(header.substr(digits, at)));
  }
  std::string file;
  for (std::size_t i = 0; i < 8; ++i) file.push_back(static_cast<char>(header.size() >> (8 * i)));
  write(name, file + header + std::string(end, 'w'));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fourmi::interop;
  const std::string all(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> parts{""};
  for (const char c : all) {
    if (c == '\0' && parts.size() < 3)
      parts.emplace_back();
    else
      parts.back().push_back(c);
  }
  parts.resize(3);
  write(std::string(index_name), parts[0]);
  write_weights("a.safetensors", parts[1]);
  write_weights("b.safetensors", parts[2]);
  fuzz::accepted(
      [&] {
        const StoredModel model(fuzz::folder());
        fuzz::require(!model.files().empty() && model.files().size() <= 2, "files that are not there");
        std::vector<std::byte> bytes;
        for (const StoredModel::Entry& e : model.tensors()) {
          fuzz::require(model.find(e.tensor.name) == &e, "a tensor that is not found");
          bytes.resize(static_cast<std::size_t>(e.tensor.bytes()));
          model.read(e, 0, bytes);
          fuzz::require(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{'w'}; }),
                        "bytes from elsewhere");
        }
        fuzz::require(model.bytes_read() == model.bytes(), "bytes that were not read once");
      },
      {ExitStatus::input});
  return 0;
}
