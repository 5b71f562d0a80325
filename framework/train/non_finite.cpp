#include "framework/train/non_finite.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <limits>

#include "framework/checkpoint/agree.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

namespace {

constexpr std::int64_t grain = 1 << 16;

/// In bits without the sign, infinity and NaN are the largest: one comparison an element.
template <class Bits>
std::optional<std::int64_t> first_at_least(const Stream& stream, const Bits* x, std::int64_t n, Bits infinity) {
  constexpr Bits without_sign = std::numeric_limits<Bits>::max() >> 1;
  std::atomic<std::int64_t> first{n};
  stream.pool().parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
    Bits most = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const Bits b = static_cast<Bits>(x[i] & without_sign);
      most = b > most ? b : most;
    }
    if (most < infinity) return;
    std::int64_t i = begin;
    while (static_cast<Bits>(x[i] & without_sign) < infinity) ++i;
    for (std::int64_t seen = first; i < seen && !first.compare_exchange_weak(seen, i);) continue;
  });
  if (first == n) return std::nullopt;
  return first.load();
}

double value_at(const Tensor& x, std::int64_t i) {
  if (x.dtype == DType::f64) return x.as<double>()[i];
  if (x.dtype == DType::f32) return static_cast<double>(x.as<float>()[i]);
  return static_cast<double>(static_cast<float>(x.as<bfloat16>()[i]));
}

const char* word(double value) {
  return std::isnan(value) ? "NaN" : value > 0 ? "inf" : "-inf";
}

/// One find of all ranks: the least (kind, order, rank).
struct First {
  NonFinite find;
  int rank = 0;
};
First first_of_all(Group& group, const NonFinite& mine) {
  std::vector<NonFinite> all(static_cast<std::size_t>(group.size()));
  group.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  First first{all[0], 0};
  for (int r = 1; r < group.size(); ++r) {
    const NonFinite& f = all[static_cast<std::size_t>(r)];
    if (std::pair(f.kind, f.order) < std::pair(first.find.kind, first.find.order)) first = {f, r};
  }
  return first;
}

std::string module_text(std::int64_t layer) {
  if (layer < 0) return "model.embed_tokens";
  const std::string prefix = layer_prefix(layer);
  return prefix.substr(0, prefix.size() - 1);
}

}  // namespace

std::optional<BadElement> first_non_finite(const Stream& stream, const Tensor& tensor) {
  const OnHost here(stream, tensor);
  const Tensor& x = here.tensor();
  std::optional<std::int64_t> at;
  const std::int64_t n = x.num_elements();
  if (x.dtype == DType::f64)
    at = first_at_least<std::uint64_t>(stream, static_cast<const std::uint64_t*>(x.data), n, 0x7ff0000000000000u);
  if (x.dtype == DType::f32)
    at = first_at_least<std::uint32_t>(stream, static_cast<const std::uint32_t*>(x.data), n, 0x7f800000u);
  if (x.dtype == DType::bf16)
    at = first_at_least<std::uint16_t>(stream, static_cast<const std::uint16_t*>(x.data), n, 0x7f80u);
  if (!at) return std::nullopt;
  return BadElement{*at, value_at(x, *at)};
}

std::string index_text(const Shape& shape, std::int64_t flat) {
  std::string text = "]";
  for (int d = shape.rank - 1; d >= 0; --d) {
    text = fmt::format("{}{}{}", d > 0 ? ", " : "[", flat % shape[d], text);
    flat /= shape[d];
  }
  return text;
}

void NonFiniteSearch::look(const Parameter& p, std::int64_t first_row, const Tensor& rows, bool summed) {
  const auto bad = first_non_finite(stream_, rows);
  if (!bad) return;
  const std::int64_t which = whole_.index_of(p.name),
                     order = kind_ == NonFinite::Kind::weight ? which : std::ssize(whole_.all()) - which;
  std::int64_t more = 0;
  if (find_.kind == kind_) {
    more = find_.more + (which != find_.which);
    if (order >= find_.order) {
      find_.more = more;
      return;
    }
  }
  const std::int64_t width = p.shape.num_elements() / p.shape[0],
                     mine = p.local.num_elements() / std::max<std::int64_t>(1, p.local[0]),
                     row = p.first_row + first_row + bad->index / mine;
  find_ = {.kind = kind_,
           .order = order,
           .which = which,
           .index = row * width + p.first_column + bad->index % mine,
           .value = bad->value,
           .more = more,
           .summed = summed};
}

NonFinite::Kind first_kind(Group& group, const NonFinite& mine) {
  return first_of_all(group, mine).find.kind;
}

std::string tell_first(Group& group, const ParameterTable& whole, const NonFinite& mine) {
  const auto [f, rank] = first_of_all(group, mine);
  const auto& all = whole.all();
  const std::string more = f.more > 0 ? fmt::format(" (and in {} more)", f.more) : "";
  const auto of = [&](const char* kind) {
    const Parameter& p = all[static_cast<std::size_t>(f.which)];
    if (f.index < 0) return fmt::format("a {} of {} on rank {} is not finite", kind, p.name, rank);
    return fmt::format("the {} of {} is {} at {}{} on rank {}",
                       f.summed ? std::string("sum over ranks of the ") + kind : kind, p.name, word(f.value),
                       index_text(p.shape, f.index), more, rank);
  };
  switch (f.kind) {
    case NonFinite::Kind::weight:
      return of("weight");
    case NonFinite::Kind::gradient:
      if (f.which >= 0) return of("gradient");
      return fmt::format("a partial sum of a gradient on rank {} is not finite, or 2^40 and more", rank);
    case NonFinite::Kind::activation:
      return fmt::format("the output of {} is {} at element {} on rank {}, micro-batch {}", module_text(f.which),
                         word(f.value), f.index, rank, f.micro_batch);
    case NonFinite::Kind::loss:
      return fmt::format("the loss of row {} is {} on rank {}, micro-batch {}", f.index, word(f.value), rank,
                         f.micro_batch);
    case NonFinite::Kind::none:
      break;
  }
  return "weights, activations and gradients are finite when they are computed again: a fault of the machine that has "
         "passed";
}

void require_finite(const Stream& stream, Group& group, std::span<const Box> boxes, std::int64_t step) {
  agreed(group, [&] {
    for (const Box& box : boxes) {
      const auto bad = first_non_finite(stream, box.data);
      if (!bad) continue;
      throw Error(ExitStatus::guard, fmt::format("step {}", step),
                  fmt::format("{} is {} at {}, expected a finite state before it is saved", box.name, word(bad->value),
                              index_text(box.global, box.global_index(bad->index))),
                  "No checkpoint was written from it: start the same command again, it goes on from the newest one");
    }
  });
}

}  // namespace fourmi
