// The whole model of one pipeline stage: its blocks, with the embedding before the first and head and MTP after the
// last. A stage has three verbs as a layer has, and several micro-batches may be between them, each in a slot of its
// own. Composition only: the mathematics is in the layers, the bits in docs/numerics.md.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "framework/model/mtp.h"
#include "framework/model/stage.h"
#include "framework/model/workspace.h"

namespace fourmi {

/// The rows of a micro-batch as tensors (i32), host memory owned by the caller.
struct BatchTensors {
  Tensor tokens_M, targets_M, positions_M, key_begin_M, key_end_M;
  Tensor mtp_tokens_M,
      mtp_targets_M;            ///< absent without MTP; tokens are valid ids everywhere, targets -1 where not counted
  Tensor key_positions_N{};     ///< of whole sequences; absent where a rank has them whole
  PackedDocuments documents{};  ///< that rows fall into; nothing is known where ranks share sequences
};
inline constexpr std::size_t num_batch_tensors = 8;
inline constexpr Tensor BatchTensors::*batch_tensors[num_batch_tensors] = {
    &BatchTensors::tokens_M,      &BatchTensors::targets_M,      &BatchTensors::positions_M,
    &BatchTensors::key_begin_M,   &BatchTensors::key_end_M,      &BatchTensors::mtp_tokens_M,
    &BatchTensors::mtp_targets_M, &BatchTensors::key_positions_N};

struct LossWeights {
  double mtp = 0, balance = 0;
};

/// Per-row losses of a micro-batch, in the accumulator dtype. Sums over rows and ranks are the caller's (exact,
/// docs/numerics.md L10).
struct BatchLosses {
  Tensor loss_M, loss_mtp_M;      ///< absent where the stage has no head, no MTP
  std::vector<Tensor> balance_S;  ///< one per MoE layer of the stage: the sequences' balance losses times T
};

/// A micro-batch at one stage.
struct StagePass {
  BatchTensors batch{};
  int micro_batch = 0;      ///< of the rank's in this step
  int slot = 0;             ///< of its activations, from forward to the end of backward
  int kept = 0;             ///< of its gradients, from backward_input to backward_weight
  Tensor x_MD{}, y_MD{};    ///< what the stage before gives, what the next one takes; absent at the model's ends
  Tensor dy_MD{}, dx_MD{};  ///< their gradients
  LossWeights weights{};    ///< of forward
};

class Model {
 public:
  enum class Use { training, evaluation };

  /// The whole model, with tables of its own.
  Model(const ModelSection& section, const ParameterStore& store, std::int64_t num_positions, Arena& tables);
  Model(const ModelSection& section, const ParameterStore& store, const Stage& stage, const ModelTables& tables);

  /// Memory for one micro-batch in flight. Training keeps of every layer's activations what `recompute` says and shares
  /// the rest among the layers; evaluation reuses one layer's.
  /// `groups`: of the sizes that `sizes` names.
  void allocate(const BatchSizes& sizes, Use use, Arena& activations, Recompute recompute = Recompute::none,
                const LayerGroups& groups = {});
  /// The same for training with several in flight, over a workspace that the stages of a rank share: all reserve, then
  /// the workspace is allocated, then all place what they keep. `kept`: micro-batches between the halves of a backward.
  /// `promotable`: layers may work in bf16 though the run's precision has eight bits (Context::promoted); then they
  /// keep their input alone.
  void reserve(const BatchSizes& sizes, Recompute recompute, Workspace& workspace, bool promotable = false);
  void place(int slots, int kept, Arena& activations);

  /// Forward alone: nothing is counted, no gradient is formed. Of a stage, and of a whole model.
  const BatchLosses& evaluate(const Stream&, const StagePass&, const Context& options);
  const BatchLosses& evaluate(const Stream& stream, const BatchTensors& batch, const Context& options) {
    return evaluate(stream, StagePass{.batch = batch}, options);
  }

  /// The verbs of training. Forward of the last stage forms the head's gradient too, of sum(loss) + mtp *
  /// sum(loss_mtp) + sum of balance losses; all add to the store's gradients.
  const BatchLosses& forward(const Stream&, const StagePass&, const Context& options);
  /// Both halves, layer by layer: nothing is kept between them.
  void backward(const Stream&, const StagePass&, const Context& options);
  /// The gradient of the stage's input, which the stage before waits for (with those of embedding and MTP).
  void backward_input(const Stream&, const StagePass&, const Context& options);
  /// The gradients of the blocks' weights, after backward_input, from what it kept.
  void backward_weight(const Stream&, const StagePass&, const Context& options);
  /// Of a whole model.
  const BatchLosses& forward_backward(const Stream&, const BatchTensors&, const LossWeights&, const Context& options);

