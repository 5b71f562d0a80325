// cuDNN's attention behind an interface: cudnn/attention_plans.cpp where the build has cuDNN's C++ frontend, else
// cudnn_absent/attention_plans.cpp.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <optional>
#include <string>

#include "kernels/cuda/library/attention_graph.h"
#include "kernels/cuda/library/shared_library.h"

namespace fourmi::cuda::library {

/// Plans are made once a shape and kept.
class AttentionPlans {
 public:
  virtual ~AttentionPlans() = default;
  /// Bytes that run() needs beside its operands, or nothing where cuDNN has no plan that gives the same bits each time.
  virtual std::optional<std::int64_t> scratch_bytes(const AttentionGraph&) = 0;
  /// A graph that scratch_bytes() had a number for. `scratch`: aligned to 256 bytes.
  virtual void run(const AttentionGraph&, const AttentionOperands&, void* scratch) = 0;
  /// What cuDNN said of the shape that it refused last; empty: it refused none.
  virtual std::string refusal() const = 0;
};

/// Empty, or why this build has none.
std::string attention_plans_missing();
/// What cuDNN says against a graph where no card is asked: it is validated and lowered to cuDNN's operations; whether
/// there is a plan for it only a card knows. Empty: nothing.
std::string graph_trouble(const Linker&, const AttentionGraph&);
/// For work on this stream. The linker has found cuDNN before. Throws Error(environment) where cuDNN does not start.
std::unique_ptr<AttentionPlans> open_attention_plans(const Linker&, cudaStream_t);

}  // namespace fourmi::cuda::library
