// What a lineage says, as a section of a model card: Markdown for people. Every name in it is text from outside and
// stands as such.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "framework/ledger/trace.h"

namespace fourmi {

/// Whom it learned from with what they ask, weights that others made, runs, sources with tokens and licences, and all
/// licences together.
std::string card_section(const Trace& trace);

/// What teachers' terms ask to be said, each once, as paragraphs; empty: nothing.
std::string card_notices(const Trace& trace);

/// The terms of all that the weights were made from: licences as SPDX identifiers (or what the base's card says), each
/// once. Nothing where a part's is not known.
std::optional<std::vector<std::string>> licenses_of(const Trace& trace);

/// A cell of a table: one line, no mark-up; "not given" for nothing.
std::string card_cell(const std::string& text);
/// As cards call what was imported: its folder or file.
std::string name_of(const ImportFact& import);

}  // namespace fourmi
