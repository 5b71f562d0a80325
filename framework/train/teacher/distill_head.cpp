#include "framework/train/teacher/distill_head.h"

#include "framework/model/cut_linear.h"
#include "framework/model/head.h"
#include "kernels/ops/cross_entropy.h"

namespace fourmi {

namespace {

Divergence divergence_of(const DistillSection& d) {
  Divergence divergence{.beta = d.beta, .temperature = d.temperature};
  switch (d.objective) {
    case DistillObjective::forward_kl:
      divergence.kind = Divergence::Kind::forward_kl;
      break;
    case DistillObjective::reverse_kl:
      divergence.kind = Divergence::Kind::reverse_kl;
      break;
    case DistillObjective::jensen_shannon:
      divergence.kind = Divergence::Kind::jensen_shannon;
      break;
  }
  return divergence;
}

}  // namespace

DistillHead::DistillHead(const Recipe& student, const BatchSizes& batch, const TeacherHead& head, Arena& arena)
    : divergence_(divergence_of(student.distill)), head_(head) {
  const std::int64_t P = batch.tensor,
                     V = vocabulary_share(student.model.vocab_size, {0, static_cast<int>(P)}).padded_rows,
                     chunk = Head::chunk_rows(batch, V);
  const DType acc = head.store().types().accumulate;
  const auto take = [&](Shape shape, const char* what) { return arena.allocate(shape, acc, what); };
  logits_CV_ = take({chunk, V}, "the teacher's logits");
  for (Tensor* row : {&max_C_, &teacher_sum_C_, &student_sum_C_, &loss_C_, &mean_C_}) *row = take({chunk}, "of a row");
  sums_ = HeadSums(P, chunk, acc, arena);
  divergence_M_ = take({batch.rows}, "divergence");
  if (P == 1) return;
  all_rows_MD_ = arena.allocate({batch.rows, head.hidden_size()}, head.activation(), "the teacher's rows of all ranks");
}

void DistillHead::operator()(const Context& c, const HeadChunk& k) const {
  const Stream& stream = *c.stream;
  if (k.multi_token)
    return cross_entropy_finish(stream, k.weight, k.logits_CV, k.max_C, k.sum_C, k.target_logit_C, k.targets_C,
                                k.first_token, k.loss_C, k.dlogits_CV);
  const std::int64_t n = k.logits_CV.dim(0), leaves = c.leaves.vocabulary;
  const Tensor mine = head_.rows(c.micro_batch, c.sizes.shard_rows());
  if (k.first_row == 0 && all_rows_MD_) gathered(c, mine, all_rows_MD_);
  const Tensor rows = all_rows_MD_ ? all_rows_MD_ : mine;
  const auto of_chunk = [&](const Tensor& row) { return row.rows(0, n); };
  const Tensor logits = logits_CV_.rows(0, n), max = of_chunk(max_C_), teacher_sum = of_chunk(teacher_sum_C_);
  head_.logits(stream, rows.rows(k.first_row, k.first_row + n), logits);
  softmax_max(stream, logits, max);
  sums_.share_max(c, max);
  const double temperature = divergence_.temperature;
  const Tensor one_LC = sums_.first(leaves, n), other_LC = sums_.second(leaves, n);
  tempered_sum(stream, temperature, logits, max, one_LC, leaves);
  // At temperature 1 the student's is the head's own.
  const bool tempered = temperature != 1;
  const Tensor student_sum = tempered ? of_chunk(student_sum_C_) : k.sum_C;
  if (tempered) tempered_sum(stream, temperature, k.logits_CV, k.max_C, other_LC, leaves);
  sums_.share(c, one_LC, teacher_sum, other_LC, tempered ? student_sum : Tensor{});
  const TemperedRows student{k.logits_CV, k.max_C, student_sum}, teacher{logits, max, teacher_sum};
  const Tensor loss = of_chunk(loss_C_), mean = of_chunk(mean_C_);
  divergence_sums(stream, divergence_, student, teacher, one_LC, other_LC, leaves);
  sums_.share(c, one_LC, loss, other_LC, mean);
  cross_entropy_finish(stream, k.weight, k.logits_CV, k.max_C, k.sum_C, k.target_logit_C, k.targets_C, k.first_token,
                       k.loss_C);
  divergence_finish(stream, divergence_, k.weight, share_, student, teacher, {loss, mean, k.sum_C, k.targets_C},
                    k.first_token, divergence_M_.rows(k.first_row, k.first_row + n), k.dlogits_CV);
}

}  // namespace fourmi
