// The tables that cuDNN reads in place of ranges of keys: a few integers a document, made from a few a row in one
// block, so that the launch is what it costs.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/library/attention.h"
#include "kernels/cuda/library/libraries.h"

namespace fourmi::cuda::library {
namespace {

constexpr int threads = 1024;

/// Elements from row to row of q, k, v, o and lse.
struct RowStrides {
  std::int32_t of[num_tables - 1];
};

/// A row begins a document if it is the first that it sees. Threads have consecutive runs of rows; starts[i] is how
/// many documents begin before thread i's.
__global__ void __launch_bounds__(threads)
    document_tables(const std::int32_t* __restrict__ key_begin, std::int32_t rows, std::int32_t documents,
                    RowStrides strides, std::int32_t* __restrict__ lengths, std::int32_t* __restrict__ begins) {
  __shared__ std::int32_t starts[threads + 1];
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  const std::int32_t each = (rows + threads - 1) / threads;
  const std::int32_t first = min(rows, thread * each), last = min(rows, first + each);
  std::int32_t count = 0;
  for (std::int32_t i = first; i < last; ++i) count += key_begin[i] == i;
  starts[thread + 1] = count;
  if (thread == 0) starts[0] = 0;
  __syncthreads();
  for (int step = 1; step < threads; step *= 2) {
    const std::int32_t before = thread + 1 > step ? starts[thread + 1 - step] : 0;
    __syncthreads();
    starts[thread + 1] += before;
    __syncthreads();
  }
  // Never behind the tables' end, whatever the ranges say.
  std::int32_t document = starts[thread];
  for (std::int32_t i = first; i < last; ++i)
    if (key_begin[i] == i && document < documents) {
#pragma unroll
      for (int t = 0; t < num_tables - 1; ++t) begins[t * (documents + 1) + document] = i * strides.of[t];
      ++document;
    }
  for (std::int32_t d = min(starts[threads], documents) + thread; d <= documents; d += threads)
#pragma unroll
    for (int t = 0; t < num_tables - 1; ++t) begins[t * (documents + 1) + d] = rows * strides.of[t];
  __syncthreads();
  for (std::int32_t d = thread; d < documents; d += threads) lengths[d] = (begins[d + 1] - begins[d]) / strides.of[0];
}

/// The tables in the stream's scratch memory, filled.
void make_tables(const CudaStream& stream, const AttentionGraph& g, const Tensor& key_begin_M, AttentionOperands& at) {
  const std::int64_t entries = (g.documents + 4) / 4 * 4;
  FOURMI_CHECK(key_begin_M.num_elements() == g.rows, "{} ranges of {} rows", key_begin_M.num_elements(), g.rows);
  std::int32_t* const tables = stream.workspace<std::int32_t>(entries + (num_tables - 1) * (g.documents + 1));
  RowStrides strides{};
  const std::int64_t of[] = {query_of(g).row_stride, key_of(g).row_stride, value_of(g).row_stride,
                             output_of(g).row_stride, lse_of(g).row_stride};
  const std::int32_t** const begins[] = {&at.q_begin, &at.k_begin, &at.v_begin, &at.o_begin, &at.lse_begin};
  at.lengths = tables;
  for (int t = 0; t < num_tables - 1; ++t) {
    strides.of[t] = static_cast<std::int32_t>(of[t]);
    *begins[t] = tables + entries + t * (g.documents + 1);
  }
  launch(stream, document_tables, 1, threads, 0, pointer<std::int32_t>(key_begin_M), static_cast<std::int32_t>(g.rows),
         static_cast<std::int32_t>(g.documents), strides, tables, tables + entries);
}

bool run(const CudaStream& stream, const Attention& attention, const AttentionTensors& t, const Tensor& key_begin_M) {
  const auto graph = graph_of(attention, t);
  if (!graph) return false;
  LibraryAttention* const library = stream.libraries().attention(stream);
  if (!library) return false;
  const std::int64_t key_heads = library->key_heads_at_once(*graph);
  if (key_heads == 0) return false;
  const auto data = [](const Tensor* x) { return x ? x->data : nullptr; };
  AttentionOperands at{.q = t.q_MHQ.data,
                       .k = t.k_MGQ.data,
                       .v = t.v_MGV.data,
                       .o = t.o_MHV.data,
                       .lse = pointer<float>(t.lse_MH),
                       .d_o = data(t.do_MHV),
                       .dq = data(t.dq_MHQ),
                       .dk = data(t.dk_MGQ),
                       .dv = data(t.dv_MGV)};
  make_tables(stream, *graph, key_begin_M, at);
  library->run(*graph, key_heads, at);
  return true;
}

}  // namespace

LibraryAttention::LibraryAttention(std::unique_ptr<AttentionPlans> plans, cudaStream_t stream, std::int64_t most_bytes)
    : plans_(std::move(plans)), stream_(stream), most_bytes_(most_bytes) {}

LibraryAttention::~LibraryAttention() {
  if (scratch_) cudaFreeAsync(scratch_, stream_);
}

std::int64_t LibraryAttention::key_heads_at_once(const AttentionGraph& g) {
  if (const auto known = key_heads_.find(g); known != key_heads_.end()) return known->second;
  std::int64_t found = 0;
  for (std::int64_t launches = 1; launches <= g.all_key_heads && found == 0; ++launches) {
    if (g.all_key_heads % launches != 0) continue;
    const AttentionGraph part = part_of(g, g.all_key_heads / launches);
    if (least_scratch_bytes(part) > most_bytes_) continue;
    const auto bytes = plans_->scratch_bytes(part);
    if (!bytes) break;
    if (*bytes > most_bytes_) continue;
    found = part.key_heads;
    if (*bytes > scratch_bytes_) {
      if (scratch_) check(cudaFreeAsync(std::exchange(scratch_, nullptr), stream_), "scratch memory of attention");
      scratch_bytes_ = 0;
      check(cudaMallocAsync(&scratch_, static_cast<std::size_t>(*bytes), stream_), "scratch memory of attention");
      scratch_bytes_ = *bytes;
    }
  }
  key_heads_.emplace(g, found);
  return found;
}

void LibraryAttention::run(const AttentionGraph& g, std::int64_t key_heads, const AttentionOperands& all) {
  const AttentionGraph part = part_of(g, key_heads);
  const auto ahead = [](auto* p, std::int64_t bf16_elements) {
    using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(p)>>, const std::byte, std::byte>;
    return p ? static_cast<Byte*>(p) + 2 * bf16_elements : nullptr;
  };
  for (std::int64_t key_head = 0; key_head < g.all_key_heads; key_head += key_heads) {
    const std::int64_t head = key_head * (g.all_heads / g.all_key_heads);
    const std::int64_t at_q = head * query_of(g).head_stride, at_k = key_head * key_of(g).head_stride,
                       at_v = key_head * value_of(g).head_stride, at_o = head * output_of(g).head_stride;
    AttentionOperands at = all;
    at.q = ahead(all.q, at_q), at.dq = ahead(all.dq, at_q);
    at.k = ahead(all.k, at_k), at.dk = ahead(all.dk, at_k);
    at.v = ahead(all.v, at_v), at.dv = ahead(all.dv, at_v);
    at.o = ahead(all.o, at_o), at.d_o = ahead(all.d_o, at_o);
    at.lse = all.lse + head;
    plans_->run(part, at, scratch_);
    ++num_launches_;
  }
}

bool attention_forward(const Stream& stream, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_MGQ,
                       const Tensor& v_MGV, const Tensor& key_begin_M, const Tensor& o_MHV, const Tensor& lse_MH) {
  return run(on(stream), attention, {q_MHQ, k_MGQ, v_MGV, o_MHV, lse_MH}, key_begin_M);
}

bool attention_backward(const Stream& stream, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_MGQ,
                        const Tensor& v_MGV, const Tensor& key_begin_M, const Tensor& o_MHV, const Tensor& lse_MH,
                        const Tensor& do_MHV, const Tensor& dq_MHQ, const Tensor& dk_MGQ, const Tensor& dv_MGV) {
  return run(on(stream), attention, {q_MHQ, k_MGQ, v_MGV, o_MHV, lse_MH, &do_MHV, &dq_MHQ, &dk_MGQ, &dv_MGV},
             key_begin_M);
}

}  // namespace fourmi::cuda::library
