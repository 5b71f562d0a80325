// Rows of the table by token. Bound by memory: forward reads and writes M D elements (62 us for 32768 tokens of 2048 in
// bf16 at 4.3 TB/s; rows that several tokens share are read from L2). A warp has a part of a row, up to four vectors of
// 16 bytes in flight a lane.
//
// A token outside the vocabulary is an error of this call. So tokens are looked at first, and the host waits for one
// word, once a call, which is once a micro-batch (every layer of experts waits for its counts): some 15 us, in which
// the card has nothing to do but what came before. The rows are given to the card after it, so that nothing is written
// where there is an error, and the host gets ahead again while they move.
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/numerics/rounding.h"
#include "kernels/ops/embedding.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256, num_warps = threads / warp_size;
using Word = unsigned long long;

/// trouble = ~i of the first token that is outside; 0 stays where there is none.
__global__ void __launch_bounds__(threads)
    find_outside(const std::int32_t* __restrict__ tokens, std::int64_t num, std::int64_t vocabulary, Word* trouble) {
  const std::int64_t step = std::int64_t{gridDim.x} * threads;
#pragma unroll 1
  for (std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x; i < num; i += step) {
    const std::int32_t token = tokens[i];
    if (token >= 0 && token < vocabulary) continue;
    atomicMax(trouble, ~static_cast<Word>(i));
    return;  // this thread's later ones are not the first
  }
}

/// The table has the rows of tokens [first, first + held). A warp a token; blockIdx.x is the part of its row, up to
/// `vectors` of n columns a lane. `full`: all parts have as many.
template <int n, int vectors, bool full, class From, class To>
__global__ void __launch_bounds__(threads)
    take_rows(const std::int32_t* __restrict__ tokens, const From* __restrict__ table, To* __restrict__ x,
              std::int64_t num, std::int64_t size, std::int64_t first, std::int64_t held) {
  constexpr int stride = warp_size * n;
  const std::int64_t column = std::int64_t{blockIdx.x} * vectors * stride + threadIdx.x % warp_size * n;
  const std::int64_t step = std::int64_t{gridDim.y} * num_warps;
  bool has[vectors];
#pragma unroll
  for (int u = 0; u < vectors; ++u) has[u] = full || column + u * stride < size;
#pragma unroll 1
  for (std::int64_t i = std::int64_t{blockIdx.y} * num_warps + threadIdx.x / warp_size; i < num; i += step) {
    const std::int64_t row = tokens[i] - first;
    const bool here = row >= 0 && row < held;
    const From* const from = table + (here ? row : 0) * size + column;  // no branch: what is not here reads the first
    To* const to = x + i * size + column;
    Vector<From, n> v[vectors];
#pragma unroll
    for (int u = 0; u < vectors; ++u)
      if (has[u]) v[u] = load<n>(from + u * stride);
#pragma unroll
    for (int u = 0; u < vectors; ++u) {
      Vector<To, n> out;
#pragma unroll
      for (int k = 0; k < n; ++k) out.value[k] = round_to<To>(here ? v[u].value[k] : From(-0.0f));
      if (has[u]) store_global<n>(to + u * stride, out);
    }
  }
}

template <class From, class To>
void launch_take(const CudaStream& stream, const std::int32_t* tokens, const From* table, To* x, std::int64_t num,
                 std::int64_t size, std::int64_t first, std::int64_t held) {
  constexpr int n = std::max(vector_length<From>, vector_length<To>), vectors = 4;
  const auto with = [&]<int its_n, bool full>(std::integral_constant<int, its_n>, std::bool_constant<full>) {
    const std::int64_t parts = ceil_div(size, warp_size * its_n * vectors);
    const std::int64_t most = std::clamp<std::int64_t>(64 * stream.card().num_multiprocessors / parts, 1, 65535);
    launch(stream, take_rows<its_n, vectors, full, From, To>,
           dim3(static_cast<unsigned>(parts), num_blocks(num, num_warps, most)), threads, 0, tokens, table, x, num,
           size, first, held);
  };
  using Whole = std::integral_constant<int, n>;
  if (!is_vector_aligned<n>(table, size) || !is_vector_aligned<n>(x, size))
    with(std::integral_constant<int, 1>{}, std::false_type{});
  else if (size % (warp_size * n * vectors) != 0)
    with(Whole{}, std::false_type{});
  else
    with(Whole{}, std::true_type{});
}

void check_tokens(const CudaStream& stream, const std::int32_t* tokens, std::int64_t num, std::int64_t vocabulary) {
  Word* const trouble = stream.workspace<Word>(1);
  check(cudaMemsetAsync(trouble, 0, sizeof(Word), stream.handle()), "clearing scratch memory");
  launch(stream, find_outside, num_blocks(num, threads, 16 * stream.card().num_multiprocessors), threads, 0, tokens,
         num, vocabulary, trouble);
  const Word found = stream.fetch(trouble);
  if (found == 0) return;
  const auto i = static_cast<std::int64_t>(~found);
  throw Error(ExitStatus::input, "embedding",
              fmt::format("token {} at position {}, a vocabulary of {}", stream.fetch(tokens + i), i, vocabulary),
              "Set vocab_size to the tokenizer's size, or tokenize the data with the model's tokenizer");
}

}  // namespace

void embedding_forward(const Stream& stream, const Tensor& tokens_M, const Tensor& table_VD, const Tensor& x_MD,
                       const VocabularyRange& range) {
  const Span span(stream.timeline(), Work::embedding, "embedding_forward");
  const std::int64_t num = x_MD.dim(0), size = x_MD.dim(1), rows = table_VD.dim(0);
  FOURMI_CHECK(tokens_M.num_elements() == num && table_VD.dim(1) == size, "tokens {}, table {}, x {}",
               to_string(tokens_M.shape), to_string(table_VD.shape), to_string(x_MD.shape));
  FOURMI_CHECK(range.first >= 0 && (range.size > 0 || range.first == 0), "rows from {} of a vocabulary of {}",
               range.first, range.size);
  FOURMI_CHECK(rows > 0, "a table without rows {}", to_string(table_VD.shape));
  if (num == 0) return;
  const auto* const tokens = pointer<std::int32_t>(tokens_M);
  check_tokens(on(stream), tokens, num, range.size > 0 ? range.size : rows);
  visit_float(table_VD.dtype, "embedding", [&]<class From>(std::type_identity<From>) {
    visit_float(x_MD.dtype, "embedding", [&]<class To>(std::type_identity<To>) {
      const From* const table = pointer<From>(table_VD);
      To* const x = pointer<To>(x_MD);
      if (size > 0) launch_take(on(stream), tokens, table, x, num, size, range.first, rows);
    });
  });
}

}  // namespace fourmi::cuda
