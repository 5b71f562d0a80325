// What a model card tells, gathered from a checkpoint, its ledger and the logs of its run. What no file tells stays
// empty.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "framework/checkpoint/load.h"
#include "framework/interop/export_ledger.h"

namespace fourmi::interop {

struct CardFacts {
  Trace trace;
  std::string problem;                                       ///< why nothing is known of the lineage; empty: it is
  std::optional<double> loss, held_out_loss, bits_per_byte;  ///< of the checkpoint's step
};

/// `run`: the checkpoint's run directory; empty: it stands alone.
CardFacts card_facts(const Checkpoint& checkpoint, const KnownLineage& lineage, const std::filesystem::path& run);

/// A model card's word for an SPDX identifier: lower case, without -only and -or-later, if cards know it; else empty.
std::string card_license(const std::string& spdx);

}  // namespace fourmi::interop
