// The parameter table: every tensor that a model learns, once, by Hugging Face's name. Sharding, ZeRO, norm counting,
// checkpoint owners, initialisation and the parameter counts all read this table; none of them has a list of its own.
//
// Storage may fuse, names do not: parameters that one matrix product reads together (gate_proj and up_proj; q_a_proj
// and kv_a_proj_with_mqa; q_proj, k_proj and v_proj; all experts of a layer) lie next to each other in the table, and
// so in the flat buffers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/model/family.h"
#include "framework/model/holding.h"
#include "framework/recipe/recipe.h"
#include "kernels/runtime/tensor.h"
#include "parallel/groups.h"

namespace fourmi {

/// Where a parameter lives. Matrices are kept in the compute dtype, vectors and the router in the accumulator dtype
/// (docs/numerics.md), the router's correction bias is state without a gradient.
enum class ParameterSet : std::uint8_t { matrices, full_precision, router_bias };

enum class Initialisation : std::uint8_t { normal, ones, zeros };

/// How the tensor axes cut a parameter. Its units (heads, experts, intermediate columns, tokens of the vocabulary) are
/// never cut themselves.
enum class Cut : std::uint8_t { none, rows, columns };

/// What products read as one tensor lies together: a matrix may follow the one before it in the table as further rows
/// of the same matrix (up_proj below gate_proj), or as the next of several of equal shape (experts).
enum class Joined : std::uint8_t { no, as_rows, as_matrix };

struct Parameter {
  std::string name;                              ///< Hugging Face's
  Shape shape;                                   ///< global, unfused
  Shape local = {};                              ///< of the part that this rank holds
  std::int64_t first_row = 0, first_column = 0;  ///< of that part
  Copies copies = Copies::every_rank;
  ParameterSet set = ParameterSet::matrices;
  Initialisation initialisation = Initialisation::normal;
  bool weight_decay = true;
  bool routed_expert = false;  ///< counted as active in the ratio of chosen to all experts
  bool is_map = false;         ///< of a linear map or an expert, not of the vocabulary: FP8 precision copies it
  Joined joined = Joined::no;  ///< to the one before
  bool mtp = false;            ///< of the multi-token-prediction layer: not in the published totals
  std::int64_t layer = -1;     ///< decoder layer (MTP's follow the last); -1: of none
  bool stage_copies = false;   ///< several ranks of the pipeline hold it, each with a part of its gradient
  std::int64_t offset = 0;     ///< first element in its set's flat buffer, of local parts
  std::int64_t padding = 0;    ///< elements behind it in the buffer that are zero and belong to no parameter
};

/// Parameters of one set that lie next to each other in its flat buffer, and are in memory together.
struct Region {
  ParameterSet set = ParameterSet::matrices;
  std::int64_t layer = -1;  ///< -1: of none, or of all
  std::int64_t begin = 0, end = 0;
  std::int64_t count() const { return end - begin; }
};

class ParameterTable {
 public:
  explicit ParameterTable(const ModelSection& model) : ParameterTable(model, Holding::whole(model)) {}
  /// Of what one rank holds. The routers' correction biases are always all there: every rank knows all experts' load.
  ParameterTable(const ModelSection& model, const Holding& holding);

  const std::vector<Parameter>& all() const { return parameters_; }
  const Parameter& find(std::string_view name) const { return parameters_[static_cast<std::size_t>(index_of(name))]; }
  /// In all().
  std::int64_t index_of(std::string_view name) const;
  const Shares& shares() const { return shares_; }
  /// Elements of a set's flat buffer.
  std::int64_t num_elements(ParameterSet set) const { return elements_[static_cast<std::size_t>(set)]; }
  /// The parameters of one set in storage order.
  std::vector<const Parameter*> of(ParameterSet set) const;
  /// A set's flat buffer in one region, or cut where a layer begins or ends.
  std::vector<Region> regions(ParameterSet set, bool by_layer) const;

 private:
  void add(Parameter p, Share::Range range, Cut cut);
  /// Of the parameter that was added last.
  void join(Joined how) { parameters_.back().joined = how; }
  void add_matrix(std::string name, std::int64_t rows, std::int64_t columns, Cut cut = Cut::none);
  void add_expert_matrix(std::string name, std::int64_t rows, std::int64_t columns, Cut cut);
  void add_vocabulary(std::string name, std::int64_t vocab_size, std::int64_t hidden);
  void add_norm(std::string name, std::int64_t size);
  void add_bias(std::string name, std::int64_t size, Cut cut = Cut::none);
  void add_layer(const ModelSection& model, std::int64_t layer, bool moe);
  void add_mla(const ModelSection& model, const std::string& prefix);
  void add_gqa(const ModelSection& model, const std::string& prefix);
  void add_mlp(const std::string& prefix, std::int64_t hidden, std::int64_t intermediate);
  void add_moe(const ModelSection& model, std::int64_t layer);
  void add_router_bias(const ModelSection& model, std::int64_t layer);

  Shares shares_;
  std::vector<Parameter> parameters_;
  std::vector<std::pair<std::string, std::size_t>> by_name_;  // sorted
  std::int64_t elements_[3] = {0, 0, 0};
  bool in_mtp_ = false;
  std::int64_t layer_ = -1;
};

}  // namespace fourmi
