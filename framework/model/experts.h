// The routed experts of a layer: y = base + the sum of the chosen experts' outputs by their weights. The expert axis
// divides the experts among ranks: rows travel to the ranks that hold their experts, are computed there in experts'
// order, and one sum comes back from each (parallel/dispatch). With all experts here nothing travels. The expert-tensor
// axis divides an expert's intermediate columns: its ranks compute the rows of all of them, each with its columns, and
// sums go back to the rank that was sent the row (column_exchange.h).
//   Letters beside context.h's: M this rank's own rows (its m)   U rows that arrive here in a round   e experts held
//   here   R expert rows of a round: choices of arrived rows that are experts held here   A those of all ranks of the
//   expert-tensor axis, R where it has one   F intermediate columns held here
// A micro-batch that brings more than the bound goes in rounds; then nothing is kept of them: backward brings each
// round's rows again, and forms the weights' gradients at once. (Where layers take turns in the memory of gradients and
// the halves of their backward are apart it cannot: then backward_weight brings the rows once more.)
#pragma once

#include "framework/model/context.h"
#include "framework/model/fields.h"
#include "kernels/ops/permute.h"

namespace fourmi {

/// Of each token: its experts, ascending, and their weights.
struct Choices {
  Tensor experts_MK, weights_MK;
};

class Experts {
 public:
  Experts(const ModelSection& model, const ParameterStore& store, std::int64_t layer);

  struct Sizes {
    BatchSizes batch;
    ModelTypes types;
    std::int64_t D, F, E, K;  ///< E: experts held here
    bool travels;
    DispatchSizes dispatch;  ///< where rows travel
    /// With scales a token's rows are put in order again where all experts are here: that costs no more than to read
    /// them.
    bool orders_again() const { return types.scaled() && !travels && Q() == 1; }
    std::int64_t R() const { return travels ? dispatch.most_choices : batch.shard_rows() * K; }
    std::int64_t Q() const { return batch.experts.tensor; }
    std::int64_t A() const { return R() * Q(); }
    std::int64_t U() const { return travels ? dispatch.most_arrivals : batch.shard_rows(); }
  };
  Sizes sizes(const BatchSizes& batch, const ModelTypes& types) const;

