// What every layer needs to know of the micro-batch and of the run. Letters used in framework/model:
//   M rows of the micro-batch = S sequences x T tokens; where C ranks share each sequence, S x T / C (sequence_part.h)
//   m those that this rank has between layers (row_exchange.h); M where it is alone
//   N rows whose keys and values a rank has at once: those of whole sequences, S x T; in a ring its own M
//   D hidden_size   H attention heads   Q = nope + rope   V v_head_dim   A down-projection columns
//   F intermediate columns   E routed experts   K experts a token   R = M x K expert rows
#pragma once

#include <functional>
#include <span>

#include "framework/model/column_exchange.h"
#include "framework/model/expert_exchange.h"
#include "framework/model/family.h"
#include "framework/model/layer_panels.h"
#include "framework/model/leaves.h"
#include "framework/model/objective.h"
#include "framework/model/operand_check.h"
#include "framework/model/row_exchange.h"
#include "framework/model/sequence_exchange.h"
#include "framework/model/store.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/linear.h"
#include "kernels/runtime/stream.h"

namespace fourmi {

/// The sizes that a micro-batch's memory depends on.
struct BatchSizes {
  std::int64_t rows = 0;                 ///< M
  std::int64_t tokens_per_sequence = 0;  ///< T
  std::int64_t tensor = 1;               ///< ranks of the tensor axis, each of which holds some rows between layers
  std::int64_t context = 1;              ///< C, ranks that share each sequence
  ContextMethod method = ContextMethod::all_gather;  ///< where they do
  ExpertRanks experts = {};
  std::int64_t shard_rows() const { return rows / tensor; }  ///< m
  bool ring() const { return context > 1 && method == ContextMethod::ring; }
  bool gathers_keys() const { return context > 1 && method == ContextMethod::all_gather; }
  std::int64_t key_rows() const { return gathers_keys() ? rows * context : rows; }  ///< N
  std::int64_t keys_per_sequence() const { return key_rows() / num_sequences(); }
  std::int64_t num_sequences() const { return rows * context / tokens_per_sequence; }
};

class ColumnMemory;
class LateMemory;

/// A flag a layer (multi-token prediction is the one after the last): it works in bf16 though the run's precision has
/// eight bits. Empty: none does.
using PromotedLayers = std::span<const std::uint8_t>;
inline bool is_promoted(PromotedLayers layers, std::int64_t layer) {
  return layer < std::ssize(layers) && layers[static_cast<std::size_t>(layer)] != 0;
}

/// Sees an operand where it comes to be, as the products of the matrix read it: with scales, or as it is. May change
/// it.
using OperandProbe = std::function<void(const Slot& matrix, OperandRole, const Tensor& operand)>;

struct Context {
  const Stream* stream = nullptr;
  const ParameterStore* parameters = nullptr;
  BatchSizes sizes;
  Tensor positions, key_begin, key_end;  ///< [M] i32; keys are counted among the N rows
  PackedDocuments documents;             ///< what key_begin and key_end say, where a rank has whole sequences
  Tensor key_positions;                  ///< [N] i32
  Tensor own_positions;                  ///< [m] i32: of the rows that this rank has between layers
  Tensor window_begin;  ///< [M] i32: key_begin of layers with a sliding window; absent where no layer has one
  Tensor rotary_table;  ///< [P, rope/2, 2]
  std::int64_t attention_block = 64;  ///< T/16 in mode layout (docs/numerics.md L5)
  std::int64_t query_leaves = 0;  ///< 16 / C in mode layout: attention's dk and dv are trees over a sequence's blocks
  Cuts weight_cuts;               ///< matrices: T/16 tokens a partial in mode layout (L3)
  Cuts token_cuts;                ///< norms, router, embedding rows: one token a partial in mode layout
  const RowExchange* rows = nullptr;            ///< of the tensor axis; null: this rank is alone
  SequenceExchange* sequences = nullptr;        ///< of the context axis; null: this rank has whole sequences
  ExpertExchange* experts = nullptr;            ///< of the expert axis; null: all experts are here
  const ColumnExchange* columns = nullptr;      ///< of the expert-tensor axis; null: all of their columns are
  const ColumnMemory* column_memory = nullptr;  ///< of weight gradients whose operands have scales
  const LateMemory* late_memory = nullptr;      ///< of operands whose scales are known late
  Leaves leaves;
  LayerPanels* panels = nullptr;  ///< null: all weights and gradients stay in memory
  bool halves_apart = false;      ///< other layers' backward comes between the halves of a layer's
  double balance_weight = 0;      ///< 0: no balance loss
  int micro_batch = 0;            ///< of the rank's in this step
  PromotedLayers promoted;
  const ModelTypes* layer_types = nullptr;  ///< of the layer at work; null: the run's
  /// Called in forward with each layer's output, where given: layer -1 is the embedding, num_hidden_layers the MTP
  /// layer. To look for what is not finite, and for tests that put it there.
  const std::function<void(std::int64_t layer, const Tensor& output_MD)>* after_layer = nullptr;
  /// Called for each operand of linear maps and experts, where given: to measure it, and for tests that spoil it.
  const OperandProbe* after_operand = nullptr;
  const Objective* objective = nullptr;   ///< of the head; null: cross-entropy
  OperandCheck* operand_check = nullptr;  ///< where operands and weights with scales are to be held against exact ones

  /// Moves of rows among the ranks of the tensor axis.
  RowExchange::Moves moves() const { return RowExchange::moves(rows, *stream); }
  void need(std::int64_t layer) const {
    if (panels) panels->need(layer);
  }
  void reduce(std::int64_t layer) const {
    if (panels) panels->reduce(layer);
  }
  const ModelTypes& types() const { return layer_types ? *layer_types : parameters->types(); }
  Tensor weight(const Slot& s) const { return parameters->weight(s); }
  /// As products of linear maps and experts read it.
  Tensor matrix(const Slot& s) const { return types().scaled() ? parameters->matrix(s) : parameters->weight(s); }
  ColumnScaled matrix_columns(const Slot& s) const {
    return types().scaled() ? parameters->matrix_columns(s) : ColumnScaled{};
  }
  Tensor matrix_transposed(const Slot& s) const {
    return types().scaled() ? parameters->matrix_transposed(s) : Tensor{};
  }
  Tensor gradient(const Slot& s) const { return parameters->gradient(s); }
};

}  // namespace fourmi
