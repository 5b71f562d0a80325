#include "framework/train/teacher/teacher_head.h"

#include <algorithm>

#include "framework/model/head.h"
#include "kernels/ops/cross_entropy.h"
#include "kernels/ops/rms_norm.h"

namespace fourmi {

namespace {

Holding head_alone(Share tensor) {
  Holding held{.layers = {}, .head = true};
  held.shares.tensor = tensor;
  return held;
}

ModelSection with_vocabulary(ModelSection model, std::int64_t vocab_size) {
  model.vocab_size = vocab_size;
  return model;
}

}  // namespace

TeacherHead::TeacherHead(const Recipe& teacher, std::int64_t vocab_size, Share tensor, std::int64_t rows,
                         std::int64_t most_at_once, Arena& arena)
    : table_(with_vocabulary(teacher.model, vocab_size), head_alone(tensor)),
      store_(table_, model_types(teacher.precision, teacher.run.reproducibility), arena, nullptr),
      norm_weight_(store_.slot("model.norm.weight")),
      head_(store_.padded_slot(output_matrix_name(teacher.model))),
      norm_{.epsilon = teacher.model.rms_norm_eps},
      stored_rows_{output_matrix_name(teacher.model), teacher.model.vocab_size},
      vocab_size_(std::min(vocab_size, teacher.model.vocab_size)),
      first_(table_.find(output_matrix_name(teacher.model)).first_row) {
  const ModelTypes& types = store_.types();
  hidden_nD_ = arena.allocate({rows, teacher.model.hidden_size}, types.activation, "the teacher's hidden rows");
  rstd_n_ = arena.allocate({most_at_once}, types.accumulate, "rstd");
}

void TeacherHead::add(const Stream& stream, const Tensor& hidden_nD, std::int64_t row) const {
  const std::int64_t n = hidden_nD.dim(0);
  rms_norm_forward(stream, norm_, hidden_nD, store_.weight(norm_weight_), hidden_nD_.rows(row, row + n),
                   rstd_n_.rows(0, n));
}

void TeacherHead::logits(const Stream& stream, const Tensor& normalised_CD, const Tensor& logits_CV) const {
  linear_forward(stream, normalised_CD, store_.weight(head_), logits_CV);
  mask_padding(stream, first_, vocab_size_, logits_CV);
}

}  // namespace fourmi
