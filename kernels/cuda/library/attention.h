// Attention by cuDNN, behind the doors of kernels/cuda/attention_*.cu. attention_graph.h says which calls.
#pragma once

#include <map>
#include <memory>

#include "kernels/cuda/library/attention_plans.h"
#include "kernels/cuda/stream.h"

namespace fourmi::cuda::library {

/// False, and nothing is done, where cuDNN is missing, is not to be used, or has no plan: ours compute then.
bool attention_forward(const Stream&, const Attention&, const Tensor& q_MHQ, const Tensor& k_MGQ, const Tensor& v_MGV,
                       const Tensor& key_begin_M, const Tensor& o_MHV, const Tensor& lse_MH);
bool attention_backward(const Stream&, const Attention&, const Tensor& q_MHQ, const Tensor& k_MGQ, const Tensor& v_MGV,
                        const Tensor& key_begin_M, const Tensor& o_MHV, const Tensor& lse_MH, const Tensor& do_MHV,
                        const Tensor& dq_MHQ, const Tensor& dk_MGQ, const Tensor& dv_MGV);

/// A stream's plans, and the scratch memory that they work in. It is as large as the largest plan so far needs, so that
/// only calls of a new shape allocate: in the stream's order, since cudaFree() would wait for all that the device does,
/// a message of a peer's that waits for us among it.
class LibraryAttention {
 public:
  /// A plan that needs more is made for fewer heads at a time; where one key head needs more, ours compute.
  static constexpr std::int64_t most_scratch_bytes = std::int64_t{1} << 30;

  LibraryAttention(std::unique_ptr<AttentionPlans> plans, cudaStream_t stream,
                   std::int64_t most_bytes = most_scratch_bytes);
  ~LibraryAttention();
  LibraryAttention(const LibraryAttention&) = delete;
  LibraryAttention& operator=(const LibraryAttention&) = delete;

  /// Key heads that a launch of this call has at once; 0: no launch does. Decided once a shape.
  std::int64_t key_heads_at_once(const AttentionGraph&);
  /// A call whose key_heads_at_once() is above 0, as so many launches.
  void run(const AttentionGraph&, std::int64_t key_heads, const AttentionOperands&);

  std::int64_t num_launches() const { return num_launches_; }
  const AttentionPlans& plans() const { return *plans_; }

 private:
  std::unique_ptr<AttentionPlans> plans_;
  cudaStream_t stream_;
  std::int64_t most_bytes_;
  std::map<AttentionGraph, std::int64_t> key_heads_;
  void* scratch_ = nullptr;
  std::int64_t scratch_bytes_ = 0, num_launches_ = 0;
};

}  // namespace fourmi::cuda::library
