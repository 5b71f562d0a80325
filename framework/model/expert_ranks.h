// How ranks share the routed experts of a layer, as memory depends on it (docs/parallelism.md "Expert").
#pragma once

#include <chrono>

#include "framework/recipe/recipe.h"
#include "parallel/dispatch/dispatcher.h"

namespace fourmi {

struct ExpertRanks {
  int size = 1;    ///< of the expert axis; each rank holds as many consecutive experts
  int tensor = 1;  ///< of the expert-tensor axis; each rank holds as many columns of them
  DispatchMethod method = DispatchMethod::all_to_all;
  int node_size = 1;                      ///< where the method knows nodes: consecutive ranks of the axis
  std::chrono::milliseconds patience{0};  ///< of the device dispatcher: guard.hang
  bool on_card = false;                   ///< of the device dispatcher: kernels move the rows, between GPUs' memory
  int multiprocessors = 0;                ///< that these kernels take of a rank's GPU; 0: as size_on_card() finds
  double bound = 0;        ///< most rows at a time, in multiples of the mean; 0: what the worst routing brings
  std::int64_t block = 0;  ///< tokens; rounds begin at multiples of it
  bool cut = false;        ///< sums over tokens are cut (mode layout): a row must know its token

  bool alone() const { return size == 1; }
  /// Of a rank that brings `tokens` tokens to each layer.
  DispatchOptions options(const ModelSection& model, std::int64_t tokens, DType accumulate) const;
  /// Most rows of experts, of all that such a rank and those that it shares experts with bring.
  std::int64_t most_rows(const ModelSection& model, std::int64_t tokens, DType accumulate) const;
};

/// As the recipe wants it.
ExpertRanks expert_ranks(const Recipe& recipe);

}  // namespace fourmi
