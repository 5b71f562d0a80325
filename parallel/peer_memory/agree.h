// What fails on one rank of several that make something together fails on all.
#pragma once

#include <optional>

#include "kernels/runtime/error.h"
#include "parallel/group.h"

namespace fourmi {

/// Collective, in the host's memory. Throws the error of the first rank that has one, on every rank.
void agree(Group& group, const std::optional<Error>& mine);

/// Collective: does `work`, and agrees on how it went.
template <class Work>
void agree_on(Group& group, const Work& work) {
  std::optional<Error> failed;
  try {
    work();
  } catch (const Error& e) {
    failed = e;
  }
  agree(group, failed);
}

}  // namespace fourmi
