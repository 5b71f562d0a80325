// The whole model of one pipeline stage: embedding, blocks, head, MTP; one micro-batch at a time. Composition only: the
// mathematics is in the layers, the bits in docs/numerics.md.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "framework/model/mtp.h"

namespace fourmi {

/// The rows of a micro-batch as tensors (i32), host memory owned by the caller.
struct BatchTensors {
  Tensor tokens_M, targets_M, positions_M, key_begin_M, key_end_M;
  Tensor mtp_tokens_M,
      mtp_targets_M;  ///< absent without MTP; tokens are valid ids everywhere, targets -1 where not counted
};

struct LossWeights {
  double mtp = 0, balance = 0;
};

/// Per-row losses of a micro-batch, in the accumulator dtype. Sums over rows and ranks are the caller's (exact,
/// docs/numerics.md L10).
struct BatchLosses {
  Tensor loss_M, loss_mtp_M;
  std::vector<Tensor> balance_S;  ///< one per MoE layer: the sequences' balance losses times T
};

class Model {
 public:
  enum class Use { training, evaluation };

  Model(const ModelSection& section, const ParameterStore& store, std::int64_t num_positions, Arena& tables);

  /// Memory for one micro-batch in flight. Training keeps of every layer's activations what `recompute` says and shares
  /// the rest among the layers; evaluation reuses one layer's.
  /// `tensor`: the group of the tensor axis, whose size is sizes.tensor; null where that is 1.
  void allocate(const BatchSizes& sizes, Use use, Arena& activations, Recompute recompute = Recompute::none,
                Group* tensor = nullptr);

  /// Forward and, for training, nothing else yet: activations stay in the model's saved structs.
  const BatchLosses& forward(const Stream&, const BatchTensors&, const Context& options);
  /// Forward and backward of sum(loss) + mtp * sum(loss_mtp) + sum of balance losses; adds to the store's gradients.
  const BatchLosses& forward_backward(const Stream&, const BatchTensors&, const LossWeights&, const Context& options);

  /// Choices of each expert since the last reset, [num_moe_layers, E] i64: MTP's layer last.
  const Tensor& expert_counts() const { return counts_LE_; }
  /// Slots of the routers' correction bias in the order of expert_counts' rows; empty where the family has none.
  std::vector<Slot> router_biases() const;
  std::int64_t num_moe_layers() const { return num_moe_layers_; }

  void set_zero_routed(bool zero);
  const ModelSection& section() const { return section_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  const Head& head() const { return head_; }
  const Mtp* mtp() const { return mtp_.get(); }
  const Tensor& rotary_table() const { return rotary_; }
  const Slot& embedding() const { return embedding_.slot(); }

 private:
  Context context(const Stream&, const BatchTensors&, const Context& options) const;
  Tensor counts_row(std::int64_t moe_index) const;
  Block::Saved& saved(std::size_t layer) {
    return saved_[use_ == Use::training ? layer : (blocks_[layer].is_moe() ? 1 : 0)];
  }
  void allocate_training(Arena& activations);
  void allocate_evaluation(Arena& activations);
  void forward_blocks(const Context&, const BatchTensors&);
  void backward_block(const Context&, std::size_t layer, const Tensor& dy_MD, const Tensor& dx_MD);
  Tensor hidden() const;
  std::int64_t widest_part() const;

  ModelSection section_;
  const ParameterStore* store_;
  Embedding embedding_;
  std::vector<Block> blocks_;
  Head head_;
  std::unique_ptr<Mtp> mtp_;
  Tensor rotary_, counts_LE_;
  std::int64_t num_moe_layers_ = 0, window_ = 0;  // of the layers that have a sliding window; 0: none has

  Use use_ = Use::training;
  Recompute recompute_ = Recompute::none;
  BatchSizes sizes_;
  std::vector<Tensor> x_;  // block borders: L + 1 in training, 2 that alternate in evaluation
  std::vector<Block::Saved> saved_;
  Block::Gradients block_gradients_;
  Head::Saved head_saved_;
  Mtp::Saved mtp_saved_;
  Mtp::Gradients mtp_gradients_;
  std::size_t last_run_ = 0;  // the layer whose fields the shared memory holds; MTP counts as the one after the last
  Tensor all_dx_MD_;          // of the embedding, where ranks share the rows
  std::unique_ptr<Group> alone_;
  std::optional<RowExchange> rows_;
  Tensor da_MD_, db_MD_;  // gradients at block borders, alternating
  Tensor window_begin_M_;
  BatchLosses losses_;
};

}  // namespace fourmi
