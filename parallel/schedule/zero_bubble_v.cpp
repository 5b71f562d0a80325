// ZB-V by list scheduling: the rank that can begin something earliest does so, in unit times (F = B_input = W).
#include <limits>
#include <optional>

#include "kernels/runtime/error.h"
#include "parallel/schedule/generators.h"

namespace fourmi::schedules {

std::vector<StagePlace> v_shape(int num_ranks) {
  std::vector<StagePlace> route;
  for (int r = 0; r < num_ranks; ++r) route.push_back({r, 0});
  for (int r = num_ranks - 1; r >= 0; --r) route.push_back({r, 1});
  return route;
}

namespace {

constexpr int none = -1;

struct Rank {
  int time = 0;                             ///< when it is free
  int forwards[2] = {}, backwards[2] = {};  ///< begun, by chunk
  std::vector<Pass> weights;                ///< halves that are left to do, oldest first
  std::size_t next_weight = 0;
  int held = 0;  ///< chunks' activations
  bool last_was_backward = true;

  bool has_weight() const { return next_weight < weights.size(); }
};

struct Choice {
  int begin = std::numeric_limits<int>::max();
  int rank = none;
  Action action;
};

class Greedy {
 public:
  Greedy(int num_ranks, int num_micro_batches)
      : s_(empty("zb-v", num_ranks, 2, num_micro_batches, {v_shape(num_ranks)})),
        ranks_(static_cast<std::size_t>(num_ranks)),
        forward_end_(static_cast<std::size_t>(2 * num_ranks * num_micro_batches), none),
        backward_end_(forward_end_) {}

  Schedule run() {
    const int num_actions = 6 * s_.num_ranks * s_.num_micro_batches;
    for (int i = 0; i < num_actions; ++i) {
      Choice best;
      for (int r = 0; r < s_.num_ranks; ++r)
        if (const auto c = choose(r); c && c->begin < best.begin) best = *c;
      FOURMI_CHECK(best.rank != none, "zb-v of {} ranks and {} micro-batches stands still", s_.num_ranks,
                   s_.num_micro_batches);
      take(best);
    }
    return std::move(s_);
  }

 private:
  int stage(int rank, int chunk) const { return chunk == 0 ? rank : 2 * s_.num_ranks - 1 - rank; }
  int& end(std::vector<int>& ends, int stage, int micro_batch) {
    return ends[static_cast<std::size_t>(stage * s_.num_micro_batches + micro_batch)];
  }
  /// When its input is there; `none` if not known yet.
  int ready(int rank, Verb verb, Pass p) {
    const int at = stage(rank, p.chunk);
    if (verb == Verb::forward) return at == 0 ? 0 : end(forward_end_, at - 1, p.micro_batch);
    if (at == 2 * s_.num_ranks - 1) return end(forward_end_, at, p.micro_batch);
    return end(backward_end_, at + 1, p.micro_batch);
  }

  std::optional<Choice> choose(int r) {
    Rank& rank = ranks_[static_cast<std::size_t>(r)];
    Choice best;
    // In turn forward and backward; a forward of the way up before one of the way down, a backward of the way down
    // first: what is nearer to its end frees memory, and others wait for it.
    const auto offer = [&](Verb verb, int chunk) {
      const int m = (verb == Verb::forward ? rank.forwards : rank.backwards)[chunk];
      if (m == s_.num_micro_batches) return;
      if (verb == Verb::forward && rank.held == 2 * s_.num_ranks) return;
      const int at = ready(r, verb, {chunk, m});
      if (at == none) return;
      if (const int begin = std::max(rank.time, at); begin < best.begin) best = {begin, r, {verb, {chunk, m}, {}}};
    };
    const auto forwards = [&] { offer(Verb::forward, 1), offer(Verb::forward, 0); };
    const auto backwards = [&] { offer(Verb::backward_input, 0), offer(Verb::backward_input, 1); };
    if (rank.last_was_backward)
      forwards(), backwards();
    else
      backwards(), forwards();
    // What nobody waits for fills the time that is left.
    if (rank.has_weight() && best.begin > rank.time)
      return Choice{rank.time, r, {Verb::backward_weight, rank.weights[rank.next_weight], {}}};
    if (best.rank == none) return std::nullopt;
    return best;
  }

  void take(const Choice& c) {
    Rank& rank = ranks_[static_cast<std::size_t>(c.rank)];
    const auto [chunk, m] = c.action.pass;
    rank.time = c.begin + 1;
    if (c.action.verb == Verb::backward_weight) {
      ++rank.next_weight;
      --rank.held;
    } else {
      const bool forward = c.action.verb == Verb::forward;
      ++(forward ? rank.forwards : rank.backwards)[chunk];
      end(forward ? forward_end_ : backward_end_, stage(c.rank, chunk), m) = rank.time;
      if (forward)
        ++rank.held;
      else
        rank.weights.push_back(c.action.pass);
      rank.last_was_backward = !forward;
    }
    s_.actions[static_cast<std::size_t>(c.rank)].push_back(c.action);
  }

  Schedule s_;
  std::vector<Rank> ranks_;
  std::vector<int> forward_end_, backward_end_;  // [stage][micro-batch]
};

}  // namespace

Schedule zb_v(int num_ranks, int num_micro_batches) {
  return Greedy(num_ranks, num_micro_batches).run();
}

}  // namespace fourmi::schedules