  const Tensor& expert_counts() const { return tables_.counts_LE; }  ///< ModelTables
  void set_zero_routed(bool zero);
  const ModelSection& section() const { return section_; }
  const Stage& stage() const { return stage_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  const Head& head() const { return *head_; }
  const Mtp* mtp() const { return mtp_.get(); }
  const Tensor& rotary_table() const { return tables_.rotary; }
  const Slot& embedding() const { return embedding_->slot(); }

 private:
  friend class PairRunner;  // its verbs, layer by layer
  /// What a micro-batch leaves behind.
  struct Activations {
    std::vector<Tensor> x;  // block borders of the stage itself; empty where another stage gives or takes them
    std::vector<Block::Saved> blocks, promoted;
    Head::Saved head;
    Mtp::Saved mtp, promoted_mtp;
    BatchLosses losses;
  };
  /// Gradients between the halves of a backward.
  struct Kept {
    std::vector<Block::Gradients> blocks, promoted;
    std::vector<Tensor> dy;  // of each block; empty where the next stage gives it
  };

  /// `window_begin_M`: memory for it where layers have windows.
  Context context(const Stream&, const StagePass&, const Context& options, const Tensor& window_begin_M) const;
  Context context(const Stream& stream, const StagePass& p, const Context& options) const {
    return context(stream, p, options, window_begin_M_);
  }
  Tensor counts_row(std::size_t layer) const;
  Activations& activations(const StagePass& p) { return slots_[static_cast<std::size_t>(p.slot)]; }
  /// Of a block, or of MTP as the layer after the last.
  std::int64_t layer_number(std::size_t layer) const {
    return layer < blocks_.size() ? blocks_[layer].layer() : mtp_->block().layer();
  }
  bool is_promoted(const Context& c, std::size_t layer) const {
    return fourmi::is_promoted(c.promoted, layer_number(layer));
  }
  Recompute mode(const Context& c, std::size_t layer) const {
    return is_promoted(c, layer) ? Recompute::full : recompute_;
  }
  /// With the precision in which the layer works.
  Context of_layer(const Context& c, std::size_t layer) const;
  Block::Saved& saved(const Context& c, Activations& a, std::size_t layer) const {
    if (is_promoted(c, layer)) return a.promoted[layer];
    return a.blocks[use_ == Use::training ? layer : (blocks_[layer].is_moe() ? 1 : 0)];
  }
  Mtp::Saved& saved_mtp(const Context& c, Activations& a) const {
    return is_promoted(c, blocks_.size()) ? a.promoted_mtp : a.mtp;
  }
  Block::Gradients& block_gradients(const Context& c, std::size_t layer) {
    return is_promoted(c, layer) ? promoted_gradients_ : block_gradients_;
  }
  static Block::Gradients& kept_gradients(Kept& k, std::size_t layer, bool promoted) {
    return promoted ? k.promoted[layer] : k.blocks[layer];
  }
  /// The input of a layer; with the number of layers: the last one's output.
  Tensor border(const StagePass& p, std::size_t layer) const;
  void allocate_evaluation(Arena& activations);
  void place_activations(Activations& a, Arena& arena);
  void begin_forward(const Context&, const StagePass&);
  void forward_blocks(const Context&, const StagePass&, bool training);
  const BatchLosses& forward_ends(const Context&, const StagePass&);
  Tensor backward_ends(const Context&, const StagePass&, const Tensor& da_MD);
  void restore(const Context&, const StagePass&, std::size_t layer);
  void hold(const StagePass& p, std::size_t layer) { workspace_->holder = {this, p.slot, layer}; }
  bool is_held(const StagePass& p, std::size_t layer) const {
    return workspace_->holder == Workspace::Holder{this, p.slot, layer};
  }

  ModelSection section_;
  const ParameterStore* store_;
  Stage stage_;
  ModelTables tables_;
  std::optional<Embedding> embedding_;
  std::vector<Block> blocks_;
  std::unique_ptr<Head> head_;
  std::unique_ptr<Mtp> mtp_;
  std::int64_t first_moe_ = 0;  // MoE layers of the stages before
  std::int64_t window_ = 0;     // of the layers that have a sliding window; 0: none has

  Use use_ = Use::training;
  Recompute recompute_ = Recompute::none;
  BatchSizes sizes_;
  bool promotable_ = false;
  std::vector<Block::Sizes> block_sizes_, promoted_sizes_;
  // Of its blocks: gradients of dense and MoE blocks share what they have in common.
  Block::Sizes widest_{}, widest_promoted_{};
  std::unique_ptr<Workspace> own_workspace_;
  Workspace* workspace_ = nullptr;
  std::vector<Activations> slots_;
  std::vector<Kept> kept_;
  Block::Gradients block_gradients_, promoted_gradients_;
  Mtp::Gradients mtp_gradients_, promoted_mtp_gradients_;
  Tensor window_begin_M_;
};

}  // namespace fourmi
