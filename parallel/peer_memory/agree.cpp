#include "parallel/peer_memory/agree.h"

#include <array>
#include <cstring>
#include <vector>

namespace fourmi {
namespace {

/// An error as bytes; texts that are longer are cut.
struct Verdict {
  std::int32_t status = 0;
  std::array<char, 96> place{};
  std::array<char, 512> cause{};
  std::array<char, 256> remedy{};
};

template <std::size_t N>
void copy_text(std::array<char, N>& to, const std::string& text) {
  std::strncpy(to.data(), text.c_str(), N - 1);
}

}  // namespace

void agree(Group& group, const std::optional<Error>& mine) {
  Verdict verdict;
  if (mine) {
    verdict.status = static_cast<std::int32_t>(mine->status());
    copy_text(verdict.place, mine->place());
    copy_text(verdict.cause, mine->cause());
    copy_text(verdict.remedy, mine->remedy());
  }
  std::vector<Verdict> all(static_cast<std::size_t>(group.size()));
  group.all_gather(std::as_bytes(std::span(&verdict, 1)), std::as_writable_bytes(std::span(all)));
  for (const Verdict& v : all)
    if (v.status != 0) throw Error(static_cast<ExitStatus>(v.status), v.place.data(), v.cause.data(), v.remedy.data());
}

}  // namespace fourmi
