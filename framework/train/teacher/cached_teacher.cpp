#include "framework/train/teacher/cached_teacher.h"

#include <algorithm>
#include <cstring>

#include "framework/model/head.h"
#include "framework/train/coordinates.h"
#include "kernels/ops/cross_entropy.h"
#include "kernels/runtime/visit.h"

namespace fourmi {

CachedTeacher::CachedTeacher(const Recipe& student, const StageMap& stages, const Mesh& mesh, int rank, Arena& arena)
    : recipe_(student),
      has_head_(mesh.coordinate(rank, Axis::pipeline) == stages.places.back().rank),
      kind_(student.distill.samples ? SparseRows::Kind::sampled : SparseRows::Kind::top_k),
      data_{mesh.coordinate(rank, Axis::data), mesh.size(Axis::data)},
      part_{mesh.coordinate(rank, Axis::context), mesh.size(Axis::context),
            student.parallel.context_method == ContextMethod::ring} {
  refuse_device(arena, "offline");
  if (!has_head_) return;
  const BatchSizes batch = batch_sizes(student);
  rows_of_batch_ = batch.rows;
  rows_of_sample_ = batch.rows / student.data.micro_batch_size;
  const auto most_samples = static_cast<std::int64_t>(student.data.global_batch_size.most());
  const std::int64_t K = student.distill.samples ? *student.distill.samples
                                                 : student.distill.top_k.value_or(default_top_k),
                     P = batch.tensor, rows = most_samples / data_.size * rows_of_sample_,
                     V = vocabulary_share(student.model.vocab_size, {0, static_cast<int>(P)}).padded_rows,
                     chunk = Head::chunk_rows(batch, V);
  const DType acc = model_types(student.precision, student.run.reproducibility).accumulate;
  entries_nK_ = arena.allocate({rows, K}, DType::i32, "what the teacher said");
  rest_n_ = arena.allocate({rows}, DType::f32, "what the teacher said");
  ids_CK_ = arena.allocate({chunk, K}, DType::i32, "its tokens");
  probabilities_CK_ = arena.allocate({chunk, K}, acc, "their probabilities");
  for (Tensor* row : {&rest_C_, &unknown_C_, &student_sum_C_, &loss_C_})
    *row = arena.allocate({chunk}, acc, "of a row");
  sums_ = HeadSums(P, chunk, acc, arena);
  divergence_M_ = arena.allocate({batch.rows}, acc, "divergence");
  objective_ = [this](const Context& c, const HeadChunk& k) { learn(c, k); };
}

void CachedTeacher::open(std::shared_ptr<const CacheReader> cache, const CaptureHeader& wanted) {
  cache_ = std::move(cache);
  const CaptureHeader& header = cache_->manifest().header;
  format_ = header.format;
  sources_ = match_sources(header, wanted, recipe_.distill.cache);
  FOURMI_CHECK(!has_head_ || format_.entries == entries_nK_.dim(1), "a cache of {} tokens a position", format_.entries);
  prepared_.clear();
}

/// The rows of one sample that this rank holds, from `row` on.
void CachedTeacher::take(const Loader& loader, const Sample& sample, std::int64_t row) {
  const std::int64_t K = format_.entries, T = recipe_.data.sequence_length;
  std::int32_t* const entries = entries_nK_.as<std::int32_t>() + row * K;
  float* const rest = rest_n_.as<float>() + row;
  std::fill_n(entries, rows_of_sample_ * K, 0), std::fill_n(rest, rows_of_sample_, 0.0f);
  if (sample.source < 0) return;
  const std::int64_t n = loader.num_inputs(sample);
  of_window_.resize(static_cast<std::size_t>(n * K)), rest_of_window_.resize(static_cast<std::size_t>(n));
  cache_->read(static_cast<std::int64_t>(sources_.at(static_cast<std::size_t>(sample.source))),
               loader.first_token(sample), of_window_, rest_of_window_);
  std::int64_t at = 0;
  for (const Share::Range range : part_.runs(T)) {
    if (const std::int64_t count = std::min(range.end, n) - range.begin; count > 0) {
      std::memcpy(entries + at * K, of_window_.data() + range.begin * K, static_cast<std::size_t>(4 * count * K));
      std::copy_n(rest_of_window_.data() + range.begin, count, rest + at);
    }
    at += range.end - range.begin;
  }
}

void CachedTeacher::prepare(const Loader& loader, const StepPlan& plan, double share, const Stream& stream) {
  share_ = share;
  if (!has_head_ || plan.samples == prepared_) return;
  const OwningSpan span(stream.timeline(), Work::other, "teacher");
  prepared_.clear();  // where a read fails, what is there is of no step
  const std::int64_t of_rank = std::ssize(plan.samples) / data_.size;
  for (std::int64_t i = 0; i < of_rank; ++i)
    take(loader, plan.samples[static_cast<std::size_t>(data_.rank * of_rank + i)], i * rows_of_sample_);
  prepared_.assign(plan.samples.begin(), plan.samples.end());
}

/// The step's rows from `row` on. Tokens that this student does not have are padding of the teacher's vocabulary.
void CachedTeacher::unpack(std::int64_t row, const SparseRows& rows) const {
  const std::int64_t n = rows.ids_CK.dim(0), K = rows.ids_CK.dim(1), vocab_size = recipe_.model.vocab_size;
  auto* const ids = rows.ids_CK.as<std::int32_t>();
  const std::int32_t* const packed = entries_nK_.as<std::int32_t>() + row * K;
  const float* const rest = rest_n_.as<float>() + row;
  visit_accumulator(rows.rest_C.dtype, "cached rows", [&]<class T>(std::type_identity<T>) {
    T *const probabilities = rows.probabilities_CK.as<T>(), *const of_others = rows.rest_C.as<T>();
    for (std::int64_t i = 0; i < n; ++i) {
      T others = static_cast<T>(rest[i]);
      for (std::int64_t k = i * K; k < (i + 1) * K; ++k) {
        const KnownToken token = fourmi::unpack(format_, static_cast<std::uint32_t>(packed[k]));
        const bool is_padding = token.id >= vocab_size;
        ids[k] = is_padding ? -1 : token.id;
        probabilities[k] = static_cast<T>(token.probability);
        if (is_padding && kind_ == SparseRows::Kind::top_k) others += probabilities[k];
      }
      of_others[i] = others;
    }
  });
}

void CachedTeacher::learn(const Context& c, const HeadChunk& k) const {
  const Stream& stream = *c.stream;
  if (k.multi_token)
    return cross_entropy_finish(stream, k.weight, k.logits_CV, k.max_C, k.sum_C, k.target_logit_C, k.targets_C,
                                k.first_token, k.loss_C, k.dlogits_CV);
  const std::int64_t n = k.logits_CV.dim(0), leaves = c.leaves.vocabulary;
  const double temperature = recipe_.distill.temperature;
  const auto of_chunk = [&](const Tensor& row) { return row.rows(0, n); };
  const SparseRows rows{kind_, of_chunk(ids_CK_), of_chunk(probabilities_CK_), of_chunk(rest_C_)};
  unpack(c.micro_batch * rows_of_batch_ + k.first_row, rows);

  // At temperature 1 the student's sum is the head's own.
  const bool tempered = temperature != 1, has_rest = kind_ == SparseRows::Kind::top_k;
  const Tensor student_sum = tempered ? of_chunk(student_sum_C_) : k.sum_C;
  const Tensor unknown = has_rest ? of_chunk(unknown_C_) : Tensor{}, loss = of_chunk(loss_C_);
  const Tensor one_LC = sums_.first(leaves, n), other_LC = sums_.second(leaves, n);
  if (tempered) {
    tempered_sum(stream, temperature, k.logits_CV, k.max_C, one_LC, leaves);
    sums_.share(c, one_LC, student_sum);
  }
  const TemperedRows student{k.logits_CV, k.max_C, student_sum};
  sparse_divergence_sums(stream, temperature, rows, student, k.first_token, one_LC, leaves);
  if (has_rest) unknown_sum(stream, temperature, rows, k.logits_CV, k.max_C, k.first_token, other_LC, leaves);
  sums_.share(c, one_LC, loss, other_LC, unknown);
  cross_entropy_finish(stream, k.weight, k.logits_CV, k.max_C, k.sum_C, k.target_logit_C, k.targets_C, k.first_token,
                       k.loss_C);
  sparse_divergence_finish(stream, temperature, k.weight, share_, rows, student, {loss, unknown, k.sum_C, k.targets_C},
                           k.first_token, divergence_M_.rows(k.first_row, k.first_row + n), k.dlogits_CV);
}

}  // namespace fourmi
