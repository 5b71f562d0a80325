// What the stages of a rank call among the ranks that share a micro-batch's rows, sequences and experts: the calls of
// framework/model, verb by verb, in its order. Each function is called as what it writes down.
//   M rows of a micro-batch, P ranks of a group: a gather sends a rank's part to P - 1 others, a sum of cut pieces each
//   piece to its owner.
#pragma once

#include <functional>

#include "framework/model/pair_order.h"
#include "framework/train/order_experts.h"
#include "framework/train/stages.h"
#include "parallel/schedule/program.h"

namespace fourmi {

class LayerOrder {
 public:
  /// Layers that take turns in memory (Context::need, Context::reduce).
  struct Panels {
    std::function<void(std::int64_t layer)> need, reduce;
  };
  /// `promoted` outlives it.
  LayerOrder(const Recipe& recipe, const StageMap& map, int pipeline_rank, bool balance_loss, PromotedLayers promoted,
             const Panels& panels, StepOrder& order);
  /// An action of a rank's program.
  void act(const Instruction& i);
  /// A pair, phase by phase (framework/model/pair.h).
  void act_together(const Instruction& forward, const Instruction& backward);

 private:
  void gather(std::int64_t columns, DType dtype);
  void gather_operand(std::int64_t columns) { gather(columns, operand_); }
  /// The layer at work from here on: rows that its products read travel as they read them.
  void begin(std::int64_t layer) { operand_ = is_promoted(promoted_, layer) ? types_.activation : types_.operand; }
  Recompute mode(std::int64_t layer) const { return is_promoted(promoted_, layer) ? Recompute::full : recompute_; }
  void gather_of_sequences(std::int64_t columns, DType dtype, std::int64_t rows);
  void sum(std::int64_t columns, std::int64_t partials = 1);
  void sum_of_sequences(std::int64_t columns);

  bool latent() const { return m_.kv_lora_rank > 0; }
  std::int64_t my_heads() const;
  void project();
  void ring_forward();
  void ring_backward();
  void attention_forward();
  void attention_backward();
  void mlp_forward();
  void mlp_backward(const std::function<void()>& gathering);
  void shared_forward() {
    if (m_.n_shared_experts > 0) mlp_forward();
  }
  void feed_forward_backward(std::int64_t layer, const std::function<void()>& gathering);
  bool is_moe(std::int64_t layer) const { return is_moe_layer(m_, layer); }
  bool has_mlp(std::int64_t layer) const { return !is_moe(layer) || m_.n_shared_experts > 0; }
  void balance(std::int64_t layer, const std::function<void()>& meanwhile);

  void block_forward(std::int64_t layer);
  void block_recompute(std::int64_t layer);
  void block_backward_input(std::int64_t layer);
  void block_backward(std::int64_t layer, bool halves_apart, const std::function<void()>& gathering);
  /// With `distills` what is learned of a teacher too (teacher/distill_head.h, teacher/cached_teacher.h).
  void head(bool distills = false);
  void embedding_forward() { sum(m_.hidden_size); }
  void embedding_backward(const std::function<void()>& gathering = [] {});

  bool has_mtp(const Stage& s) const { return s.last && m_.num_nextn_predict_layers > 0; }
  std::int64_t mtp() const { return m_.num_hidden_layers; }
  void forward(const Stage& s);
  void forward_ends(const Stage& s);
  const Stage& stage(const Instruction& i) const { return stages_[static_cast<std::size_t>(i.pass.chunk)]; }
  void phase(PairPhase phase, std::int64_t layer);
  void recompute(const Stage& s, std::int64_t layer);
  void restore(const Instruction& i, const Stage& s, std::int64_t layer);
  void backward_ends(const Instruction& i, const Stage& s, bool halves_apart);
  void backward(const Instruction& i, const Stage& s);
  void backward_input(const Instruction& i, const Stage& s);
  void backward_weight(const Instruction& i, const Stage& s);

  const ModelSection& m_;
  Recompute recompute_;
  BatchSizes sizes_;
  ModelTypes types_;
  PromotedLayers promoted_;
  DType operand_;  // of the layer at work
  Leaves leaves_;
  bool shares_statistics_;
  Panels panels_;
  StepOrder& order_;
  ExpertOrder experts_;
  const DistillSection& distill_;
  std::optional<DType> teacher_activation_;  // of a teacher in this job
  std::vector<Stage> stages_;                // by chunk
  /// The layer that ran last still has its activations (Workspace::Holder).
  struct Holder {
    int chunk = -1, slot = -1;
    std::int64_t layer = -1;
    bool operator==(const Holder&) const = default;
  } holder_;
};

}  // namespace fourmi
