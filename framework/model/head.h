// Final norm, output head and cross-entropy, in chunks of rows: logits exist for one chunk at a time. Loss, the
// gradient of its input and of its weights are formed in one pass, since a second one would compute every logit twice.
// The tensor axis cuts the vocabulary: V is what this rank holds; every rank of the axis finds the same losses.
//   Letters beside context.h's: C rows of a chunk   P ranks of the tensor axis   L leaves of the vocabulary
#pragma once

#include "framework/model/context.h"
#include "framework/model/fields.h"
#include "kernels/ops/rms_norm.h"

namespace fourmi {

/// [rows, n] in the memory of a larger tensor.
Tensor first_rows_of(const Tensor& memory, std::int64_t rows, std::int64_t n);
/// The parameter whose rows are the output matrix's.
const char* output_matrix_name(const ModelSection& model);

class Head {
 public:
  /// `norm` is the name of the norm before the head ("model.norm.weight", or the MTP layer's shared_head.norm.weight).
  Head(const ModelSection& model, const ParameterStore& store, const std::string& norm);

  struct Sizes {
    BatchSizes batch;
    ModelTypes types;
    std::int64_t D, V, chunk;
  };
  Sizes sizes(const BatchSizes& batch, const ModelTypes& types) const;
  /// Rows that make one partial of the weight's gradient: about 256, and whole leaves of T/16 tokens, so that none of
  /// mode layout's partials straddles two of them.
  static std::int64_t partial_rows(const BatchSizes& batch);
  /// Rows a chunk: one partial's where this rank is alone. Ranks that share the vocabulary exchange what they found of
  /// each chunk, and each exchange takes its latency: they take as many partials at once as fit into `most_logits`.
  static constexpr std::int64_t most_logits = std::int64_t{1} << 20;
  static std::int64_t chunk_rows(const BatchSizes& batch, std::int64_t V);

  struct Saved {
    Tensor xn_mD, rstd_m, dxn_mD, all_xn_MD, logits_CV, dlogits_CV, max_C, sum_LC, sum_C, target_logit_C;
    Tensor max_PC, all_sum_LC, target_logit_PC;  ///< every rank's
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const DType act = s.types.activation, acc = s.types.accumulate;
      const std::int64_t m = s.batch.shard_rows(), P = s.batch.tensor;
      visit(xn_mD, "xn", Shape{m, s.D}, act, Keep::needed);
      visit(rstd_m, "rstd", Shape{m}, acc, Keep::needed);
      visit(dxn_mD, "dxn", Shape{m, s.D}, act, Keep::needed);
      if (P > 1) {
        visit(all_xn_MD, "all_xn", Shape{s.batch.rows, s.D}, act, Keep::temporary);
        visit(max_PC, "every max", Shape{P, s.chunk}, acc, Keep::temporary);
        visit(all_sum_LC, "every sum", Shape{vocabulary_leaves, s.chunk}, acc, Keep::temporary);
        visit(target_logit_PC, "every target_logit", Shape{P, s.chunk}, acc, Keep::temporary);
      }
      visit(logits_CV, "logits", Shape{s.chunk, s.V}, acc, Keep::temporary);
      visit(dlogits_CV, "dlogits", Shape{s.chunk, s.V}, act, Keep::temporary);
      visit(max_C, "max", Shape{s.chunk}, acc, Keep::temporary);
      visit(sum_LC, "leaf sums", Shape{vocabulary_leaves / P, s.chunk}, acc, Keep::temporary);
      visit(sum_C, "sum", Shape{s.chunk}, acc, Keep::temporary);
      visit(target_logit_C, "target_logit", Shape{s.chunk}, acc, Keep::temporary);
    }
  };

  /// loss_M: each row's cross-entropy in nats, 0 where the target is -1.
  void forward(const Context&, const Tensor& x_mD, const Tensor& targets_M, Saved&, const Tensor& loss_M) const;
  /// The same, and the gradients of weight * sum(loss): of lm_head at once, of the normalised input into the saved
  /// struct.
  void forward_backward(const Context&, const Tensor& x_mD, const Tensor& targets_M, double weight, Saved&,
                        const Tensor& loss_M) const;
  /// After forward_backward: dx through the norm, and the norm's weight.
  void backward(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dx_mD) const;
  /// logits_CV (accumulator dtype) of a few rows, for generation.
  void logits(const Context&, const Tensor& x_MD, Saved&, const Tensor& logits_CV) const;

 private:
  void chunks(const Context&, const Tensor& targets_M, double weight, bool backward, Saved&,
              const Tensor& loss_M) const;

  void share_max(const Context&, const Tensor& max_C, const Saved&, const Meanwhile&) const;
  void share_sums(const Context&, const Tensor& target_logit_C, const Tensor& sum_C, const Saved&,
                  const Meanwhile&) const;

  std::int64_t D_, V_, first_;  ///< first_: the token of this rank's first row
  RmsNorm norm_;
  Slot norm_weight_, head_;
  std::int64_t vocab_size_;
  bool multi_token_;
};

}  // namespace fourmi
