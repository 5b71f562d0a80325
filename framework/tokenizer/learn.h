// Training a byte-level BPE vocabulary: the pair of neighbours that occurs most often becomes a token, again and again.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "framework/tokenizer/merges.h"

namespace fourmi {

struct LearnOptions {
  std::int64_t vocab_size = 0;     ///< of special tokens, bytes and merges together; at least the first two
  std::int64_t min_frequency = 2;  ///< a pair that occurs less often is not learnt
  std::vector<std::string> special_tokens{"<|endoftext|>"};  ///< the first ids
};

struct LearntVocabulary {
  std::vector<std::string> special_tokens;
  std::vector<std::string> tokens;  ///< bytes of each id; of special tokens as they are written
  std::vector<Merge> merges;
};

/// Ids: special tokens, then the 256 bytes in the order of their characters (byte_level.h), then merges as they are
/// learnt. Of pairs that occur equally often the one with the smaller left id is learnt first, then that with the
/// smaller right id. Where two pairs give the same bytes, both are merges of one token. It may end before vocab_size:
/// when no pair is left.
/// `words` as WordCounter::sorted() gives them. Time about linear in the merges' occurrences: each merge touches the
/// words that hold it, the best pair comes from a heap.
LearntVocabulary learn_vocabulary(const std::vector<std::pair<std::string, std::int64_t>>& words,
                                  const LearnOptions& options);

}  // namespace fourmi
