// By what way ranks of a group reach one another's memory. It follows from where all of them are, so that all choose
// the same.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "parallel/group.h"

namespace fourmi {

enum class Reach : std::uint8_t {
  threads,         ///< ranks are threads of one process: an address is one for all
  shared_segment,  ///< processes of one host, memory of the host
  cuda_ipc,        ///< processes of one host, memory of GPUs
  nccl_windows     ///< processes of several hosts, memory of GPUs whose loads and stores reach one another
};

/// Where a rank is. As bytes it goes to the others.
struct RankPlace {
  std::array<char, 64> host{};  ///< its name, cut
  std::array<char, 40> boot{};  ///< the kernel's id of its boot: two hosts may have one name
  std::int32_t on_device = 0;   ///< is the memory a GPU's?
};

/// Of this rank.
RankPlace place_of(const Group& group);

/// Of processes. Throws Error(usage), which names two ranks, where some cannot reach each other.
Reach choose_reach(std::span<const RankPlace> places, const std::string& group);

/// Collective: the same on all ranks of the group, or the same error. Of GPUs it says what is to be tried: whether
/// cards reach each other is known when they have.
Reach agree_on_reach(Group& group);

}  // namespace fourmi
