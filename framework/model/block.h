// One transformer block: h = x + attention(norm(x));  y = h + feed_forward(norm(h)), the feed-forward dense or a
// mixture of experts. Three verbs; backward_input needs what forward saved, backward_weight needs what both left.
#pragma once

#include <optional>

#include "framework/model/moe.h"
#include "framework/model/self_attention.h"

namespace fourmi {

class Block {
 public:
  Block(const ModelSection& model, const ParameterStore& store, std::int64_t layer);

  struct Sizes {
    BatchSizes batch;
    ModelTypes types;
    std::int64_t D;
    SelfAttention::Sizes attention;
    std::optional<Mlp::Sizes> dense;
    std::optional<Moe::Sizes> moe;
  };
  Sizes sizes(const BatchSizes& batch, const ModelTypes& types) const;

  struct Saved {
    SelfAttention::Saved attention;
    Tensor h_mD, hn_mD, h_rstd_m;
    Mlp::Saved dense;
    Moe::Saved moe;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      attention.fields(s.attention, visit);
      visit(h_mD, "h", Shape{s.batch.shard_rows(), s.D}, s.types.activation, Keep::needed);
      visit(hn_mD, "hn", Shape{s.batch.shard_rows(), s.D}, s.moe ? s.types.activation : s.types.operand,
            s.moe && s.types.scaled() ? Keep::temporary : Keep::recomputable);
      visit(h_rstd_m, "h_rstd", Shape{s.batch.shard_rows()}, s.types.accumulate, Keep::recomputable);
      if (s.dense) dense.fields(*s.dense, visit);
      if (s.moe) moe.fields(*s.moe, visit);
    }
  };
  struct Gradients {
    SelfAttention::Gradients attention;
    Tensor dhn_mD, dh_mD;
    Mlp::Gradients dense;
    Moe::Gradients moe;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      attention.fields(s.attention, visit);
      visit(dhn_mD, "dhn", Shape{s.batch.shard_rows(), s.D}, s.types.activation, Keep::needed);
      visit(dh_mD, "dh", Shape{s.batch.shard_rows(), s.D}, s.types.activation, Keep::needed);
      if (s.dense) dense.fields(*s.dense, visit);
      if (s.moe) moe.fields(*s.moe, visit);
    }
  };

  void forward(const Context&, const Tensor& x_mD, Saved&, const Tensor& y_mD, const Tensor& counts_E) const;
  /// Its parts, between which something else may be computed while rows travel: attention and where the rows go; they
  /// leave, and the shared expert; their experts; y. A dense layer is done with the second.
  void begin_forward(const Context&, const Tensor& x_mD, Saved&, const Tensor& counts_E) const;
  void send_forward(const Context&, Saved&, const Tensor& y_mD) const;
  void compute_forward(const Context&, const Saved&) const;
  void finish_forward(const Context&, const Saved&, const Tensor& y_mD) const;
  /// Makes again what is_shared() in this mode and backward reads; the bits are forward's. Not `none`.
  void recompute(const Context&, const Tensor& x_mD, Saved&, Recompute) const;
  void backward_input(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, Gradients&,
                      const Tensor& dx_mD) const;
  void backward_weight(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, const Gradients&) const;
  /// Both halves but for what backward_weight_late does, with the same bits: weight gradients are formed while rows
  /// travel among the ranks of the tensor axis. `gathering` is done while the first of them do: another layer's
  /// backward_weight_late, which reads nothing that this writes before.
  void backward(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, Gradients&, const Tensor& dx_mD,
                const Meanwhile& gathering = {}) const;
  void backward_weight_late(const Context&, const Tensor& x_mD, const Saved&, const Gradients&) const;
  /// Both halves with the same bits in parts, where a micro-batch takes one round: dy leaves, and the shared expert;
  /// the experts; weight gradients; what the experts give to dx leaves; attention. Of a dense layer the second is the
  /// mlp.
  void begin_backward(const Context&, const Saved&, const Tensor& dy_mD, Gradients&) const;
  void compute_backward(const Context&, const Saved&, const Tensor& dy_mD, Gradients&) const;
  void backward_weight_feed_forward(const Context&, const Saved&, const Tensor& dy_mD, const Gradients&) const;
  void send_backward(const Context&, const Saved&, const Gradients&) const;
  void finish_backward(const Context&, const Tensor& x_mD, const Saved&, const Tensor& dy_mD, Gradients&,
                       const Tensor& dx_mD) const;

  /// The half after attention, alone, for decoding with a cache: y = h + feed_forward(norm(h)).
  void feed_forward(const Context&, const Tensor& h_mD, Saved&, const Tensor& y_mD, const Tensor& counts_E) const;

  const SelfAttention& attention() const { return attention_; }
  bool is_moe() const { return moe_.has_value(); }
  std::int64_t layer() const { return layer_; }
  Moe* moe() { return moe_ ? &*moe_ : nullptr; }
  const Moe* moe() const { return moe_ ? &*moe_ : nullptr; }

 private:
  void normalise(const Context&, const Tensor& h_mD, const Saved&) const;
  void restore_normalised(const Context&, const Saved&) const;

  std::int64_t layer_;
  SelfAttention attention_;
  RmsNorm norm_;
  Slot norm_weight_;
  std::optional<Mlp> dense_;
  std::optional<Moe> moe_;
  std::int64_t D_;
};

}  // namespace fourmi
