// What the student has written for a step, known to every rank, in place of the data's samples.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "framework/data/rewritten.h"
#include "framework/train/on_policy/prompt.h"
#include "framework/train/on_policy/writer.h"
#include "parallel/group.h"

namespace fourmi {

class WrittenTexts final : public Rewritten {
 public:
  struct Text {
    std::int64_t sample = 0;  ///< of the step
    OwnPrompt prompt;
  };
  /// For at most so many texts, shared by `num_ranks`, in sequences of `sequence_length`. Memory from `arena`.
  WrittenTexts(std::int64_t most_texts, std::int64_t sequence_length, int num_ranks, Arena& arena);

  /// The texts of a step, by ascending sample; as yet nobody has written them.
  void begin(const WindowShape& shape) { shape_ = shape, texts_.clear(); }
  void add(const Text& text) { texts_.push_back(text); }
  std::span<const Text> texts() const { return texts_; }
  /// Text i is for rank i modulo the number of ranks.
  bool is_for(int rank, std::size_t text) const { return static_cast<int>(text % num_ranks()) == rank; }
  /// Collective: each rank gives what it has written, in the order of its texts; afterwards every rank has all.
  void share(Group& world, std::span<const Draft> drafts);

  /// What was written behind the prompt, with the token that ended it.
  std::span<const std::int32_t> tokens(std::size_t text) const;
  std::int64_t num_tokens() const;  ///< of all texts
  void write(std::int64_t sample, std::int64_t sequence, Batch& batch) const override;

 private:
  std::size_t num_ranks() const { return static_cast<std::size_t>(records_.dim(0)); }
  std::int32_t* record(std::size_t rank, std::size_t which) const;

  WindowShape shape_;
  std::vector<Text> texts_;
  Tensor records_;  // [ranks, texts of a rank, 1 + T] i32: how many tokens, and these
};

}  // namespace fourmi
