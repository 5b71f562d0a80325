// Multi-token prediction, depth 1 (DeepSeek-V3 report 2.2): from the main model's last hidden state (before the final
// norm) and the embedding of the next token, one more block predicts the token after. Embedding and head are the main
// model's own tensors.
#pragma once

#include "framework/model/block.h"
#include "framework/model/embedding.h"
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
    Tensor embedding_mD, e_rstd_m, h_rstd_m, joined_m2D, x_mD, y_mD;
    Tensor operand_m2D;  // joined as products read it, where that is another dtype
    Block::Saved block;
    Head::Saved head;  ///< a list of its own: the model places it beside the main head's
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const std::int64_t m = s.batch.shard_rows();
      const DType act = s.types.activation, acc = s.types.accumulate;
      visit(embedding_mD, "embedding", Shape{m, s.D}, act, Keep::recomputable);
      visit(e_rstd_m, "e_rstd", Shape{m}, acc, Keep::recomputable);
      visit(h_rstd_m, "h_rstd", Shape{m}, acc, Keep::recomputable);
      visit(joined_m2D, "joined", Shape{m, 2 * s.D}, act, s.types.scaled() ? Keep::temporary : Keep::recomputable);
      if (s.types.scaled()) visit(operand_m2D, "operand", Shape{m, 2 * s.D}, s.types.operand, Keep::recomputable);
      visit(x_mD, "x", Shape{m, s.D}, act, Keep::needed);
      visit(y_mD, "y", Shape{m, s.D}, act, Keep::needed);
      block.fields(s.block, visit);
    }
  };
  struct Gradients {
    Tensor dy_mD, dx_mD, djoined_m2D, dembedding_mD, all_dembedding_MD;
    Tensor operand_mD;  // dx as products read it, where that is another dtype
    template <class Visit>
    void fields(const Sizes& s, Visit&& visit) {
      const std::int64_t m = s.batch.shard_rows();
      const DType act = s.types.activation;
      visit(dy_mD, "dy", Shape{m, s.D}, act, Keep::needed);
      visit(dx_mD, "dx", Shape{m, s.D}, act, Keep::needed);
      if (s.types.scaled()) visit(operand_mD, "operand", Shape{m, s.D}, s.types.operand, Keep::needed);
      visit(djoined_m2D, "djoined", Shape{m, 2 * s.D}, act, Keep::needed);
      visit(dembedding_mD, "dembedding", Shape{m, s.D}, act, Keep::needed);
      if (s.batch.tensor > 1) visit(all_dembedding_MD, "all_dembedding", Shape{s.batch.rows, s.D}, act, Keep::needed);
    }
  };

  /// hidden_mD: the main model's output before its final norm. tokens: valid ids everywhere.
  void forward(const Context&, const Tensor& hidden_mD, const Tensor& tokens_M, Saved&, const Tensor& counts_E) const;
  /// Makes again what is_shared() in this mode and backward reads; the bits are forward's. Not `none`.
  void recompute(const Context&, const Tensor& hidden_mD, const Tensor& tokens_M, Saved&, Recompute) const;
  /// Adds its gradient to dhidden (in place), to the block's, the norms', the embedding's and the head's weights.
  /// `block_gradients` is shared with the main model's blocks.
  void backward(const Context&, const Tensor& hidden_mD, const Tensor& tokens_M, Saved&, Gradients&,
                Block::Gradients& block_gradients, const Tensor& dhidden_mD) const;

  const Head& head() const { return head_; }
  Block& block() { return block_; }
  const Block& block() const { return block_; }

 private:
  void join(const Context&, const Tensor& hidden_mD, const Tensor& tokens_M, Saved&) const;
  static const Tensor& operand(const Saved& s) { return s.operand_m2D ? s.operand_m2D : s.joined_m2D; }

  std::int64_t D_;
  Embedding embedding_;
  Slot enorm_, hnorm_, eh_proj_;
  RmsNorm e_norm_, h_norm_;
  Block block_;
  Head head_;
};

}  // namespace fourmi
