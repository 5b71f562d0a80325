// DeepSeekMoE (DeepSeek-V3 report 2.1.2): y = residual + sum of chosen experts' outputs by their weights + shared
// expert. Routing is of this rank's rows alone: M is context.h's m here. The expert axes divide the routed experts
// (experts.h), the tensor axis cuts the shared one.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "framework/model/experts.h"
#include "framework/model/mlp.h"
#include "kernels/ops/routing.h"

namespace fourmi {

class Moe {
 public:
  Moe(const ModelSection& model, const ParameterStore& store, std::int64_t layer);

  struct Sizes {
    BatchSizes batch;
    ModelTypes types;
    std::int64_t D, E, K;
    Experts::Sizes experts;
    std::optional<Mlp::Sizes> shared;
    /// Ranks share sequences: their balance losses need what the others found.
    bool shares_sequences() const { return batch.context > 1 || batch.shard_rows() % batch.tokens_per_sequence != 0; }
    std::int64_t num_sequences() const {
      return shares_sequences() ? batch.num_sequences() : batch.shard_rows() / batch.tokens_per_sequence;
    }
    std::int64_t all_blocks() const { return 16 * batch.num_sequences(); }
  };
  Sizes sizes(const BatchSizes& batch, const ModelTypes& types) const;

  struct Saved {
    Tensor operand_MD;  // x as products read it, where that is another dtype
    Tensor x32_MD, logits_ME, scores_ME, experts_MK, weights_MK, balance_S, dscores_ME;
    Tensor base_MD;
    Tensor counts_BE, sums_BE, all_counts_BE, all_sums_BE;  // of blocks of T/16 tokens, where ranks share sequences
    Tensor row_counts_BE, row_sums_BE;                      // of the M rows, where ranks of both axes do
    Experts::Saved experts;
    Mlp::Saved shared;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const std::int64_t M = s.batch.shard_rows();
      const DType act = s.types.activation, acc = s.types.accumulate;
      if (s.types.scaled()) visit(operand_MD, "operand", Shape{M, s.D}, s.types.operand, Keep::temporary);
      if (act != acc) visit(x32_MD, "x32", Shape{M, s.D}, acc, Keep::temporary);
      visit(logits_ME, "logits", Shape{M, s.E}, acc, Keep::temporary);
      visit(scores_ME, "scores", Shape{M, s.E}, acc, Keep::needed);
      visit(experts_MK, "experts", Shape{M, s.K}, DType::i32, Keep::needed);
      visit(weights_MK, "weights", Shape{M, s.K}, acc, Keep::needed);
      visit(balance_S, "balance", Shape{s.num_sequences()}, acc, Keep::result);
      visit(dscores_ME, "dscores", Shape{M, s.E}, acc, Keep::needed);
      if (s.shares_sequences()) {
        const std::int64_t blocks = s.all_blocks() / s.batch.context, B = blocks / s.batch.tensor;
        visit(counts_BE, "counts", Shape{B, s.E}, DType::i32, Keep::temporary);
        visit(sums_BE, "sums", Shape{B, s.E}, acc, Keep::temporary);
        if (s.batch.context > 1 && s.batch.tensor > 1) {
          visit(row_counts_BE, "row_counts", Shape{blocks, s.E}, DType::i32, Keep::temporary);
          visit(row_sums_BE, "row_sums", Shape{blocks, s.E}, acc, Keep::temporary);
        }
        visit(all_counts_BE, "all_counts", Shape{s.all_blocks(), s.E}, DType::i32, Keep::temporary);
        visit(all_sums_BE, "all_sums", Shape{s.all_blocks(), s.E}, acc, Keep::temporary);
      }
      experts.fields(s.experts, visit);
      if (s.shared) {
        visit(base_MD, "base", Shape{M, s.D}, act, Keep::temporary);
        shared.fields(*s.shared, visit);
      }
    }
  };
  struct Gradients {
    Tensor dweights_MK, dlogits_ME, dx32_MD, dshared_MD;
    Experts::Gradients experts;
    Mlp::Gradients shared;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const std::int64_t M = s.batch.shard_rows();
      const DType act = s.types.activation, acc = s.types.accumulate;
      visit(dweights_MK, "dweights", Shape{M, s.K}, acc, Keep::needed);
      experts.fields(s.experts, visit);
      visit(dlogits_ME, "dlogits", Shape{M, s.E}, acc, Keep::needed);
      visit(dx32_MD, "dx32", Shape{M, s.D}, acc, Keep::needed);
      if (s.shared) {
        visit(dshared_MD, "dshared", Shape{M, s.D}, act, Keep::needed);
        shared.fields(*s.shared, visit);
      }
    }
  };

  /// x is the normalised input. `counts_E` (i64), where given, is increased by the choices of each expert.
  void forward(const Context&, const Tensor& x_MD, Saved&, const Tensor& y_MD, const Tensor& residual_MD,
               const Tensor& counts_E) const;
  /// Its four parts, for callers that work while rows travel (experts.h). The shared expert is computed under the
  /// first of their ways.
  void plan_forward(const Context&, const Tensor& x_MD, Saved&, const Tensor& counts_E) const;
  void start_forward(const Context&, const Tensor& x_MD, Saved&, const Tensor& residual_MD) const;
  void compute_forward(const Context&, const Tensor& x_MD, const Saved&) const;
  void finish_forward(const Context&, const Tensor& x_MD, const Saved&, const Tensor& y_MD,
                      const Tensor& residual_MD) const;
  /// What backward needs, again: the tokens in experts' order and SwiGLU's outputs, in `full` the routing and the
  /// experts too. The routing is a pure function of x, so the same experts are chosen; nothing is counted.
  void recompute(const Context&, const Tensor& x_MD, Saved&, Recompute) const;
  /// x as products read it, again, where it has scales: of the block's backward.
  void restore_operand(const Context&, const Tensor& x_MD, const Saved&) const;
  /// What is done while every rank's dy, while partial sums of the shared expert, and while what experts give to dx
  /// travels.
  void backward_input(const Context&, const Tensor& x_MD, const Saved&, const Tensor& dy_MD, Gradients&,
                      const Tensor& dx_MD, const Meanwhile& gathering = {}, const Meanwhile& summing = {},
                      const Meanwhile& combining = {}) const;
  /// Its parts: dy leaves, under the shared expert; then round by round the experts' and the router's gradients, what
  /// they give to dx leaves, and dx.
  void start_backward(const Context&, const Saved&, const Tensor& dy_MD, Gradients&, const Meanwhile& gathering = {},
                      const Meanwhile& summing = {}) const;
  void compute_backward(const Context&, const Tensor& x_MD, const Saved&, int round, const Tensor& dy_MD,
                        Gradients&) const;
  void send_backward(const Context&, const Saved&, int round, const Gradients&) const;
  void finish_backward(const Context&, const Saved&, int round, const Gradients&, const Tensor& dx_MD) const;
  static int num_rounds(const Saved& s) { return Experts::num_rounds(s.experts); }
  void backward_weight(const Context&, const Tensor& x_MD, const Saved&, const Tensor& dy_MD, const Gradients&) const;
  /// Its two parts; the shared expert's inputs are known when `summing` is called.
  void backward_weight_shared(const Context&, const Tensor& x_MD, const Saved&, const Tensor& dy_MD,
                              const Gradients&) const;
  void backward_weight_routed(const Context&, const Tensor& x_MD, const Saved&, const Tensor& dy_MD,
                              const Gradients&) const;

  /// Ablation for evaluation: the chosen experts' outputs count as zero, the shared expert stays.
  void set_zero_routed(bool zero) { experts_.set_zero(zero); }
  /// The router's correction bias, absent where the family has none.
  const std::optional<Slot>& bias() const { return bias_; }

 private:
  static Tensor router_input(const Context&, const Tensor& x_MD, const Tensor& x32_MD);
  void begin_balance(const Context&, Saved&) const;
  void finish_balance(const Context&, const Saved&, const Meanwhile&) const;
  void share_statistics(const Context&, const Saved&, const Meanwhile&) const;
  void route(const Context&, const Tensor& x_MD, Saved&, const Tensor& counts_E) const;
  void route_backward(const Context&, const Saved&, Share::Range tokens, Gradients&) const;
  static const Tensor& operand(const Saved& s, const Tensor& x_MD) { return s.operand_MD ? s.operand_MD : x_MD; }
  static Choices choices(const Saved& s) { return {s.experts_MK, s.weights_MK}; }

  std::int64_t D_, E_, K_;
  Routing routing_;
  Slot router_;
  Experts experts_;
  std::optional<Slot> bias_;
  std::optional<Mlp> shared_;
};

}  // namespace fourmi
