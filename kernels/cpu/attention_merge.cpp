#include "kernels/cpu/run_rows.h"
#include "kernels/numerics/math.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

template <class T>
struct Merge {
  const T *other_o, *other_lse;
  T *o, *lse;
  std::int64_t V;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    constexpr T nothing = -std::numeric_limits<T>::infinity();
    for (std::int64_t i = begin; i < end; ++i) {
      const T mine = lse[i], theirs = other_lse[i];
      if (theirs == nothing) continue;
      T* to = o + i * V;
      const T* from = other_o + i * V;
      if (mine == nothing) {
        std::copy_n(from, V, to);
        lse[i] = theirs;
        continue;
      }
      const T most = mine > theirs ? mine : theirs;
      const T a = exp(mine - most), b = exp(theirs - most), sum = a + b;
      const T keep = a / sum, take = b / sum;
      for (std::int64_t c = 0; c < V; ++c) to[c] = fma(from[c], take, to[c] * keep);
      lse[i] = most + log(sum);
    }
  }
};

}  // namespace

void attention_merge(const Stream& stream, const Tensor& other_o_MHV, const Tensor& other_lse_MH, const Tensor& o_MHV,
                     const Tensor& lse_MH) {
  FOURMI_DOOR(attention_merge, stream, other_o_MHV, other_lse_MH, o_MHV, lse_MH);
  const Span span(stream.timeline(), Work::attention, "attention_merge");
  const std::int64_t rows = lse_MH.num_elements(), V = o_MHV.dim(2);
  FOURMI_CHECK(
      o_MHV.num_elements() == rows * V && other_o_MHV.num_elements() == rows * V && other_lse_MH.num_elements() == rows,
      "o {}, lse {}, other o {}, other lse {}", to_string(o_MHV.shape), to_string(lse_MH.shape),
      to_string(other_o_MHV.shape), to_string(other_lse_MH.shape));
  visit_accumulator(o_MHV.dtype, "attention_merge", [&]<class T>(std::type_identity<T>) {
    run_rows(stream, rows, grain_of(V),
             Merge<T>{other_o_MHV.as<T>(), other_lse_MH.as<T>(), o_MHV.as<T>(), lse_MH.as<T>(), V});
  });
}

}  // namespace fourmi
