// Samples of a step whose text is not the data's.
#pragma once

#include <cstdint>

#include "framework/data/batch.h"

namespace fourmi {

class Rewritten {
 public:
  virtual ~Rewritten() = default;
  /// Sample number `sample` of the step lies in sequence `sequence` of the batch as the data has it. Its rows become
  /// those of its other text, if it has one.
  virtual void write(std::int64_t sample, std::int64_t sequence, Batch& batch) const = 0;
};

}  // namespace fourmi
