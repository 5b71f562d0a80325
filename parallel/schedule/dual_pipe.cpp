// DualPipe and DualPipeV: eight phases whose lengths depend on the rank's distance from the middle (or from the V's
// tip).
#include <algorithm>

#include "kernels/runtime/error.h"
#include "parallel/schedule/generators.h"

namespace fourmi::schedules {
namespace {

/// Writes one rank's list. Flow 0 is the one that reaches this rank first, flow 1 the other; each goes through one
/// chunk in the order of its micro-batches.
class Writer {
 public:
  struct Flow {
    int chunk, first;  ///< its first micro-batch
    int forwards = 0, backwards = 0;
  };
  Writer(std::vector<Action>& list, Flow flow0, Flow flow1) : list_(list), flows_{flow0, flow1} {}

  void forward(int f) { list_.push_back({Verb::forward, next_forward(f), {}}); }
  void backward(int f) { list_.push_back({Verb::backward, next_backward(f), {}}); }
  void backward_input(int f) {
    const Pass p = next_backward(f);
    list_.push_back({Verb::backward_input, p, {}});
    weights_.push_back(p);
  }
  void backward_weight() {
    FOURMI_CHECK(next_weight_ < weights_.size(), "no weight half is left");
    list_.push_back({Verb::backward_weight, weights_[next_weight_++], {}});
  }
  void pair(int forward, int backward) {
    const Pass f = next_forward(forward);
    list_.push_back({Verb::pair, f, next_backward(backward)});
  }

 private:
  Pass next_forward(int f) { return {flows_[f].chunk, flows_[f].first + flows_[f].forwards++}; }
  Pass next_backward(int f) { return {flows_[f].chunk, flows_[f].first + flows_[f].backwards++}; }

  std::vector<Action>& list_;
  Flow flows_[2];
  std::vector<Pass> weights_;
  std::size_t next_weight_ = 0;
};

/// `outer`: how many ranks are nearer to the middle; `inner`: how many are not, on this side (both sides of DualPipe's
/// middle, or the V). `main`: iterations of the phase in which everything is paired. `apart`: the first pair is done
/// one after the other, because the backward waits for nothing else than this forward's neighbour (a smaller bubble).
void write(Writer& w, int outer, int inner, int main, bool apart) {
  for (int i = 0; i < 2 * outer; ++i) w.forward(0);
  for (int i = 0; i < inner; ++i) w.forward(0), w.forward(1);
  for (int i = 0; i < outer; ++i) w.backward_input(1), w.backward_weight(), w.forward(1);
  for (int i = 0; i < main; ++i) {
    if (i == 0 && apart)
      w.forward(0), w.backward(1);
    else
      w.pair(0, 1);
    w.pair(1, 0);
  }
  for (int i = 0; i < outer; ++i) w.backward(1), w.pair(1, 0);
  // From the middle of this phase on only the half that others wait for.
  bool halves = false;
  for (int i = 0; i < inner; ++i) {
    if (i == inner / 2 && inner % 2 == 0) halves = true;
    halves ? w.backward_input(1) : w.backward(1);
    if (i == inner / 2 && inner % 2 == 1) halves = true;
    halves ? w.backward_input(0) : w.backward(0);
  }
  for (int i = 0; i < outer; ++i) w.backward_weight(), w.backward_input(0);
  for (int i = 0; i < inner; ++i) w.backward_weight();
}

}  // namespace

Schedule dual_pipe(int num_ranks, int num_micro_batches) {
  std::vector<StagePlace> there = straight(num_ranks), back;
  for (int r = num_ranks - 1; r >= 0; --r) back.push_back({r, 1});
  Schedule s = empty("dualpipe", num_ranks, 2, num_micro_batches, {there, back});
  const int half = num_ranks / 2, of_each = num_micro_batches / 2;
  for (int r = 0; r < num_ranks; ++r) {
    const int from_end = std::min(r, num_ranks - 1 - r);
    const Writer::Flow forth{0, 0}, other{1, of_each};
    Writer w(s.actions[static_cast<std::size_t>(r)], r < half ? forth : other, r < half ? other : forth);
    write(w, half - from_end - 1, from_end + 1, of_each - num_ranks + from_end + 1, from_end == half - 1);
  }
  return s;
}

Schedule dual_pipe_v(int num_ranks, int num_micro_batches) {
  Schedule s = empty("dualpipev", num_ranks, 2, num_micro_batches, {v_shape(num_ranks)});
  for (int r = 0; r < num_ranks; ++r) {
    Writer w(s.actions[static_cast<std::size_t>(r)], {0, 0}, {1, 0});
    write(w, num_ranks - r - 1, r + 1, num_micro_batches - 2 * num_ranks + r + 1, r == num_ranks - 1);
  }
  return s;
}

}  // namespace fourmi::schedules
