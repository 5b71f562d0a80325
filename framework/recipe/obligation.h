// What a teacher's terms ask of what is made from what it said (distill.teacher.terms.obligations). Two forms bind:
//
//   name-prefix:Llama           the folder of every export has a name that begins so
//   notice:Built with Llama     every export's model card says so
//
// Any other text is for people: it is recorded, warned of, and written into the card.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace fourmi {

struct Obligation {
  enum class Kind { name_prefix, notice, other };
  Kind kind = Kind::other;
  std::string text;  ///< after the colon; all of another one
};

Obligation parse_obligation(std::string_view words);

/// What is wrong with one that looks like a form that binds; empty `found` if nothing is.
struct ObligationProblem {
  std::string found, expected, remedy;
};
ObligationProblem check_obligation(std::string_view words);

/// By which name an export at this path goes: its folder's.
std::string export_name(const std::filesystem::path& path);

/// `name` as it must begin by all of the prefixes, "Llama-student"; itself where it does already; empty where no name
/// can.
std::string name_with(std::span<const std::string> prefixes, const std::string& name);

}  // namespace fourmi
