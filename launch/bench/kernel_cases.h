// What `fourmi bench kernels` times: operations, their operands, and the work that they need.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "kernels/runtime/arena.h"
#include "kernels/runtime/stream.h"

namespace fourmi::bench {

struct KernelCase {
  std::string name, shape;
  double flops = 0;  ///< needed: two a multiply-add, causal; 0: the kernel is bound by memory
  double bytes = 0;  ///< each operand read or written once
  bool bf16 = true;  ///< which limit
  std::function<void(const Stream&)> run;
  std::function<void(const Stream&)> beside = {};  ///< the same in bf16, timed in turn with it; may be empty
  /// The same by calls that a library computes, where it has no form for run() itself; may be empty.
  std::function<void(const Stream&)> by_calls = {};
  std::function<void()> peer = {};  ///< the same by NVIDIA's library, where it has another form; may be empty
};

/// How large the operands are.
struct CaseSizes {
  struct Product {
    std::int64_t in, out;
  };
  struct Float8 {
    std::int64_t rows, in, out, experts;
  };
  std::int64_t sequences, length, hidden, expert_columns, experts, choices, heads, q_size, v_size;
  std::int64_t head_rows, vocab, optimizer_elements;
  std::vector<Product> products;
  std::vector<Float8> float8;
  bool operations = true;     ///< those that are neither a product of one matrix nor of e4m3
  bool float8_alone = false;  ///< products of e4m3 also without what they need of quantising
  std::int64_t bytes = 0;     ///< of all operands

  /// Of tests/peers/moe-512.yaml: micro-batches of 4 sequences of 512 tokens, hidden size 512, 16 experts.
  static CaseSizes of_a_cpu();
  /// Moonlight's layer with 32,768 tokens, and products of DeepSeek-V3's: several times a GPU's cache.
  static CaseSizes of_a_gpu();
  /// So small that an emulated card runs them in seconds.
  static CaseSizes tiny();
  /// Nothing but y_MN = x_MK w_NK^T and its gradients.
  static CaseSizes product_alone(std::int64_t M, std::int64_t N, std::int64_t K);
};

/// All cases and the memory of their operands.
class KernelCases {
 public:
  /// On the stream's device.
  KernelCases(const CaseSizes& sizes, const Stream& stream);
  const std::vector<KernelCase>& all() const { return cases_; }

 private:
  Tensor tensor(Shape shape, DType dtype, double stddev = 1.0);
  Tensor indices(Shape shape, const std::function<std::int64_t(std::int64_t)>& value);
  KernelCases(const CaseSizes& sizes, const Stream& stream, Arena::Mode mode, std::int64_t bytes);
  void fill(const Tensor& t, double stddev);
  void add_linear();
  void add_grouped(double skew);
  void add_float8(const CaseSizes::Float8& size);
  void add_attention();
  void add_rows();
  void add_permutation();
  void add_head();
  void add_optimizer();

  CaseSizes sizes_;
  Stream stream_;
  Arena arena_;
  std::uint64_t seed_ = 0;
  std::deque<std::vector<std::int32_t>> offsets_;
  std::vector<KernelCase> cases_;
};

}  // namespace fourmi::bench
