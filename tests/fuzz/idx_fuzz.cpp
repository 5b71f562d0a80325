// A token file whose index lies: refused, or every token can be read. Input: two bytes that say how many of the rest
// are .idx; what remains is .bin.
#include <vector>

#include "framework/data/indexed.h"
#include "tests/fuzz/folder.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace fourmi;

std::string prefix() {
  return fuzz::folder() + "/tokens";
}

void write(const std::string& path, const std::uint8_t* data, std::size_t size) {
  fuzz::write_file(path, {reinterpret_cast<const char*>(data), size});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fourmi;
  if (size < 2) return 0;
  const std::size_t idx = std::min<std::size_t>(data[0] + 256u * data[1], size - 2);
  write(prefix() + ".idx", data + 2, idx);
  write(prefix() + ".bin", data + 2 + idx, size - 2 - idx);
  fuzz::accepted(
      [&] {
        const IndexedTokens tokens(prefix());
        fuzz::require(tokens.num_tokens() >= 0 && tokens.num_tokens() <= static_cast<std::int64_t>(size),
                      "more tokens than bytes");
        std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens.num_tokens()));
        for (std::int64_t d = 0; d < tokens.num_documents(); ++d)
          fuzz::require(tokens.document_begin(d) <= tokens.document_begin(d + 1), "documents that do not ascend");
        tokens.read(0, ids);
        for (std::int32_t id : ids) fuzz::require(id >= 0, "a negative token");
      },
      {ExitStatus::input});
  return 0;
}
