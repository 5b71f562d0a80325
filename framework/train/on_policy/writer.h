// The student as it writes: a copy of the whole model on this rank, which decodes several texts at once with a cache,
// in bf16 where training is in eight bits, as `fourmi generate` does. No gradient goes through what is sampled. A
// text's tokens depend on the weights, its prompt and its seed alone, not on the texts beside it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "framework/data/windows.h"
#include "framework/model/decode.h"
#include "framework/model/model.h"

namespace fourmi {

/// A text to be written behind its prompt.
struct Draft {
  std::vector<std::int32_t> tokens;   ///< inputs: the prompt's to begin with
  std::vector<std::int32_t> written;  ///< what came, the token that ends it too
  std::int64_t most = 0;              ///< tokens to be written
  std::int32_t end = -1;              ///< ends the text besides the end of document; -1: none
  std::uint64_t seed = 0;
};

class StudentWriter {
 public:
  /// Memory for the copy and for distill.on_policy.texts texts from `arena`, which may be measuring.
  StudentWriter(const Recipe& student, Arena& arena);
  const ParameterStore& store() const { return store_; }

  /// Writes all of them. `vocab_size`: ids from there on stand for nothing and are never written.
  void write(const Stream& stream, const WindowShape& shape, std::int64_t vocab_size, std::span<Draft> drafts);

 private:
  struct Slot {
    Draft* draft = nullptr;  // null: free
    std::size_t read = 0;    // of its tokens, those that the decoder has seen or need not
  };
  void open(std::size_t slot, Draft& draft, const WindowShape& shape);
  /// The next token of a slot's text. False: that was its last.
  bool take(std::size_t slot, std::int32_t token, const WindowShape& shape);

  OnPolicySection recipe_;
  ModelSection model_section_;
  ParameterTable table_;
  ParameterStore store_;
  Model model_;
  Decoder decoder_;
  std::vector<Slot> slots_;
  std::vector<DecoderRun> runs_;
};

}  // namespace fourmi
