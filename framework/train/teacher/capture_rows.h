// What a rank takes of its sequences: logits of a chunk of the teacher's rows at a time, and of each row the tokens
// that the cache keeps.
//   Letters as in head.h: C rows of a chunk   V columns of the whole vocabulary
#pragma once

#include <span>
#include <vector>

#include "framework/capture/header.h"
#include "framework/train/teacher/teacher_forward.h"

namespace fourmi {

class CaptureRows {
 public:
  /// `placed`: a recipe whose head lies whole on every rank, with a sequence a micro-batch. Memory from `arena`.
  CaptureRows(const Recipe& placed, const TeacherHead& head, const CacheFormat& format, Arena& arena);

  /// Of sequence `index` of this rank's part of the step that the teacher was prepared for: its first `rows` rows, of
  /// which the first is `first_token` of the source `name`.
  void take(const Stream& stream, std::int64_t index, std::int64_t rows, std::uint64_t seed, const std::string& name,
            std::int64_t first_token, std::uint32_t* entries, float* rest);

 private:
  const TeacherHead& head_;
  CacheFormat format_;
  double temperature_;
  std::int64_t sequence_length_;
  Tensor logits_CV_, max_C_, sum_C_;
};

}  // namespace fourmi
