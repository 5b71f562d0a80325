// What a rank with the student's head has of the teacher's: its output matrix, whose vocabulary the tensor axis cuts as
// it cuts the student's, and the teacher's last hidden rows of a step, through its final norm.
//   Letters beside context.h's: D the teacher's hidden_size   C rows of a chunk   V vocabulary columns held here
#pragma once

#include "framework/model/context.h"
#include "framework/train/teacher/teacher_weights.h"
#include "kernels/ops/rms_norm.h"

namespace fourmi {

class TeacherHead {
 public:
  /// `rows`: this rank's of a whole step, its micro-batches one after another. `most_at_once`: what add() may be given.
  /// `tensor`: this rank's place on the student's tensor axis. `vocab_size`: the student's, whose columns these are;
  /// what the teacher has beyond them, or they beyond the teacher, is padding.
  TeacherHead(const Recipe& teacher, std::int64_t vocab_size, Share tensor, std::int64_t rows,
              std::int64_t most_at_once, Arena& arena);

  /// Of the teacher's output matrix, for load_weights.
  const StoredRows& stored_rows() const { return stored_rows_; }

  const ParameterStore& store() const { return store_; }
  std::int64_t num_columns() const {
    return store_.weight(head_).dim(0);
  }  ///< of the vocabulary held here, with padding
  std::int64_t hidden_size() const { return hidden_nD_.dim(1); }
  DType activation() const { return hidden_nD_.dtype; }
  /// Hidden rows as the last layer gave them become rows [row, row + n) of the step.
  void add(const Stream& stream, const Tensor& hidden_nD, std::int64_t row) const;
  /// This rank's of a micro-batch of so many.
  Tensor rows(int micro_batch, std::int64_t shard_rows) const {
    return hidden_nD_.rows(micro_batch * shard_rows, (micro_batch + 1) * shard_rows);
  }
  /// logits_CV = normalised rows x the output matrix; padding is -infinity.
  void logits(const Stream& stream, const Tensor& normalised_CD, const Tensor& logits_CV) const;

 private:
  ParameterTable table_;
  ParameterStore store_;
  Slot norm_weight_, head_;
  RmsNorm norm_;
  StoredRows stored_rows_;
  std::int64_t vocab_size_, first_;
  Tensor hidden_nD_, rstd_n_;
};

}  // namespace fourmi
