// What a lineage says as SPDX 3.0.1 JSON-LD (spdx.github.io/spdx-spec/v3.0.1): the model and its teachers as AIPackage,
// sources as DatasetPackage with their files, trainedOn and licence relationships. Times and names are the ledger's, so
// the same lineage gives the same bytes. What the ledger does not know is left out; where SPDX asks for an answer it is
// that nothing is asserted.
#pragma once

#include <string>

#include "framework/ledger/trace.h"

namespace fourmi {

/// `exported`: the folder that is described, with its files' digests; null: a checkpoint.
std::string spdx_json(const Trace& trace, const ExportFact* exported);

}  // namespace fourmi
