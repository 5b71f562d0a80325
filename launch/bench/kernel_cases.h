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
};

/// All cases and the memory of their operands.
class KernelCases {
 public:
  KernelCases();
  const std::vector<KernelCase>& all() const { return cases_; }

 private:
  Tensor tensor(Shape shape, DType dtype, double stddev = 1.0);
  Tensor indices(Shape shape, const std::function<std::int64_t(std::int64_t)>& value);
  void add_linear();
  void add_grouped(double skew);
  void add_float8();
  void add_attention();
  void add_rows();
  void add_permutation();
  void add_head();
  void add_optimizer();

  Arena arena_;
  std::uint64_t seed_ = 0;
  std::deque<std::vector<std::int32_t>> offsets_;
  std::vector<KernelCase> cases_;
};

}  // namespace fourmi::bench
