#include "parallel/peer_memory/reach.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <vector>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

template <std::size_t N>
void copy_text(std::array<char, N>& to, const std::string& text) {
  std::strncpy(to.data(), text.c_str(), N - 1);
}

bool same_host(const RankPlace& a, const RankPlace& b) {
  return a.host == b.host && a.boot == b.boot;
}

}  // namespace

RankPlace place_of(const Group& group) {
  RankPlace place;
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) == 0) copy_text(place.host, name.data());
  std::string boot;
  if (std::ifstream in("/proc/sys/kernel/random/boot_id"); std::getline(in, boot)) copy_text(place.boot, boot);
  place.on_device = group.device() ? 1 : 0;
  return place;
}

Reach choose_reach(std::span<const RankPlace> places, const std::string& group) {
  const RankPlace& first = places.front();
  const auto other_device =
      std::find_if(places.begin(), places.end(), [&](const RankPlace& p) { return p.on_device != first.on_device; });
  if (other_device != places.end())
    throw Error(
        ExitStatus::usage, "parallel.dispatcher",
        fmt::format("found device for ranks 0 and {} of {}, of which one has a GPU and the other none, expected "
                    "ranks of one kind",
                    other_device - places.begin(), group),
        "Choose run.device: cpu, or all-to-all");
  const auto elsewhere =
      std::find_if(places.begin(), places.end(), [&](const RankPlace& p) { return !same_host(p, first); });
  if (elsewhere == places.end()) return first.on_device ? Reach::cuda_ipc : Reach::shared_segment;
  if (first.on_device) return Reach::nccl_windows;
  throw Error(ExitStatus::usage, "parallel.dispatcher",
              fmt::format("found device for ranks 0 and {} of {}, which are on hosts {} and {}, expected ranks that "
                          "reach each other's memory: those that share experts on one host",
                          elsewhere - places.begin(), group, first.host.data(), elsewhere->host.data()),
              "Choose hierarchical or all-to-all, which give the same bits");
}

Reach agree_on_reach(Group& group) {
  if (group.shares_memory()) return Reach::threads;
  const RankPlace mine = place_of(group);
  std::vector<RankPlace> all(static_cast<std::size_t>(group.size()));
  group.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  return choose_reach(all, group.name());
}

}  // namespace fourmi
