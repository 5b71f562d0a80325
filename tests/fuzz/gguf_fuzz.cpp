// A GGUF file that lies: refused with a place, or every row of every tensor can be read, and its vocabulary, if it is
// one that is read, is a tokenizer.json.
#include <cstring>
#include <vector>

#include "framework/interop/gguf/llama.h"
#include "framework/interop/gguf/vocabulary.h"
#include "framework/tokenizer/definition.h"
#include "tests/fuzz/fuzz.h"

namespace {

class Memory final : public fourmi::interop::ByteSource {
 public:
  Memory(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(size_); }
  void read(std::int64_t offset, std::span<std::byte> out) const override {
    fourmi::fuzz::require(offset >= 0 && static_cast<std::size_t>(offset) + out.size() <= size_, "a read outside");
    std::memcpy(out.data(), data_ + offset, out.size());
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fourmi;
  using namespace fourmi::interop;
  const Memory file(data, size);
  GgufHeader header;
  if (!fuzz::accepted([&] { header = read_gguf_header(file, "fuzzed.gguf"); }, {ExitStatus::input})) return 0;
  for (const GgufTensor& tensor : header.tensors) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes));
    file.read(tensor.begin, bytes);
    const GgufTypeInfo& info = info_of(tensor.type);
    std::vector<float> elements(static_cast<std::size_t>(tensor.bytes / info.block_bytes * info.block_elements));
    dequantize(tensor.type, bytes, elements);
  }
  fuzz::accepted(
      [&] {
        for (const LlamaTensor& tensor : llama_tensors(header))
          for (std::int64_t r = 0; r < tensor.rows(); ++r)
            fuzz::require(tensor.stored_row(r) >= 0 && tensor.stored_row(r) < tensor.rows(), "a row outside");
      },
      {ExitStatus::input});
  fuzz::accepted([&] { llama_config_json(header); }, {ExitStatus::input});
  fuzz::accepted([&] { read_tokenizer_json(gguf_tokenizer_json(header), "fuzzed.gguf"); }, {ExitStatus::input});
  return 0;
}
