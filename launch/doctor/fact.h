// What `fourmi doctor` finds out on a rank: a list of facts, each with a verdict, that text, JSON and the comparison of
// ranks read.
#pragma once

#include <string>
#include <vector>

namespace fourmi::doctor {

enum class Verdict {
  fine,
  note,     ///< training runs, but a person should know
  problem,  ///< training does not run so: exit status 3
};

/// What ranks must have in common.
enum class Agree {
  no,      ///< may differ (free memory)
  should,  ///< a difference is told (model of the CPU)
  must,    ///< a difference is a problem (commit)
};

struct Fact {
  std::string group, name;  ///< "memory", "available"
  std::string value;
  Agree agree = Agree::no;
  Verdict verdict = Verdict::fine;
  std::string remedy{};  ///< of a note or a problem
};

using Facts = std::vector<Fact>;

std::string_view name_of(Verdict verdict);
/// 1536 -> "1.5 KiB".
std::string bytes_text(double bytes);

/// Facts as a text that travels between ranks, and back. Whatever is in the values comes back, UTF-8 or not.
std::string pack(const Facts& facts);
Facts unpack(const std::string& text);

}  // namespace fourmi::doctor
