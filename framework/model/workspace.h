// Memory that the stages of a rank share, because only one of them works at a time: fields that are not kept, and the
// gradients of one micro-batch on its way back.
#pragma once

#include <memory>
#include <optional>

#include "framework/model/context.h"
#include "framework/model/fields.h"
#include "framework/model/products.h"

namespace fourmi {

class Model;

/// The groups that layers work in; null where an axis has one rank, or where memory is only measured.
struct LayerGroups {
  Group* tensor = nullptr;
  Group* context = nullptr;
  Group* expert = nullptr;
  Group* expert_tensor = nullptr;
  Arena* windows = nullptr;  ///< for memory that the other ranks write to; null: it comes from where all else does
};

struct Workspace {
  SharedFields layers;   ///< what forward of a layer leaves and recomputation makes again
  SharedFields in_turn;  ///< logits exist in forward only, gradients of a block's inside in backward only
  Tensor da_MD, db_MD;   ///< gradients at block borders, alternating

  Tensor all_dx_MD;                           ///< of the embedding, where ranks of the tensor axis share the rows
  std::optional<RowExchange> rows;            ///< of the tensor axis; absent where this rank is alone
  std::optional<SequenceExchange> sequences;  ///< of the context axis; absent where this rank has whole sequences
  std::optional<ExpertExchange> experts;      ///< of the expert axis; absent where all experts are here
  std::optional<ColumnExchange> columns;      ///< of the expert-tensor axis; absent where all their columns are

  /// A second set, for a pair's forward while its backward has the first (pair.h); absent where none is asked for.
  struct Beside {
    Tensor layers;
    Tensor window_begin_M;  ///< a stage has memory for one micro-batch's, and a pair may be of one stage
    std::optional<ExpertExchange> experts;
  };
  std::optional<Beside> beside;

  std::optional<ColumnMemory> column_memory;  ///< of weight gradients whose operands have scales

  std::optional<LateMemory> late_memory;  ///< of operands whose scales are known late

  ColumnMemory::Largest largest_columns;  ///< of the stages that have reserved
  std::int64_t largest_late = 0;          ///< elements, of the stages that have reserved
  std::int64_t widest_part = 0;           ///< columns, of the stages that have reserved
  bool has_windows = false;               ///< have layers of the stages that have reserved sliding windows?

  /// After all stages have reserved. `pairs`: of stages that have a forward and a backward under way at once.
  void allocate(const ModelSection& model, const BatchSizes& sizes, const ModelTypes& types, const LayerGroups& groups,
                Arena& arena, bool pairs = false);
  /// Of the rows between ranks alone, for evaluation.
  void allocate_exchange(const ModelSection& model, const BatchSizes& sizes, const ModelTypes& types, bool apart,
                         const LayerGroups& groups, Arena& arena);

  /// Whose fields `layers` holds. The layer that ran last still has them, so that multi-token prediction, whose
  /// backward may follow its forward, then costs nothing.
  struct Holder {
    const Model* stage = nullptr;
    int slot = 0;
    std::size_t layer = 0;  ///< of the stage; multi-token prediction counts as the one after the last
    bool operator==(const Holder&) const = default;
  } holder;
};

}  // namespace fourmi
