#include "parallel/zero.h"

#include <algorithm>
#include <numeric>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

struct Panels {
  std::int64_t rows = 1, row_elements = 1, count = 0;
  explicit Panels(const Shape& shape) {
    if (shape.rank > 0) rows = shape[0];
    row_elements = rows == 0 ? 0 : shape.num_elements() / rows;
    count = row_elements == 0 ? 0 : (rows + ShardPlan::panel_rows - 1) / ShardPlan::panel_rows;
  }
  std::int64_t row_of(std::int64_t panel) const { return std::min(rows, panel * ShardPlan::panel_rows); }
  std::int64_t elements(std::int64_t first, std::int64_t panels) const {
    return (row_of(first + panels) - row_of(first)) * row_elements;
  }
};

// Ranks by load, least first; equal loads by rank.
std::vector<std::size_t> least_loaded(const std::vector<std::int64_t>& load) {
  std::vector<std::size_t> order(load.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return load[a] < load[b]; });
  return order;
}

std::vector<std::vector<RowRun>> assign(const std::vector<ShardTensor>& tensors, std::size_t num_ranks) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // Large tensors first, then the rest by the size of a panel: what comes last can even out best.
  const auto key = [&](std::size_t t) {
    const Panels p(tensors[t].shape);
    return std::pair(p.count < static_cast<std::int64_t>(num_ranks), -p.elements(0, 1));
  };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key(a) < key(b); });

  std::vector<std::vector<RowRun>> runs(num_ranks);
  std::vector<std::int64_t> load(num_ranks, 0);
  for (std::size_t t : order) {
    const Panels panels(tensors[t].shape);
    const std::int64_t each = panels.count / static_cast<std::int64_t>(num_ranks);
    const auto odd = static_cast<std::size_t>(panels.count % static_cast<std::int64_t>(num_ranks));
    std::vector<std::int64_t> share(num_ranks, each);
    const auto by_load = least_loaded(load);
    for (std::size_t i = 0; i < odd; ++i) ++share[by_load[i]];
    std::int64_t panel = 0;
    for (std::size_t r = 0; r < num_ranks; ++r) {
      if (share[r] == 0) continue;
      const std::int64_t first = panels.row_of(panel), n = panels.elements(panel, share[r]);
      runs[r].push_back(
          {t, first, panels.row_of(panel + share[r]) - first, 0, tensors[t].offset + first * panels.row_elements, n});
      load[r] += n;
      panel += share[r];
    }
  }
  for (auto& list : runs) {
    std::sort(list.begin(), list.end(), [](const RowRun& a, const RowRun& b) { return a.tensor < b.tensor; });
    std::int64_t offset = 0;
    for (RowRun& run : list) {
      run.offset = offset;
      offset += run.num_elements;
    }
  }
  return runs;
}

Ownership ownership(const std::vector<std::vector<RowRun>>& runs) {
  std::vector<std::vector<Piece>> pieces(runs.size());
  for (std::size_t r = 0; r < runs.size(); ++r)
    for (const RowRun& run : runs[r]) pieces[r].push_back({run.flat_offset, run.offset, run.num_elements});
  return Ownership(std::move(pieces));
}

std::size_t checked(int group_size) {
  FOURMI_CHECK(group_size >= 1, "a plan for {} ranks", group_size);
  return static_cast<std::size_t>(group_size);
}

}  // namespace

ShardPlan::ShardPlan(std::vector<ShardTensor> tensors, int group_size)
    : tensors_(std::move(tensors)), runs_(assign(tensors_, checked(group_size))), owners_(ownership(runs_)) {}

namespace {

/// Of the first `rows` rows of a tensor, which are whole panels or all that there are.
std::int64_t bytes_of_rows(const ShardTensor& tensor, DType dtype, std::int64_t rows) {
  FOURMI_CHECK(tensor.shape.rank == 2, "{} of shape {}, expected a matrix", tensor.name, to_string(tensor.shape));
  return bytes_of(dtype, {rows, tensor.shape[1]});
}

}  // namespace

std::int64_t shard_bytes(const ShardPlan& plan, int rank, DType dtype) {
  std::int64_t bytes = 0;
  for (const RowRun& run : plan.runs(rank)) bytes += bytes_of_rows(plan.tensors()[run.tensor], dtype, run.num_rows);
  return bytes;
}

Ownership byte_owners(const ShardPlan& plan, DType dtype, std::span<const std::int64_t> first_byte) {
  std::vector<std::vector<Piece>> pieces(static_cast<std::size_t>(plan.group_size()));
  for (int rank = 0; rank < plan.group_size(); ++rank)
    for (const RowRun& run : plan.runs(rank)) {
      const ShardTensor& tensor = plan.tensors()[run.tensor];
      pieces[static_cast<std::size_t>(rank)].push_back(
          {first_byte[run.tensor] + bytes_of_rows(tensor, dtype, run.first_row), 0,
           bytes_of_rows(tensor, dtype, run.num_rows)});
    }
  return Ownership(std::move(pieces));
}

std::int64_t zero_scratch_bytes(const ShardPlan& plan, DType dtype) {
  return scratch_bytes_for(plan.owners(), dtype);
}

void reduce_scatter_gradients(const Stream& stream, Group& group, const ShardPlan& plan, const Tensor& flat,
                              const Tensor& shard, const Tensor& scratch, Into into,
                              const std::function<void()>& meanwhile) {
  reduce_scatter(stream, group, plan.owners(), flat, shard, scratch, into, meanwhile);
}

void all_gather_parameters(const Stream& stream, Group& group, const ShardPlan& plan, const Tensor& shard,
                           const Tensor& flat, const Tensor& scratch, const std::function<void()>& meanwhile) {
  all_gather(stream, group, plan.owners(), shard, flat, scratch, meanwhile);
}

}  // namespace fourmi
