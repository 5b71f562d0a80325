// A manifest's bytes are proven by the SHA-256 that it carries, which no fuzzer gets past: the input is taken as it is,
// and also signed with its right digest, as a damaged writer or a person with an editor would leave it.
#include "framework/checkpoint/manifest.h"
#include "framework/digest/sha256.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fourmi;
  std::string text(reinterpret_cast<const char*>(data), size);
  fuzz::accepted([&] { parse_manifest(text, "manifest.json"); }, {ExitStatus::input});
  constexpr std::string_view head = "{\"sha256\": \"", head_end = "\",\n";
  const std::size_t body = head.size() + 64 + head_end.size();
  if (text.size() < body || !text.starts_with(head)) return 0;
  text.replace(head.size(), 64, sha256(std::string_view(text).substr(body)));
  Manifest m;
  if (!fuzz::accepted([&] { m = parse_manifest(text, "manifest.json"); }, {ExitStatus::input})) return 0;
  const Manifest again = parse_manifest(to_text(m), "again.json");
  fuzz::require(again.root == m.root && again.tensors.size() == m.tensors.size(),
                "a manifest that was written reads back differently");
  return 0;
}
