// Which rank is the odd one: facts of all ranks beside each other.
#pragma once

#include <string>
#include <vector>

#include "launch/doctor/fact.h"

namespace fourmi::doctor {

struct OddRank {
  int rank = 0;
  std::string host, value;  ///< "(not told)" where the rank lacks the fact
};

struct Difference {
  std::string group, name;
  Agree agree = Agree::must;
  std::string usual;         ///< what most ranks have; empty where no value has more ranks than any other
  std::vector<OddRank> odd;  ///< the others; all ranks where there is no usual value
};

/// `ranks[r]`: facts of rank r, `hosts[r]` its host. Facts that need not agree are not looked at.
std::vector<Difference> compare(const std::vector<Facts>& ranks, const std::vector<std::string>& hosts);

/// "commit: rank 2 on node7 has 1e15408, the others have a0b1c2d"
std::string to_text(const Difference& difference);

}  // namespace fourmi::doctor
