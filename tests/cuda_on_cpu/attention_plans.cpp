// cuDNN's attention in double, from strides and tables alone: in place of kernels/cuda/library/cudnn.
#include "kernels/cuda/library/attention_plans.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/numerics/bfloat16.h"

namespace fourmi::cuda::library {
namespace {

/// A tensor of bf16 in memory.
struct View {
  void* data;
  const std::int32_t* begin;
  RaggedTensor t;
  bfloat16* at(std::int64_t document, std::int64_t head, std::int64_t row) const {
    FOURMI_CHECK(0 <= head && head < t.heads, "head {} of {}", head, t.heads);
    return static_cast<bfloat16*>(data) + begin[document] + head * t.head_stride + row * t.row_stride;
  }
};

double wide(bfloat16 x) {
  return static_cast<double>(static_cast<float>(x));
}

double dot(const bfloat16* a, const bfloat16* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += wide(a[i]) * wide(b[i]);
  return sum;
}

class AttentionOnCpu final : public AttentionPlans {
 public:
  std::optional<std::int64_t> scratch_bytes(const AttentionGraph& g) override { return least_scratch_bytes(g) + 256; }
  std::string refusal() const override { return {}; }

  void run(const AttentionGraph& g, const AttentionOperands& at, void* scratch) override {
    const cuda_on_cpu::MemoryOpen open;
    std::memset(scratch, 0xff, static_cast<std::size_t>(*scratch_bytes(g)));
    for (std::int64_t d = 0; d < g.documents; ++d) {
      FOURMI_CHECK(0 <= at.lengths[d] && at.lengths[d] <= g.longest, "a document of {} rows", at.lengths[d]);
      for (std::int64_t head = 0; head < g.heads; ++head) forward(g, at, d, head);
      if (g.backward)
        for (std::int64_t head = 0; head < g.key_heads; ++head) backward(g, at, d, head);
    }
  }

 private:
  static View view(const void* data, const std::int32_t* begin, const RaggedTensor& t) {
    return {const_cast<void*>(data), begin, t};
  }
  static float& lse(const AttentionGraph& g, const AttentionOperands& at, std::int64_t d, std::int64_t head,
                    std::int64_t row) {
    return at.lse[at.lse_begin[d] + head * lse_of(g).head_stride + row * lse_of(g).row_stride];
  }

  void forward(const AttentionGraph& g, const AttentionOperands& at, std::int64_t d, std::int64_t head) const {
    if (g.backward) return;
    const View q = view(at.q, at.q_begin, query_of(g)), k = view(at.k, at.k_begin, key_of(g)),
               v = view(at.v, at.v_begin, value_of(g)), o = view(at.o, at.o_begin, output_of(g));
    const std::int64_t key_head = head / (g.heads / g.key_heads);
    for (std::int64_t i = 0; i < at.lengths[d]; ++i) {
      std::vector<double> scores, out(static_cast<std::size_t>(g.V));
      double most = -INFINITY, sum = 0;
      for (std::int64_t j = 0; j <= i; ++j) {
        scores.push_back(dot(q.at(d, head, i), k.at(d, key_head, j), g.Q) * static_cast<double>(g.scale));
        most = std::max(most, scores.back());
      }
      for (std::int64_t j = 0; j <= i; ++j) {
        const double p = std::exp(scores[static_cast<std::size_t>(j)] - most);
        sum += p;
        for (std::size_t c = 0; c < out.size(); ++c) out[c] += p * wide(v.at(d, key_head, j)[c]);
      }
      for (std::size_t c = 0; c < out.size(); ++c) o.at(d, head, i)[c] = bfloat16(static_cast<float>(out[c] / sum));
      lse(g, at, d, head, i) = static_cast<float>(most + std::log(sum));
    }
  }

  void backward(const AttentionGraph& g, const AttentionOperands& at, std::int64_t d, std::int64_t key_head) const {
    const View q = view(at.q, at.q_begin, query_of(g)), k = view(at.k, at.k_begin, key_of(g)),
               v = view(at.v, at.v_begin, value_of(g)), o = view(at.o, at.o_begin, output_of(g)),
               d_o = view(at.d_o, at.o_begin, output_of(g)), dq = view(at.dq, at.q_begin, query_of(g)),
               dk = view(at.dk, at.k_begin, key_of(g)), dv = view(at.dv, at.v_begin, value_of(g));
    const std::int64_t length = at.lengths[d], group = g.heads / g.key_heads;
    const auto Q = static_cast<std::size_t>(g.Q), V = static_cast<std::size_t>(g.V);
    std::vector<double> sum_k(static_cast<std::size_t>(length) * Q), sum_v(static_cast<std::size_t>(length) * V);
    for (std::int64_t head = key_head * group; head < (key_head + 1) * group; ++head)
      for (std::int64_t i = 0; i < length; ++i) {
        const double delta = dot(o.at(d, head, i), d_o.at(d, head, i), g.V);
        std::vector<double> sum_q(Q);
        for (std::int64_t j = 0; j <= i; ++j) {
          const bfloat16* const key = k.at(d, key_head, j);
          const double score = dot(q.at(d, head, i), key, g.Q) * static_cast<double>(g.scale);
          const double p = std::exp(score - static_cast<double>(lse(g, at, d, head, i)));
          const double ds =
              p * (dot(d_o.at(d, head, i), v.at(d, key_head, j), g.V) - delta) * static_cast<double>(g.scale);
          for (std::size_t c = 0; c < Q; ++c) {
            sum_q[c] += ds * wide(key[c]);
            sum_k[static_cast<std::size_t>(j) * Q + c] += ds * wide(q.at(d, head, i)[c]);
          }
          for (std::size_t c = 0; c < V; ++c)
            sum_v[static_cast<std::size_t>(j) * V + c] += p * wide(d_o.at(d, head, i)[c]);
        }
        for (std::size_t c = 0; c < Q; ++c) dq.at(d, head, i)[c] = bfloat16(static_cast<float>(sum_q[c]));
      }
    for (std::int64_t j = 0; j < length; ++j) {
      for (std::size_t c = 0; c < Q; ++c)
        dk.at(d, key_head, j)[c] = bfloat16(static_cast<float>(sum_k[static_cast<std::size_t>(j) * Q + c]));
      for (std::size_t c = 0; c < V; ++c)
        dv.at(d, key_head, j)[c] = bfloat16(static_cast<float>(sum_v[static_cast<std::size_t>(j) * V + c]));
    }
  }
};

}  // namespace

std::string attention_plans_missing() {
  return {};
}

std::string graph_trouble(const Linker&, const AttentionGraph&) {
  return {};
}

std::unique_ptr<AttentionPlans> open_attention_plans(const Linker& linker, cudaStream_t) {
  FOURMI_CHECK(linker.open("libcudnn.so.9") != nullptr, "cuDNN asked for where it is missing");
  return std::make_unique<AttentionOnCpu>();
}

}  // namespace fourmi::cuda::library
