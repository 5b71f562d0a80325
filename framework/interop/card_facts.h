// What a model card tells, gathered from a checkpoint, its ledger and the logs of its run. What no file tells stays
// empty.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "framework/checkpoint/load.h"
#include "framework/ledger/import_fact.h"
#include "framework/ledger/trace.h"

namespace fourmi::interop {

struct CardFacts {
  Trace trace;
  std::vector<ImportFact> imports;                           ///< weights that other programs made, on the way
  std::optional<LaunchFact> launch;                          ///< the last one: commit, version, ranks
  std::string problem;                                       ///< why nothing is known of the lineage; empty: it is
  std::optional<double> loss, held_out_loss, bits_per_byte;  ///< of the checkpoint's step
};

/// `run`: the checkpoint's run directory; empty: it stands alone. A ledger that cannot be read is a problem to be told,
/// no error.
CardFacts card_facts(const Checkpoint& checkpoint, const std::filesystem::path& run);

/// The terms of all that the weights were made from: licences as SPDX identifiers (or what the base's card says), each
/// once. Nothing where a part's is not known.
std::optional<std::vector<std::string>> licenses_of(const CardFacts& facts);

/// A model card's word for an SPDX identifier: lower case, without -only and -or-later, if cards know it; else empty.
std::string card_license(const std::string& spdx);

}  // namespace fourmi::interop
