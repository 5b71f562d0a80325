#include "framework/recipe/check_context.h"

#include "kernels/runtime/error.h"

namespace fourmi::recipe {

void context_issues(const Recipe& r,
                    const std::function<void(const std::string&, std::string, std::string, std::string)>& refuse) {
  const std::int64_t context = r.parallel.context, tensor = r.parallel.tensor, T = r.data.sequence_length;
  if (context == 1) return;
  if (context != 2 && context != 4 && context != 8)
    return refuse("parallel.context", fmt::format("found {} as `context`", context), "expected 1, 2, 4 or 8", {});
  if (T % 16 != 0)
    return refuse("data.sequence_length", fmt::format("found {} with {} context ranks", T, context),
                  "expected a multiple of 16: ranks share a sequence in blocks of a sixteenth", {});
  if (r.parallel.context_method == ContextMethod::ring && r.run.reproducibility == Reproducibility::layout)
    return refuse("parallel.context_method", "found ring with run.reproducibility layout",
                  "expected all-gather: a ring adds what keys leave in an order that depends on the number of ranks",
                  "Use parallel.context_method all-gather, or run.reproducibility run");
  const std::int64_t blocks = 16 * r.data.micro_batch_size;
  if (blocks % (context * tensor) != 0)
    refuse(
        "parallel.context", fmt::format("found {} as `context` beside `tensor` {}", context, tensor),
        fmt::format("expected context x tensor to divide {}: the blocks of a sixteenth of a sequence in a micro-batch",
                    blocks),
        "Use fewer context or tensor ranks, or a larger data.micro_batch_size");
}

}  // namespace fourmi::recipe
