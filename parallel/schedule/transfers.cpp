#include "parallel/schedule/transfers.h"

#include <map>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

int stage_of(const std::vector<StagePlace>& route, int rank, int chunk) {
  for (std::size_t s = 0; s < route.size(); ++s)
    if (route[s] == StagePlace{rank, chunk}) return static_cast<int>(s);
  FOURMI_CHECK(false, "rank {} has no chunk {} on this route", rank, chunk);
  return 0;
}

using Channel = std::vector<Message>;  // as sent

}  // namespace

Needs needs_of(const Schedule& s, int rank, const Action& action) {
  Needs needs;
  const auto forward = [&](Pass p) {
    const auto& route = s.routes[static_cast<std::size_t>(s.route_of(p.micro_batch))];
    const int stage = stage_of(route, rank, p.chunk);
    const auto at = [&](int i) { return route[static_cast<std::size_t>(i)].rank; };
    if (stage > 0) needs.inputs.push_back({at(stage - 1), rank, stage - 1, p.micro_batch, false});
    if (stage + 1 < s.num_stages()) needs.outputs.push_back({rank, at(stage + 1), stage, p.micro_batch, false});
  };
  const auto backward = [&](Pass p) {
    const auto& route = s.routes[static_cast<std::size_t>(s.route_of(p.micro_batch))];
    const int stage = stage_of(route, rank, p.chunk);
    const auto at = [&](int i) { return route[static_cast<std::size_t>(i)].rank; };
    if (stage + 1 < s.num_stages()) needs.inputs.push_back({at(stage + 1), rank, stage, p.micro_batch, true});
    if (stage > 0) needs.outputs.push_back({rank, at(stage - 1), stage - 1, p.micro_batch, true});
  };
  switch (action.verb) {
    case Verb::forward:
      forward(action.pass);
      break;
    case Verb::backward:
    case Verb::backward_input:
      backward(action.pass);
      break;
    case Verb::backward_weight:
      break;
    case Verb::pair:
      forward(action.pass);
      backward(action.behind);
      break;
  }
  return needs;
}

std::vector<std::vector<Step>> with_transfers(const Schedule& s) {
  std::map<std::pair<int, int>, Channel> channels;
  for (int r = 0; r < s.num_ranks; ++r)
    for (const Action& a : s.actions[static_cast<std::size_t>(r)])
      for (const Message& m : needs_of(s, r, a).outputs)
        if (m.to != r) channels[{r, m.to}].push_back(m);

  std::vector<std::vector<Step>> lists(static_cast<std::size_t>(s.num_ranks));
  for (int r = 0; r < s.num_ranks; ++r) {
    auto& list = lists[static_cast<std::size_t>(r)];
    std::map<int, std::size_t> received;  // by sender
    std::vector<Message> kept;            // what stays on this rank and was not taken yet
    for (const Action& a : s.actions[static_cast<std::size_t>(r)]) {
      const Needs needs = needs_of(s, r, a);
      for (const Message& m : needs.inputs) {
        if (m.from == r) {
          FOURMI_CHECK(std::erase(kept, m) == 1, "{}: rank {} does {} before what it takes", s.name, r,
                       to_string(a, s.num_chunks));
          continue;
        }
        const Channel& channel = channels[{m.from, r}];
        std::size_t& next = received[m.from];
        std::size_t position = 0;
        while (position < channel.size() && !(channel[position] == m)) ++position;
        FOURMI_CHECK(position < channel.size(), "{}: rank {} waits for what rank {} never sends", s.name, r, m.from);
        while (next <= position) list.push_back({Step::Kind::receive, {}, channel[next++]});
      }
      list.push_back({Step::Kind::act, a, {}});
      for (const Message& m : needs.outputs) m.to == r ? kept.push_back(m) : list.push_back({Step::Kind::send, {}, m});
    }
  }
  return lists;
}

}  // namespace fourmi
