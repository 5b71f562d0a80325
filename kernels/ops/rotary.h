// Rotary position embedding (Su et al. 2021), interleaved pairs (DeepSeek) or half-split (Llama, Qwen), with YaRN
// (Peng et al. 2023; reference values: DeepSeek-V3 factor 40, orig 4096, beta 32/1).
//
// Angles are position * frequency in fp64 with our own sin and cos, rounded once into a table. Rotation in the
// accumulator dtype: (a, b) -> (a cos - b sin, a sin + b cos), each as fma(a, cos, -(b * sin)) and fma(a, sin, b *
// cos); one rounding.
#pragma once

#include <vector>

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

struct Yarn {
  double factor = 1;
  double original_max_position = 4096;
  double beta_fast = 32, beta_slow = 1;
  bool truncate = true;  ///< the ramp's ends are rounded to whole pairs, outward
};

/// 0.1 * m * ln(factor) + 1 for factor > 1, else 1.
double yarn_mscale(double factor, double m);

/// One frequency per pair, radians per position: theta^(-2j/dim), j < dim/2, blended by YaRN where given.
std::vector<double> rotary_frequencies(std::int64_t dim, double theta, const Yarn* yarn = nullptr);

/// Llama 3.1's rule: frequencies of wavelengths beyond original / low are divided by the factor, those below original /
/// high stay, and in between they are blended.
struct Llama3Scaling {
  double factor = 8, original_max_position = 8192, low_freq_factor = 1, high_freq_factor = 4;
};
std::vector<double> stretched(std::vector<double> frequencies, const Llama3Scaling&);

/// table [P, dim/2, 2] (cos, sin) for positions 0..P-1, f32 or f64; `scale` multiplies both (YaRN's attention factor).
void rotary_table(const std::vector<double>& frequencies, double scale, const Tensor& table_PH2);

enum class RotaryLayout : std::uint8_t { interleaved, half_split };

struct Rotary {
  RotaryLayout layout = RotaryLayout::interleaved;
  bool inverse = false;     ///< backward: the rotation by the negative angle
  std::int64_t column = 0;  ///< first rotated column of each head's row
};

/// In place on x [M, H, W]: columns [column, column + dim) of each head, dim = 2 * table.dim(1). positions [M] i32.
void rotary_apply(const Stream&, const Rotary&, const Tensor& table_PH2, const Tensor& positions_M,
                  const Tensor& x_MHW);

/// Multi-head latent attention's operands from its projections (DeepSeek-V2 report 2.1, eq. 37-47).
///   q_MB: row holds H heads of (nope + rope) starting at column q_column   -> q_MHQ: rope part rotated
///   kv_MHC: per head (nope | v)                                              -> k_MHQ: (nope | rotated shared k_pe),
///   v_MHV a_MA: row holds the shared rope key at column k_column (rope wide)
struct MlaAssemble {
  std::int64_t num_heads = 1, nope = 0, rope = 0, v = 0;
  std::int64_t q_column = 0, k_column = 0;
  RotaryLayout layout = RotaryLayout::interleaved;
  /// Leaves of the heads held here, in backward: a power of two that divides num_heads. 0: the most up to 8, which is
  /// the rule of a rank with all heads; ranks that share the heads have their shares of those leaves.
  std::int64_t head_leaves = 0;
};
/// One half alone, where queries and keys are of other rows: absent q_MB and q_MHQ, or absent kv_MHC, a_MA, k_MHQ and
/// v_MHV.
void mla_assemble_forward(const Stream&, const MlaAssemble&, const Tensor& table_PH2, const Tensor& positions_M,
                          const Tensor& q_MB, const Tensor& kv_MHC, const Tensor& a_MA, const Tensor& q_MHQ,
                          const Tensor& k_MHQ, const Tensor& v_MHV);
/// Writes dq into dq_MB (its H * (nope + rope) columns at q_column), dkv, and dk_pe into da_MA (rope columns at
/// k_column). dk_pe: the rotation's inverse of the sum over heads in the accumulator dtype by a binary tree over leaves
/// (docs/numerics.md "Rotary embedding"). dq_MB and da_MA may be the same tensor; other columns are not touched.
/// Where heads are cut over ranks: with dk_pe_MR (accumulator dtype) the sum goes there instead, neither rotated back
/// nor rounded, and da_MA may be absent; tree_sum over ranks, then mla_rotary_key_backward.
void mla_assemble_backward(const Stream&, const MlaAssemble&, const Tensor& table_PH2, const Tensor& positions_M,
                           const Tensor& dq_MHQ, const Tensor& dk_MHQ, const Tensor& dv_MHV, const Tensor& dq_MB,
                           const Tensor& dkv_MHC, const Tensor& da_MA, const Tensor& dk_pe_MR = {});
/// Writes dk_pe into da_MA: the rotation's inverse of the sum over all heads, one rounding.
void mla_rotary_key_backward(const Stream&, const MlaAssemble&, const Tensor& table_PH2, const Tensor& positions_M,
                             const Tensor& dk_pe_MR, const Tensor& da_MA);

}  // namespace fourmi
