// The terms of data as SPDX licence expressions (SPDX specification 2.3, annex D):
//
//   expression = term { ("AND" | "OR") term }, AND binds tighter;  term = "(" expression ")" | licence [ "WITH"
//   exception ] licence    = an identifier of the SPDX list ["+"] | LicenseRef-<letters, digits, ".", "-">
//
// Identifiers are those of the table in license_ids.cpp, spelt exactly as there. fourmi records and compares terms; it
// gives no legal advice.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fourmi {

/// What a policy may refuse by, beside identifiers. Public statements of the licences themselves, no judgement of use.
enum LicenseTag : unsigned {
  license_non_commercial = 1,  ///< forbids commercial use
  license_no_derivatives = 2,  ///< forbids sharing what was made of it
  license_share_alike = 4,     ///< asks for the same terms for what was made of it (copyleft)
  license_custom = 8,          ///< LicenseRef-: terms that no list knows
};

struct LicenseId {
  std::string_view id;
  unsigned tags = 0;
};

/// The known identifiers.
std::span<const LicenseId> license_ids();
/// Identifiers that may follow WITH.
std::span<const std::string_view> license_exceptions();
/// "non-commercial", "no-derivatives", "share-alike", "custom": words of ledger.policy.deny.
struct LicenseTagName {
  std::string_view name;
  LicenseTag tag;
};
std::span<const LicenseTagName> license_tags();

/// What is wrong with an expression: "found ..., expected ..." and a remedy; empty `found` if nothing is.
struct LicenseProblem {
  std::string found, expected, remedy;
};
LicenseProblem check_license(std::string_view expression);

/// What is wrong with a word of ledger.policy.deny: an identifier, a tag, or LicenseRef-.
LicenseProblem check_denied_word(std::string_view word);

/// Can the terms be met without anything that `denied` names? Of `A OR B` one is enough, of `A AND B` both are needed;
/// an exception (WITH) changes nothing. Empty if they can, else the word of `denied` that stands against it. The
/// expression has no problem (check_license).
std::string denied_by(std::string_view expression, std::span<const std::string> denied);

}  // namespace fourmi
