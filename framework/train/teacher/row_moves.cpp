#include "framework/train/teacher/row_moves.h"

#include <algorithm>

#include "framework/model/sequence_part.h"

namespace fourmi {

std::vector<TokenRun> runs_on(const Layout& layout, int rank, std::int64_t num_samples) {
  const Recipe& r = layout.recipe;
  const Mesh& mesh = layout.mesh;
  std::vector<TokenRun> runs;
  if (mesh.coordinate(rank, Axis::pipeline) != layout.stages.places.back().rank) return runs;
  const SequencePart part{mesh.coordinate(rank, Axis::context), mesh.size(Axis::context),
                          r.parallel.context_method == ContextMethod::ring};
  const BatchSizes sizes = batch_sizes(r);
  const std::int64_t T = r.data.sequence_length, m = sizes.shard_rows(), mine = mesh.coordinate(rank, Axis::tensor) * m,
                     of_rank = num_samples / mesh.size(Axis::data),
                     before = mesh.coordinate(rank, Axis::data) * of_rank;
  for (std::int64_t sample = 0, row = 0; sample < of_rank; ++sample)
    for (const Share::Range range : part.runs(T)) {
      // Rows of whole micro-batches, of which the tensor axis' ranks have a part each.
      for (std::int64_t t = range.begin; t < range.end;) {
        const std::int64_t batch = row / sizes.rows, in_batch = row % sizes.rows;
        const std::int64_t next = in_batch < mine ? mine : in_batch < mine + m ? mine + m : sizes.rows;
        const std::int64_t count = std::min(range.end - t, next - in_batch);
        if (in_batch >= mine && in_batch < mine + m)
          runs.push_back({(before + sample) * T + t, count, batch * m + in_batch - mine});
        t += count, row += count;
      }
    }
  return runs;
}

namespace {

struct Held {
  TokenRun run;
  int rank = 0;
};

/// Calls visit(rank of the student, its row, row of the teacher's rank, count) for all that one run of the teacher's
/// overlaps with, in the order of the tokens.
template <class Visit>
void overlaps(const std::vector<Held>& held, const TokenRun& run, const Visit& visit) {
  auto at = std::upper_bound(held.begin(), held.end(), run.first,
                             [](std::int64_t token, const Held& h) { return token < h.run.first + h.run.count; });
  for (; at != held.end() && at->run.first < run.first + run.count; ++at) {
    const std::int64_t begin = std::max(run.first, at->run.first),
                       end = std::min(run.first + run.count, at->run.first + at->run.count);
    visit(at->rank, at->run.at + begin - at->run.first, run.at + begin - run.first, end - begin);
  }
}

void add(std::vector<RowMoves::Run>& runs, std::int64_t row, std::int64_t count) {
  if (!runs.empty() && runs.back().row + runs.back().count == row)
    runs.back().count += count;
  else
    runs.push_back({row, count});
}

}  // namespace

RowMoves::RowMoves(const Layout& teacher, const Layout& student, int rank, std::int64_t num_samples) {
  const int num_ranks = teacher.mesh.ranks();
  std::vector<Held> held;
  for (int q = 0; q < num_ranks; ++q)
    for (const TokenRun& run : runs_on(student, q, num_samples)) held.push_back({run, q});
  std::sort(held.begin(), held.end(), [](const Held& a, const Held& b) { return a.run.first < b.run.first; });
  const std::int64_t m = batch_sizes(teacher.recipe).shard_rows();
  rounds_.resize(
      static_cast<std::size_t>(num_samples / teacher.mesh.size(Axis::data) / teacher.recipe.data.micro_batch_size));
  for (Round& r : rounds_) r.to.resize(static_cast<std::size_t>(num_ranks)), r.from = r.to;
  // What is sent lies rank after rank of the student, what is received rank after rank of the teacher; of two ranks
  // both in the order of the teacher's rows.
  std::vector<std::vector<std::vector<Run>>> to(
      rounds_.size(), std::vector<std::vector<Run>>(held.empty() ? 0 : static_cast<std::size_t>(num_ranks)));
  for (int p = 0; p < num_ranks; ++p)
    for (const TokenRun& run : runs_on(teacher, p, num_samples))
      overlaps(held, run, [&](int q, std::int64_t there, std::int64_t here, std::int64_t count) {
        const auto which = static_cast<std::size_t>(here / m);
        Round& round = rounds_[which];
        if (p == rank) {
          add(to[which][static_cast<std::size_t>(q)], here % m, count);
          round.to[static_cast<std::size_t>(q)] += count;
        }
        if (q == rank) {
          add(round.received, there, count);
          round.from[static_cast<std::size_t>(p)] += count;
          round.num_received += count;
        }
      });
  for (std::size_t i = 0; i < rounds_.size(); ++i)
    for (const std::vector<Run>& runs : to[i]) rounds_[i].sent.insert(rounds_[i].sent.end(), runs.begin(), runs.end());
}

std::int64_t RowMoves::most_received() const {
  std::int64_t most = 0;
  for (const Round& r : rounds_) most = std::max(most, r.num_received);
  return most;
}

}  // namespace fourmi
