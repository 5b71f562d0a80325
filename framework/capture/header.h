// What a cache of a teacher's distributions was made of: what must be the same where it is learned from. The data's
// order, the batch's size, the layout and the learning are free.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/capture/row_format.h"
#include "framework/data/loader.h"
#include "framework/ledger/teacher_fact.h"
#include "framework/recipe/recipe.h"
#include "kernels/runtime/error.h"

namespace fourmi {

/// The documents of a source, on the side of training.
struct CapturedSource {
  std::string name;
  std::int64_t bytes = 0;  ///< of its files or texts (loader.h's position)
  std::uint32_t checksum = 0;
  std::int64_t tokens = 0;  ///< input positions of an epoch
  bool operator==(const CapturedSource&) const = default;
};

struct CaptureHeader {
  CacheFormat format;
  double temperature = 1;
  TeacherFact teacher;
  std::string tokenizer_sha256, end_of_document, begin_of_text;  ///< tokenizer_sha256 empty: bytes
  std::string chat_template_sha256;                              ///< empty: no source is of conversations
  std::int64_t sequence_length = 0;
  bool packing = true, cross_document_attention = false;
  double holdout = 0;
  std::uint64_t seed = 0;  ///< of samples
  std::vector<CapturedSource> sources;
};

/// As a recipe says, but for the teacher; format.vocab_size is the smaller of both models'. The recipe's tokenizer is
/// pinned and its teacher known (pin_teacher) where it names one.
CaptureHeader header_of(const Recipe& recipe, const Loader& loader);

/// What differs between a cache and what a recipe wants, the first of it: Error(input) at `place` with both values.
/// Sources may be fewer than the cache's, in another order and under other names; the vocabulary may have other
/// padding. `teacher_root`: empty where the recipe names no teacher.
void refuse_other(const CaptureHeader& cache, const CaptureHeader& wanted, const std::string& teacher_root,
                  const std::string& place);
/// Of wanted.sources the cache's, by number; call refuse_other before.
std::vector<std::size_t> match_sources(const CaptureHeader& cache, const CaptureHeader& wanted,
                                       const std::string& place);

/// A JSON map. from_json throws Error(input) at `place`.
std::string to_json(const CaptureHeader& header);
CaptureHeader capture_header_from_json(const std::string& text, const std::string& place);

}  // namespace fourmi
