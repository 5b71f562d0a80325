// What entries say, type by type: their payloads as structs. Unknown members of a payload are kept and ignored.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/ledger/entry.h"

namespace fourmi {

/// "run": steps and tokens count from 0 after it.
struct RunFact {
  static constexpr std::string_view type = "run";
  std::string name, recipe_sha256, model_type;
};

struct DataFile {
  std::string path;
  std::int64_t bytes = 0;
  std::string sha256;
  bool operator==(const DataFile&) const = default;
};

/// "dataset": a source that launches after it read.
struct DatasetFact {
  static constexpr std::string_view type = "dataset";
  std::string name, format, license, source;
  std::vector<DataFile> files;  ///< none: made up (synthetic)
  std::string sha256;           ///< of the one file; of the lines "<sha256>\n" of several, in order; empty: no file
  std::string digest_from;      ///< tokenize (a side file made with the data), recipe, reading (when first read)

  std::int64_t bytes() const;
  /// SHA-256 over name, format, terms and content; paths do not count.
  std::string id() const;
};
/// DatasetFact::sha256 of these files.
std::string digest_of(const std::vector<DataFile>& files);

/// "launch": one start of the program, on all its ranks.
struct LaunchFact {
  static constexpr std::string_view type = "launch";
  std::int64_t launch = 0, step = 0, ranks = 0;  ///< step: that it started after
  std::string started_as, commit, version, recipe_sha256;
  std::vector<std::string> hosts, changes;
};

struct SourceTokens {
  std::string dataset;  ///< DatasetFact::id
  std::int64_t tokens = 0;
  bool operator==(const SourceTokens&) const = default;
};
/// "tokens": input positions (no padding) of the steps after from_step up to to_step, by source.
struct TokensFact {
  static constexpr std::string_view type = "tokens";
  std::int64_t from_step = 0, to_step = 0;
  std::vector<SourceTokens> sources;
  std::int64_t total() const;
};

/// "checkpoint": `tokens` are all input positions of the run so far, as its manifest says.
struct CheckpointFact {
  static constexpr std::string_view type = "checkpoint";
  std::int64_t step = 0, tokens = 0;
  std::string root;
};

/// "rollback": the run went back from from_step to to_step, by its guard; what came between is a side branch.
struct RollbackFact {
  static constexpr std::string_view type = "rollback";
  std::int64_t from_step = 0, to_step = 0;
  std::string cause;
};

/// "promotion": the guard of eight bits found at `step` that this layer has to work in bf16.
struct PromotionFact {
  static constexpr std::string_view type = "promotion";
  std::int64_t step = 0, layer = 0;
  bool operator==(const PromotionFact&) const = default;
};

/// "branch" (checkpoint.resume: PATH; goes on counting) and "model.from" (the weights only; a "run" follows).
struct OriginFact {
  std::string path, root;
  std::int64_t step = 0, tokens = 0;
};
inline constexpr std::string_view branch_type = "branch", model_from_type = "model.from";

/// "unrecorded": input positions that no ledger tells the sources of (a checkpoint older than ledgers, or a ledger that
/// was lost).
struct UnrecordedFact {
  static constexpr std::string_view type = "unrecorded";
  std::int64_t step = 0, tokens = 0;
  std::string cause;
};

std::string to_payload(const RunFact& fact);
std::string to_payload(const DatasetFact& fact);
std::string to_payload(const LaunchFact& fact);
std::string to_payload(const TokensFact& fact);
std::string to_payload(const CheckpointFact& fact);
std::string to_payload(const RollbackFact& fact);
std::string to_payload(const PromotionFact& fact);
std::string to_payload(const OriginFact& fact);
std::string to_payload(const UnrecordedFact& fact);

/// Each throws Error(input) at `place` naming the entry if a member is missing or of another kind.
RunFact run_fact(const LedgerEntry& entry, const std::string& place);
DatasetFact dataset_fact(const LedgerEntry& entry, const std::string& place);
LaunchFact launch_fact(const LedgerEntry& entry, const std::string& place);
TokensFact tokens_fact(const LedgerEntry& entry, const std::string& place);
CheckpointFact checkpoint_fact(const LedgerEntry& entry, const std::string& place);
RollbackFact rollback_fact(const LedgerEntry& entry, const std::string& place);
PromotionFact promotion_fact(const LedgerEntry& entry, const std::string& place);
OriginFact origin_fact(const LedgerEntry& entry, const std::string& place);
UnrecordedFact unrecorded_fact(const LedgerEntry& entry, const std::string& place);

/// One line that says what an entry says.
std::string describe(const LedgerEntry& entry, const std::string& place);

}  // namespace fourmi
