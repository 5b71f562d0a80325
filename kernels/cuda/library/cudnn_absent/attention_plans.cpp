// In a build without cuDNN's C++ frontend.
#include "kernels/cuda/library/attention_plans.h"

namespace fourmi::cuda::library {

std::string attention_plans_missing() {
  return "this fourmi was built without cuDNN's C++ frontend (launch/cudnn_frontend brings it)";
}

std::string graph_trouble(const Linker&, const AttentionGraph&) {
  return attention_plans_missing();
}

std::unique_ptr<AttentionPlans> open_attention_plans(const Linker&, cudaStream_t) {
  throw Error(ExitStatus::environment, "cuDNN", "a build without its C++ frontend was found, one with it was expected",
              "Run launch/cudnn_frontend, then configure and build again");
}

}  // namespace fourmi::cuda::library
