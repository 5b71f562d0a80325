// One micro-batch as the model reads it. M = micro_batch_size * sequence_length rows; sequence s owns rows [s*T,
// (s+1)*T).
#pragma once

#include <cstdint>
#include <vector>

namespace fourmi {

struct Batch {
  std::int64_t num_sequences = 0, sequence_length = 0;
  std::vector<std::int32_t> tokens;     ///< [M] input ids
  std::vector<std::int32_t> targets;    ///< [M] the next token, -1: not counted, divergence_alone: of a teacher alone
  std::vector<std::int32_t> positions;  ///< [M] rotary position: from 0 in each sequence (in each document when
                                        ///< documents may not see each other)
  std::vector<std::int32_t>
      key_begin;  ///< [M] first row that this row may attend to (its document's or its sequence's first)
  /// Multi-token prediction, depth 1: the next token as input and the one after as target; -1 where there is none (the
  /// document or the sequence's supply ends). mtp_tokens has a valid id wherever mtp_targets is not -1; elsewhere -1.
  std::vector<std::int32_t> mtp_tokens, mtp_targets;
  std::vector<std::int32_t>
      window;  ///< [T + 2] what write_window reads into; a batch that is filled again allocates nothing
};

}  // namespace fourmi