  struct Saved {
    DispatchPlan plan;
    Arrivals arrived;
    int rounds = 1;  // the most of the ranks that compute together
    Tensor tokens_U1, row_token_R, cut_token_R1, row_of_UK, offsets_e1, rows_RD, gate_up_A2F, h_AF, out_RD, sum_UD;
    Tensor kept_A2F, kept_out_RD;  // in a dtype with scales of gate_up and out what backward reads
    Tensor each_Qe1, joined_e1, all_rows_AD,
        all_cut_token_A1;  // of all ranks, where they hold parts of the columns
    std::span<std::int32_t> offsets() const { return span_of(offsets_e1); }
    std::span<std::int32_t> all_offsets() const { return span_of(joined_e1 ? joined_e1 : offsets_e1); }
    /// Rows of this round that lie at an expert.
    std::int64_t num_rows() const { return offsets().back(); }
    std::int64_t num_all() const { return all_offsets().back(); }
    static std::span<std::int32_t> span_of(const Tensor& offsets) {
      return {offsets.as<std::int32_t>(), static_cast<std::size_t>(offsets.dim(0))};
    }
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const DType act = s.types.activation, acc = s.types.accumulate, operand = s.types.operand;
      if (s.travels) {
        plan.fields(s.dispatch, [&](Tensor& t, std::string_view name, Shape shape, DType dtype) {
          visit(t, name, shape, dtype, Keep::result);
        });
        visit(arrived.x_UD, "arrived", Shape{s.U(), s.D}, operand, Keep::temporary);
        visit(arrived.experts_UK, "arrived_experts", Shape{s.U(), s.K}, DType::i32, Keep::needed);
        visit(arrived.weights_UK, "arrived_weights", Shape{s.U(), s.K}, acc, Keep::needed);
        visit(sum_UD, "sum", Shape{s.U(), s.D}, acc, Keep::temporary);
        if (s.batch.experts.cut) {
          visit(tokens_U1, "arrived_tokens", Shape{s.U(), 1}, DType::i32, Keep::temporary);
          visit(cut_token_R1, "cut_token", Shape{s.R(), 1}, DType::i32, Keep::needed);
        }
      }
      if (s.Q() > 1) {
        visit(each_Qe1, "each_offsets", Shape{s.Q(), s.E + 1}, DType::i32, Keep::table);
        visit(joined_e1, "joined_offsets", Shape{s.E + 1}, DType::i32, Keep::table);
        visit(all_rows_AD, "all_rows", Shape{s.A(), s.D}, operand, Keep::recomputable);
        if (s.batch.experts.cut) visit(all_cut_token_A1, "all_cut_token", Shape{s.A(), 1}, DType::i32, Keep::needed);
      }
      visit(row_token_R, "row_token", Shape{s.R()}, DType::i32, Keep::needed);
      visit(row_of_UK, "row_of", Shape{s.U(), s.K}, DType::i32, Keep::needed);
      visit(offsets_e1, "offsets", Shape{s.E + 1}, DType::i32, Keep::table);
      visit(rows_RD, "rows", Shape{s.R(), s.D}, operand,
            s.Q() > 1 || s.orders_again() ? Keep::temporary : Keep::recomputable);
      const bool scaled = s.types.scaled();
      visit(gate_up_A2F, "gate_up", Shape{s.A(), 2 * s.F}, act, scaled ? Keep::temporary : Keep::needed);
      visit(h_AF, "h", Shape{s.A(), s.F}, operand, scaled ? Keep::temporary : Keep::recomputable);
      visit(out_RD, "out", Shape{s.R(), s.D}, act, scaled ? Keep::temporary : Keep::needed);
      if (!scaled) return;
      visit(kept_A2F, "kept", Shape{s.A(), 2 * s.F}, operand, Keep::needed);
      visit(kept_out_RD, "kept_out", Shape{s.R(), s.D}, operand, Keep::needed);
    }
  };
  struct Gradients {
    Tensor dy_MD;  // of this rank's own rows, as it is dispatched, where that is another dtype
    Tensor dy_UD, dweights_UK, sum_UD, dout_RD, all_dout_AD, dh_AF, dgate_up_A2F, drows_RD;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const DType act = s.types.activation, acc = s.types.accumulate, operand = s.types.operand;
      if (has_scales(s.types.dispatched))
        visit(dy_MD, "dispatched_dy", Shape{s.batch.shard_rows(), s.D}, s.types.dispatched, Keep::needed);
      if (s.travels) {
        visit(dy_UD, "arrived_dy", Shape{s.U(), s.D}, s.types.dispatched, Keep::needed);
        visit(dweights_UK, "arrived_dweights", Shape{s.U(), s.K}, acc, Keep::needed);
        visit(sum_UD, "sum", Shape{s.U(), s.D}, acc, Keep::needed);
      }
      visit(dout_RD, "dout", Shape{s.R(), s.D}, operand, Keep::needed);
      if (s.Q() > 1) visit(all_dout_AD, "all_dout", Shape{s.A(), s.D}, operand, Keep::needed);
      visit(dh_AF, "dh", Shape{s.A(), s.F}, act, Keep::needed);
      visit(dgate_up_A2F, "dgate_up", Shape{s.A(), 2 * s.F}, operand, Keep::needed);
      visit(drows_RD, "drows", Shape{s.R(), s.D}, act, Keep::needed);
    }
  };

  /// Forward in four parts, in this order, so that others work while rows travel: `plan` asks where they go, `start`
  /// sends them, `compute` brings them through their experts and sends the sums back, `finish` writes y. Of more rounds
  /// than one `finish` does all.
  void plan_forward(const Context&, const Choices&, Saved&) const;
  void start_forward(const Context&, const Tensor& x_MD, const Choices&, const Saved&) const;
  void compute_forward(const Context&, const Tensor& x_MD, const Choices&, const Saved&) const;
  void finish_forward(const Context&, const Tensor& x_MD, const Choices&, const Saved&, const Tensor& y_MD,
                      const Tensor& base_MD) const;
  /// What backward needs, again: the rows in experts' order and SwiGLU's
  /// outputs, in `full` all.
  void recompute(const Context&, const Tensor& x_MD, const Choices&, Saved&, Recompute) const;

  /// First sends dy, where there is one round. Then backward goes round by round, each in three calls: between the
  /// first two the caller forms what it adds to dx, between the last two sums travel.
  void start_backward(const Context&, const Saved&, const Tensor& dy_MD, const Gradients&) const;
  static int num_rounds(const Saved& s) { return s.rounds; }
  static Share::Range tokens_of(const Context& c, const Saved& s, int round) {
    if (!c.experts) return {0, s.row_of_UK.dim(0)};
    if (!has_rows(c, s, round)) return {};
    return {s.plan.begin(round), s.plan.end(round)};
  }
  /// The gradients of the weights of the round's tokens.
  void begin_backward_input(const Context&, const Tensor& x_MD, const Choices&, const Saved&, int round,
                            const Tensor& dy_MD, Gradients&, const Tensor& dweights_MK) const;
  /// Sends what the round's rows give to dx.
  void send_backward_input(const Context&, const Choices&, const Saved&, int round, const Gradients&) const;
  /// dx of the round's tokens = what comes from their experts + first + second.
  void finish_backward_input(const Context&, const Choices&, const Saved&, int round, const Gradients&,
                             const Tensor& dx_MD, const Tensor& first_MD, const Tensor& second_MD) const;
  void backward_weight(const Context&, const Tensor& x_MD, const Choices&, const Saved&, const Tensor& dy_MD,
                       const Gradients&) const;

  /// Gate and up projection, which read x.
  const Slot& gate_up() const { return gate_up_; }
  /// Ablation for evaluation: the outputs count as zero.
  void set_zero(bool zero) { zero_ = zero; }

 private:
  /// Others that compute with this rank may have more rounds.
  static bool has_rows(const Context& c, const Saved& s, int round) {
    return !c.experts || round < s.plan.num_rounds();
  }
  static bool forms_weights_at_once(const Context& c, const Saved& s) {
    return s.rounds > 1 && !(c.panels && c.halves_apart);
  }
  Tensor joined(const Context&, const Saved&, const Tensor& own_R, const Tensor& all_A) const;
  void apply_down(const Context&, const Saved&) const;
  void apply_gate_up_backward(const Context&, const Saved&, const Gradients&) const;
  void backward_to_gate_up(const Context&, const Tensor& x_MD, const Choices&, const Saved&, int round,
                           const Tensor& dy_MD, const Gradients&, const Tensor& dweights_UK) const;
  Tensor arrived_dweights(const Context&, const Saved&, int round, const Gradients&) const;
  void bring_tokens(const Context&, const Saved&, int round) const;
  void send(const Context&, const Tensor& x_MD, const Choices&, const Saved&, int round) const;
  void compute(const Context&, const Tensor& x_MD, const Choices&, const Saved&, int round) const;
  void bring(const Context& c, const Tensor& x_MD, const Choices& choices, const Saved& s, int round) const {
    send(c, x_MD, choices, s, round);
    compute(c, x_MD, choices, s, round);
  }
  void give_back(const Context&, const Choices&, const Saved&, int round) const;
  void send_dy(const Context&, const Saved&, int round, const Tensor& dy_MD, const Gradients&) const;
  Arrivals arrived(const Context&, const Choices&, const Saved&, int round) const;
  ExpertLeaves leaves(const Context&, const Tensor& experts_UK) const;
  void add_weight_gradients(const Context&, const Tensor& x_MD, const Saved&, const Gradients&) const;

  ModelSection model_;
  std::int64_t D_, F_, E_, K_;
  Slot gate_up_, down_;
  bool zero_ = false;
};

}  // namespace fourmi
