// A small student beside a small teacher of another shape.
#pragma once

#include "tests/train/small_recipe.h"

namespace fourmi {

/// `teacher`: anything with the student's vocabulary.
inline Recipe distilled(Recipe student, const ModelSection& teacher) {
  student.distill.mode = "online";
  student.distill.teacher.from = "made";
  student.distill.teacher.section = teacher;
  return student;
}

/// Wider and deeper than the small recipe's, dense, with grouped queries.
inline ModelSection small_teacher() {
  return parse_recipe(R"(
run: {name: teacher, seed: 5, steps: 1}
model:
  model_type: llama
  vocab_size: 320
  hidden_size: 48
  num_hidden_layers: 4
  intermediate_size: 64
  num_attention_heads: 4
  num_key_value_heads: 4
  head_dim: 8
  max_position_embeddings: 32
  initializer_range: 0.3
data:
  tokenizer: bytes
  sequence_length: 32
  global_batch_size: 8
  micro_batch_size: 1
  train: [{name: made, format: synthetic, weight: 1, license: CC0-1.0}]
optimizer: {name: adamw, learning_rate: 1.0e-2}
)",
                      "teacher")
      .model;
}

}  // namespace fourmi
