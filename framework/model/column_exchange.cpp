#include "framework/model/column_exchange.h"

#include <algorithm>
#include <array>
#include <bit>

#include "kernels/ops/tree_sum.h"
#include "kernels/runtime/copy_rows.h"

namespace fourmi {

namespace {

constexpr std::size_t max_parts = 16;  // 2 partials of 8 ranks

std::span<std::byte> bytes(const Tensor& t) {
  return {static_cast<std::byte*>(t.data), static_cast<std::size_t>(t.bytes())};
}

std::int64_t row_bytes(const Tensor& rows) {
  return bytes_of(rows.dtype, {1, rows.dim(1)});
}

}  // namespace

ColumnExchange::ColumnExchange(Group* group, int size, std::int64_t rows, std::int64_t columns, int parts,
                               DType accumulate, Arena& arena)
    : group_(group), size_(size), columns_(columns) {
  const std::int64_t all = size * rows;
  partials_ = arena.allocate({parts * all, columns}, accumulate, "partial sums of experts' columns");
  packed_ = arena.allocate({all, columns}, accumulate, "partial sums of experts' columns sent");
  received_ = arena.allocate({parts * all, columns}, accumulate, "partial sums of experts' columns received");
}

int ColumnExchange::most(int value) const {
  std::int64_t most = value;
  group_->all_max(std::span(&most, 1));
  return static_cast<int>(most);
}

std::int64_t ColumnExchange::num_rows(const Tensor& each_Qe1, std::int64_t rank) {
  const std::int64_t n = each_Qe1.dim(1);
  return each_Qe1.as<std::int32_t>()[rank * n + n - 1];
}

std::int64_t ColumnExchange::num_all(const Tensor& each_Qe1) const {
  std::int64_t all = 0;
  for (int q = 0; q < size_; ++q) all += num_rows(each_Qe1, q);
  return all;
}

template <class Visit>
void ColumnExchange::runs(const Tensor& each_Qe1, const Visit& visit) const {
  const std::int64_t n = each_Qe1.dim(1);
  const auto* each = each_Qe1.as<std::int32_t>();
  std::int64_t at = 0;
  for (std::int64_t e = 0; e + 1 < n; ++e)
    for (int q = 0; q < size_; ++q) {
      const std::int64_t begin = each[q * n + e], count = each[q * n + e + 1] - begin;
      if (count > 0) visit(q, begin, at, count);
      at += count;
    }
}

void ColumnExchange::join(std::span<const std::int32_t> offsets_e1, const Tensor& each_Qe1,
                          std::span<std::int32_t> joined_e1) const {
  group_->all_gather(std::as_bytes(offsets_e1), bytes(each_Qe1));
  std::fill(joined_e1.begin(), joined_e1.end(), 0);
  const auto* each = each_Qe1.as<std::int32_t>();
  for (std::size_t i = 0; i < joined_e1.size(); ++i)
    for (std::size_t q = 0; q < static_cast<std::size_t>(size_); ++q) joined_e1[i] += each[q * joined_e1.size() + i];
}

void ColumnExchange::gather(const Stream& stream, const Tensor& each_Qe1, const Tensor& own_R,
                            const Tensor& all_A) const {
  const Span span(stream.timeline(), Work::exchange, "gather_expert_rows");
  const std::int64_t row = row_bytes(own_R);
  const std::span counts = group_->counts(0);
  for (std::size_t q = 0; q < counts.size(); ++q)
    counts[q] = static_cast<std::size_t>(num_rows(each_Qe1, static_cast<std::int64_t>(q)) * row);
  const std::span received = bytes(received_).first(static_cast<std::size_t>(num_all(each_Qe1) * row));
  group_->all_gather_v(bytes(own_R), received, counts);
  std::array<std::int64_t, max_parts> first{};
  for (int q = 1; q < size_; ++q)
    first[static_cast<std::size_t>(q)] = first[static_cast<std::size_t>(q) - 1] + num_rows(each_Qe1, q - 1);
  runs(each_Qe1, [&](int q, std::int64_t own, std::int64_t at, std::int64_t n) {
    copy_rows(stream, received_, first[static_cast<std::size_t>(q)] + own, all_A, at, n, row);
  });
}

void ColumnExchange::gather_tokens(const Stream& stream, const Tensor& each_Qe1, const Tensor& own_R1,
                                   std::int64_t tokens, const Tensor& all_A1) const {
  gather(stream, each_Qe1, own_R1, all_A1);
  auto* all = all_A1.as<std::int32_t>();
  runs(each_Qe1, [&](int q, std::int64_t, std::int64_t at, std::int64_t n) {
    for (std::int64_t i = at; i < at + n; ++i) all[i] += static_cast<std::int32_t>(q * tokens);
  });
}

Tensor ColumnExchange::partial(int which) const {
  const std::int64_t all = packed_.dim(0);
  return partials_.rows(which * all, (which + 1) * all);
}

void ColumnExchange::sum(const Stream& stream, const Tensor& each_Qe1, int parts, const Tensor& y_RD) const {
  const Span span(stream.timeline(), Work::exchange, "sum_expert_rows");
  const std::int64_t A = num_all(each_Qe1), row = row_bytes(partials_), R = num_rows(each_Qe1, group_->rank());
  std::array<Tensor, max_parts> trees;
  for (int part = 0; part < parts; ++part) {
    const Tensor packed = packed_.rows(0, A), received = received_.rows(part * size_ * R, (part + 1) * size_ * R);
    std::array<std::int64_t, max_parts> first{};
    for (int q = 1; q < size_; ++q)
      first[static_cast<std::size_t>(q)] = first[static_cast<std::size_t>(q) - 1] + num_rows(each_Qe1, q - 1);
    runs(each_Qe1, [&](int q, std::int64_t own, std::int64_t at, std::int64_t n) {
      copy_rows(stream, partial(part), at, packed, first[static_cast<std::size_t>(q)] + own, n, row);
    });
    const std::span sent = group_->counts(0), got = group_->counts(1);
    for (std::size_t q = 0; q < sent.size(); ++q) {
      sent[q] = static_cast<std::size_t>(num_rows(each_Qe1, static_cast<std::int64_t>(q)) * row);
      got[q] = static_cast<std::size_t>(R * row);
    }
    group_->all_to_all(bytes(packed), sent, bytes(received), got);
    for (int q = 0; q < size_; ++q)
      trees[static_cast<std::size_t>(part * size_ + q)] = received.rows(q * R, (q + 1) * R).view({R * columns_});
  }
  if (R == 0) return;
  const auto num = static_cast<std::size_t>(parts * size_);
  tree_sum(stream, std::span(trees).first(std::bit_ceil(num)), y_RD.view({R * columns_}));
}

}  // namespace fourmi
