// The teacher's layers on a rank, and their forward over a step's micro-batches: stage after stage, each a micro-batch
// behind the one before, so that all of them work at once. No gradients, no head.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "framework/model/model.h"
#include "framework/train/coordinates.h"
#include "framework/train/staged_rows.h"

namespace fourmi {

class TeacherStages {
 public:
  /// `teacher`: teacher_recipe(). Of the rank with these coordinates; memory from `arena`, which may be measuring, then
  /// `groups` is of nulls. All outlive it.
  TeacherStages(const Recipe& teacher, const StageMap& map, const Coordinates& at, const LayerGroups& groups,
                Arena& arena);

  const ParameterStore& store() const { return store_; }

  /// Collective among the ranks of `pipeline`. After each micro-batch, in order, `last_layer` is called on every rank:
  /// with its number, and on the ranks of the last stage with the last layer's output, which is there until the call
  /// after the next.
  using LastLayer = std::function<void(int micro_batch, const Tensor& hidden_mD)>;
  void run(const Stream& stream, Group& pipeline, int num_micro_batches, const Context& context, MicroBatches& batches,
           const LastLayer& last_layer);

 private:
  struct Chunk {
    int stage = 0;
    std::unique_ptr<Model> model;
    StagedRows rows;
    Tensor in_mD;                  // what another rank's stage gives
    std::array<Tensor, 2> out_mD;  // of this micro-batch, and of the one before, which may be on its way
    std::array<Request, 2> sent{};
    Request received{};
  };
  int rank_of(int stage) const { return map_.places[static_cast<std::size_t>(stage)].rank; }
  Chunk& chunk_of(int stage) {
    return chunks_[static_cast<std::size_t>(map_.places[static_cast<std::size_t>(stage)].chunk)];
  }
  void receive(Chunk& chunk, Group& pipeline, int micro_batch);

  StageMap map_;
  int rank_;
  SequencePart part_;
  ParameterTable held_;
  ParameterStore store_;
  ModelTables tables_;
  std::vector<Chunk> chunks_;
};

}  // namespace fourmi
