// What products read, held against what they would read without scales: for the guard of eight bits. Where one is given
// (Context::operand_check) operands come to be a second time, exactly, some rows after the other.
#pragma once

#include "framework/model/store.h"
#include "kernels/runtime/stream.h"

namespace fourmi {

/// What a product reads beside its weight.
enum class OperandRole : std::uint8_t { activation, gradient };

class OperandCheck {
 public:
  static constexpr std::int64_t most_rows = 128;

  virtual ~OperandCheck() = default;
  OperandCheck() = default;
  OperandCheck(const OperandCheck&) = delete;
  OperandCheck& operator=(const OperandCheck&) = delete;

  /// Memory for at most `most_rows` exact rows, until the next call.
  virtual Tensor exact_rows(std::int64_t rows, std::int64_t columns) = 0;
  /// The same rows: of the activation's dtype, and as the products of `w` read them.
  virtual void compare(const Stream&, const Slot& w, OperandRole role, const Tensor& exact, const Tensor& read) = 0;
  /// What became of an operand's rows as the gradient of `w` reads them, in columns: `changed` of so many elements have
  /// another value.
  virtual void add_regrouped(const Slot& w, OperandRole role, std::int64_t elements, std::int64_t changed) = 0;
  /// The copy of a weight, where nobody has looked at it yet.
  virtual bool wants_weight(const Slot& w) = 0;
  virtual void compare_weight(const Stream&, const Slot& w, const Tensor& weight, const Tensor& matrix) = 0;
};

}  // namespace fourmi
