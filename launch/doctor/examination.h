// All ranks' facts together, at rank 0: what is wrong, who is the odd one; as text and as JSON.
#pragma once

#include <string>
#include <vector>

#include "launch/doctor/compare.h"
#include "launch/doctor/fact.h"

namespace fourmi::doctor {

struct Complaint {
  Verdict verdict = Verdict::note;
  std::string text, remedy;
};

struct Examination {
  Facts facts;  ///< of rank 0
  std::vector<std::string> hosts;
  std::vector<Difference> differences;
  std::vector<Complaint> complaints;  ///< problems first; what several ranks of one host say of it is said once
  std::size_t num_problems() const;
};

/// `clock_offsets`: seconds by which each rank is ahead of rank 0; empty: not measured.
Examination examine(const std::vector<Facts>& ranks, const std::vector<std::string>& hosts,
                    const std::vector<double>& clock_offsets = {});

std::string to_text(const Examination& examination);
std::string to_json(const Examination& examination);

}  // namespace fourmi::doctor
