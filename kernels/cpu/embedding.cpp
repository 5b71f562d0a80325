#include "kernels/ops/embedding.h"

#include <algorithm>
#include <atomic>
#include <limits>

#include "kernels/numerics/fixed128.h"
#include "kernels/numerics/rounding.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

void check_tokens(const std::int32_t* tokens, std::int64_t n, std::int64_t vocabulary, std::int64_t least) {
  for (std::int64_t i = 0; i < n; ++i)
    if (tokens[i] < least || tokens[i] >= vocabulary) [[unlikely]]
      throw Error(ExitStatus::input, "embedding",
                  fmt::format("token {} at position {}, a vocabulary of {}", tokens[i], i, vocabulary),
                  "Set vocab_size to the tokenizer's size, or tokenize the data with the model's tokenizer");
}

/// The rows of a table, by token.
struct Held {
  std::int64_t first, rows;
  Held(const VocabularyRange& range, const Tensor& table_VD) : first(range.first), rows(table_VD.dim(0)) {
    FOURMI_CHECK(range.first >= 0 && (range.size > 0 || range.first == 0), "rows from {} of a vocabulary of {}",
                 range.first, range.size);
  }
  /// The token's row, negative if it is not here.
  std::int64_t row(std::int32_t token) const {
    const std::int64_t r = token - first;
    return r < rows ? r : -1;
  }
};
std::int64_t vocabulary_of(const VocabularyRange& range, const Tensor& table_VD) {
  return range.size > 0 ? range.size : table_VD.dim(0);
}

/// Adds x to an exact sum, or leaves it out and says so.
void add_exact(int128& sum, double x, std::int32_t* refused) {
  if (fits_fixed128(x)) [[likely]] {
    sum += to_fixed128(x);
  } else if (refused) {
    std::atomic_ref(*refused).store(1, std::memory_order_relaxed);
  }
}

}  // namespace

void embedding_forward(const Stream& stream, const Tensor& tokens_M, const Tensor& table_VD, const Tensor& x_MD,
                       const VocabularyRange& range) {
  FOURMI_DOOR(embedding_forward, stream, tokens_M, table_VD, x_MD, range);
  const Span span(stream.timeline(), Work::embedding, "embedding_forward");
  const std::int64_t num_tokens = x_MD.dim(0), size = x_MD.dim(1);
  FOURMI_CHECK(tokens_M.num_elements() == num_tokens && table_VD.dim(1) == size, "tokens {}, table {}, x {}",
               to_string(tokens_M.shape), to_string(table_VD.shape), to_string(x_MD.shape));
  const auto* tokens = tokens_M.as<std::int32_t>();
  check_tokens(tokens, num_tokens, vocabulary_of(range, table_VD), 0);
  const Held held(range, table_VD);
  visit_float(table_VD.dtype, "embedding", [&]<class From>(std::type_identity<From>) {
    visit_float(x_MD.dtype, "embedding", [&]<class To>(std::type_identity<To>) {
      const From* table = table_VD.as<From>();
      To* x = x_MD.as<To>();
      const std::int64_t grain = std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, size));
      stream.pool().parallel_for(num_tokens, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t row = held.row(tokens[i]);
          if (row < 0)
            std::fill_n(x + i * size, size, round_to<To>(-0.0));
          else
            for (std::int64_t d = 0; d < size; ++d) x[i * size + d] = round_to<To>(table[row * size + d]);
        }
      });
    });
  });
}

void embedding_backward(const Stream& stream, const Tensor& tokens_M, const Tensor& dx_MD, const Tensor& dtable_VD,
                        const Cuts& cuts, const VocabularyRange& range) {
  FOURMI_DOOR(embedding_backward, stream, tokens_M, dx_MD, dtable_VD, cuts, range);
  const Span span(stream.timeline(), Work::embedding, "embedding_backward");
  const std::int64_t num_tokens = dx_MD.dim(0), size = dx_MD.dim(1);
  FOURMI_CHECK(tokens_M.num_elements() == num_tokens && dtable_VD.dim(1) == size, "tokens {}, dx {}, dtable {}",
               to_string(tokens_M.shape), to_string(dx_MD.shape), to_string(dtable_VD.shape));
  const auto* tokens = tokens_M.as<std::int32_t>();
  check_tokens(tokens, num_tokens, vocabulary_of(range, dtable_VD), std::numeric_limits<std::int32_t>::min());
  const Held held(range, dtable_VD);
  // Threads share out columns, never tokens: each element's sum then runs over tokens in ascending order.
  const auto over_columns = [&](auto&& add_row) {
    stream.pool().parallel_for(size, 32, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = 0; i < num_tokens; ++i)
        if (const std::int64_t row = held.row(tokens[i]); tokens[i] >= 0 && row >= 0) add_row(i, row, begin, end);
    });
  };
  visit_float(dx_MD.dtype, "embedding", [&]<class T>(std::type_identity<T>) {
    using A = Accumulator<T>;
    const T* dx = dx_MD.as<T>();
    if (dtable_VD.dtype == DType::fx128) {
      int128* dtable = dtable_VD.as<int128>();
      over_columns([&](std::int64_t i, std::int64_t row, std::int64_t begin, std::int64_t end) {
        for (std::int64_t d = begin; d < end; ++d)
          add_exact(dtable[row * size + d], static_cast<double>(dx[i * size + d]), cuts.refused);
      });
    } else {
      A* dtable = dtable_VD.as<A>();
      over_columns([&](std::int64_t i, std::int64_t row, std::int64_t begin, std::int64_t end) {
        for (std::int64_t d = begin; d < end; ++d) dtable[row * size + d] += static_cast<A>(dx[i * size + d]);
      });
    }
  });
}

}  // namespace fourmi
