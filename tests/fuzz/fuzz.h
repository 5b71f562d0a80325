// What all fuzz targets share: bad input ends in an Error of the expected kind and in nothing else; a property that
// does not hold stops the fuzzer as a crash would.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string>

#include "kernels/runtime/error.h"

namespace fourmi::fuzz {

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "property violated: %s\n", what);
  std::abort();
}

/// Runs `work`; true if it threw nothing. An Error must have one of these statuses, a place and a cause.
template <class Work>
bool accepted(Work&& work, std::initializer_list<ExitStatus> statuses) {
  try {
    work();
    return true;
  } catch (const Error& e) {
    if (std::find(statuses.begin(), statuses.end(), e.status()) == statuses.end())
      std::fprintf(stderr, "%s\n", e.what());
    require(std::find(statuses.begin(), statuses.end(), e.status()) != statuses.end(),
            "an error of another exit status");
    require(!e.place().empty() && !e.cause().empty(), "an error without place or cause");
    return false;
  }
}

}  // namespace fourmi::fuzz
