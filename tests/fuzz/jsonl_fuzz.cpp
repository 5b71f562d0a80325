// JSON lines that lie: refused with a place, or as many documents as lines that hold one, each of them UTF-8.
#include <algorithm>
#include <string>

#include "framework/data/text.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fourmi;
  const std::string lines(reinterpret_cast<const char*>(data), size);
  fuzz::accepted(
      [&] {
        Text text;
        append_json_lines(lines, "text", "fuzzed.jsonl", text);
        const auto most = std::count(lines.begin(), lines.end(), '\n') + 1;
        fuzz::require(std::ssize(text.file_ends) <= most, "more documents than lines");
        fuzz::require(std::is_sorted(text.file_ends.begin(), text.file_ends.end()), "documents that do not ascend");
        fuzz::require(text.file_ends.empty() || text.file_ends.back() == std::ssize(text.bytes), "text after the end");
        fuzz::require(find_utf8_flaws(text.bytes).count == 0, "text that is no UTF-8");
      },
      {ExitStatus::input});
  return 0;
}
