// Multi-token prediction, depth 1 (DeepSeek-V3 report 2.2): from the main model's last hidden state (before the final
// norm) and the embedding of the next token, one more block predicts the token after. Embedding and head are the main
// model's own tensors.
#pragma once

#include "framework/model/block.h"
#include "framework/model/head.h"

namespace fourmi {

class Mtp {
 public:
  Mtp(const ModelSection& model, const ParameterStore& store);

  struct Sizes {
    BatchSizes batch;
    ModelTypes types;
    std::int64_t D;
    Block::Sizes block;
    Head::Sizes head;
  };
  Sizes sizes(const BatchSizes& batch, const ModelTypes& types) const;

  struct Saved {
    Tensor embedding_MD, e_rstd_M, h_rstd_M, joined_M2D, x_MD, y_MD;
    Block::Saved block;
    Head::Saved head;  ///< a list of its own: the model places it beside the main head's
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const std::int64_t M = s.batch.rows;
      const DType act = s.types.activation, acc = s.types.accumulate;
      visit(embedding_MD, "embedding", Shape{M, s.D}, act, Keep::recomputable);
      visit(e_rstd_M, "e_rstd", Shape{M}, acc, Keep::recomputable);
      visit(h_rstd_M, "h_rstd", Shape{M}, acc, Keep::recomputable);
      visit(joined_M2D, "joined", Shape{M, 2 * s.D}, act, Keep::recomputable);
      visit(x_MD, "x", Shape{M, s.D}, act, Keep::needed);
      visit(y_MD, "y", Shape{M, s.D}, act, Keep::needed);
      block.fields(s.block, visit);
    }
  };
  struct Gradients {
    Tensor dy_MD, dx_MD, djoined_M2D, dembedding_MD;
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const DType act = s.types.activation;
      visit(dy_MD, "dy", Shape{s.batch.rows, s.D}, act, Keep::needed);
      visit(dx_MD, "dx", Shape{s.batch.rows, s.D}, act, Keep::needed);
      visit(djoined_M2D, "djoined", Shape{s.batch.rows, 2 * s.D}, act, Keep::needed);
      visit(dembedding_MD, "dembedding", Shape{s.batch.rows, s.D}, act, Keep::needed);
    }
  };

  /// hidden_MD: the main model's output before its final norm. tokens: valid ids everywhere.
  void forward(const Context&, const Tensor& hidden_MD, const Tensor& tokens_M, Saved&, const Tensor& counts_E) const;
  /// Adds its gradient to dhidden (in place), to the block's, the norms', the embedding's and the head's weights.
  /// `block_gradients` is shared with the main model's blocks.
  void backward(const Context&, const Tensor& hidden_MD, const Tensor& tokens_M, Saved&, Gradients&,
                Block::Gradients& block_gradients, const Tensor& dhidden_MD) const;

  const Head& head() const { return head_; }
  Block& block() { return block_; }
  const Block& block() const { return block_; }

 private:
  std::int64_t D_;
  Slot embedding_, enorm_, hnorm_, eh_proj_;
  RmsNorm e_norm_, h_norm_;
  Block block_;
  Head head_;
};

}  // namespace fourmi
