#include "parallel/schedule/program.h"

#include <algorithm>
#include <deque>
#include <map>
#include <tuple>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

/// Places that are taken and given back; the least free one is taken next.
class Places {
 public:
  int take() {
    const auto free = std::find(taken_.begin(), taken_.end(), false);
    const int at = static_cast<int>(free - taken_.begin());
    if (free == taken_.end())
      taken_.push_back(true);
    else
      *free = true;
    return at;
  }
  void give(int at) { taken_[static_cast<std::size_t>(at)] = false; }
  int count() const { return static_cast<int>(taken_.size()); }

 private:
  std::vector<bool> taken_;
};

using Key = std::tuple<int, int, bool>;  // stage, micro-batch, gradient
Key key_of(const Message& m) {
  return {m.stage, m.micro_batch, m.gradient};
}

/// A pair as its forward and its backward.
std::vector<Action> single_actions(const std::vector<Action>& list) {
  std::vector<Action> single;
  for (const Action& a : list) {
    if (a.verb != Verb::pair) {
      single.push_back(a);
      continue;
    }
    single.push_back({Verb::forward, a.pass, {}});
    single.push_back({Verb::backward, a.behind, {}});
  }
  return single;
}

class Writer {
 public:
  Writer(const Schedule& s, int rank, int most_sends, Pairs pairs)
      : s_(s),
        rank_(rank),
        most_sends_(static_cast<std::size_t>(most_sends)),
        actions_(pairs == Pairs::together ? s.actions[static_cast<std::size_t>(rank)]
                                          : single_actions(s.actions[static_cast<std::size_t>(rank)])),
        slots_(static_cast<std::size_t>(s.num_chunks)),
        kept_(slots_) {
    for (const Action& a : single_actions(actions_)) ++uses_[a.pass.micro_batch];
    for (int from = 0; from < s.num_ranks; ++from)
      for (const Action& a : s.actions[static_cast<std::size_t>(from)])
        for (const Message& m : needs_of(s, from, a).outputs)
          if (m.to == rank && from != rank) sent_[from].push_back(m);
  }

  Program write() {
    for (std::size_t i = 0; i < actions_.size(); ++i) {
      post(i);
      if (i + 1 < actions_.size()) post(i + 1);
      act(single_actions({actions_[i]}));
    }
    while (!sends_.empty()) finish_oldest(sends_.begin()->first);
    FOURMI_CHECK(at_border_.empty() && open_.empty(), "{}: rank {} leaves something at its border", s_.name, rank_);
    for (const Places& p : slots_) program_.num_slots.push_back(p.count());
    for (const Places& p : kept_) program_.num_kept.push_back(p.count());
    program_.num_borders = borders_.count();
    program_.num_requests = requests_.count();
    program_.num_rows = rows_.count();
    program_.num_micro_batches = s_.num_micro_batches;
    return std::move(program_);
  }

 private:
  struct Open {  // a chunk's micro-batch between forward and its last use
    int slot = -1, kept = -1, input = -1, gradient = -1;
  };
  struct Travelling {
    Message message;
    int border, request;
  };
  using Channel = std::pair<int, bool>;  // to whom, gradients

  Instruction& add(Instruction::Kind kind) {
    program_.instructions.push_back({.kind = kind});
    return program_.instructions.back();
  }
  Instruction& add(Instruction::Kind kind, const Message& m, int border, int request) {
    Instruction& i = add(kind);
    i.message = m, i.border = border, i.request = request;
    return i;
  }

  /// What the action waits for, if that was not done yet, behind all that its sender sends before.
  void post(std::size_t index) {
    for (const Message& wanted : needs_of(s_, rank_, actions_[index]).inputs) {
      if (wanted.from == rank_ || at_border_.contains(key_of(wanted))) continue;
      const std::vector<Message>& sent = sent_.at(wanted.from);
      for (std::size_t& next = posted_[wanted.from];;) {
        FOURMI_CHECK(next < sent.size(), "{}: rank {} waits for what rank {} never sends", s_.name, rank_, wanted.from);
        const Message& m = sent[next++];
        const int border = borders_.take(), request = requests_.take();
        at_border_[key_of(m)] = border;
        receiving_[key_of(m)] = request;
        add(Instruction::Kind::start_receive, m, border, request);
        if (m == wanted) break;
      }
    }
  }

  /// The border tensor of a message that the action takes.
  int take_in(const Message& m) {
    const auto found = at_border_.find(key_of(m));
    FOURMI_CHECK(found != at_border_.end(), "{}: rank {} takes the {} of stage {}, micro-batch {}, before it is made",
                 s_.name, rank_, m.gradient ? "gradient" : "output", m.stage, m.micro_batch);
    const int border = found->second;
    at_border_.erase(found);
    if (const auto r = receiving_.find(key_of(m)); r != receiving_.end()) {
      add(Instruction::Kind::finish_receive, m, border, r->second);
      requests_.give(r->second);
      receiving_.erase(r);
    }
    return border;
  }

  void finish_oldest(Channel channel) {
    std::deque<Travelling>& queue = sends_[channel];
    const Travelling t = queue.front();
    queue.pop_front();
    if (queue.empty()) sends_.erase(channel);
    add(Instruction::Kind::finish_send, t.message, t.border, t.request);
    borders_.give(t.border);
    requests_.give(t.request);
  }

  /// A tensor for what the action makes; what leaves the rank does not wait for more than `most_sends` others.
  int take_out(const Message& m) {
    const Channel channel{m.to, m.gradient};
    if (m.to != rank_ && sends_.contains(channel) && sends_[channel].size() == most_sends_) finish_oldest(channel);
    return borders_.take();
  }
  void give_out(const Message& m, int border) {
    if (m.to == rank_) {
      at_border_[key_of(m)] = border;
      return;
    }
    const int request = requests_.take();
    add(Instruction::Kind::start_send, m, border, request);
    sends_[{m.to, m.gradient}].push_back({m, border, request});
  }

  /// An action, or both of a pair: all that they wait for, then they themselves, then what they make.
  void act(const std::vector<Action>& actions) {
    std::vector<Taken> all;
    for (const Action& a : actions) all.push_back(take(a));
    for (std::size_t i = 0; i < actions.size(); ++i) {
      program_.instructions.push_back(all[i].instruction);
      program_.instructions.back().together = i + 1 < actions.size();
    }
    for (std::size_t i = 0; i < actions.size(); ++i) give(actions[i], all[i]);
  }

  struct Taken {
    Needs needs;
    Instruction instruction;
  };

  Taken take(const Action& a) {
    const auto chunk = static_cast<std::size_t>(a.pass.chunk);
    Taken t{needs_of(s_, rank_, a), {}};
    const int in = t.needs.inputs.empty() ? -1 : take_in(t.needs.inputs[0]);
    const int out = t.needs.outputs.empty() ? -1 : take_out(t.needs.outputs[0]);
    Open& open = open_[std::pair(a.pass.chunk, a.pass.micro_batch)];
    if (a.verb == Verb::forward) open = {.slot = slots_[chunk].take(), .input = in};
    if (a.verb == Verb::backward_input) open.kept = kept_[chunk].take(), open.gradient = in;
    const auto rows = rows_of_.try_emplace(a.pass.micro_batch, -1).first;
    if (rows->second < 0) rows->second = rows_.take();

    Instruction& i = t.instruction;
    i.verb = a.verb, i.pass = a.pass;
    i.slot = open.slot, i.kept = open.kept, i.rows = rows->second;
    i.in = a.verb == Verb::backward_weight ? open.gradient : in, i.out = out;
    if (a.verb != Verb::forward) i.input = open.input;
    return t;
  }

  void give(const Action& a, const Taken& t) {
    const Instruction& i = t.instruction;
    const auto chunk = static_cast<std::size_t>(a.pass.chunk);
    if (!t.needs.outputs.empty()) give_out(t.needs.outputs[0], i.out);
    if (a.verb == Verb::backward || a.verb == Verb::backward_weight) {
      for (int border : {i.input, i.in})
        if (border >= 0) borders_.give(border);
      slots_[chunk].give(i.slot);
      if (i.kept >= 0) kept_[chunk].give(i.kept);
      open_.erase(std::pair(a.pass.chunk, a.pass.micro_batch));
    }
    if (--uses_[a.pass.micro_batch] == 0) rows_.give(i.rows);
  }

  const Schedule& s_;
  int rank_;
  std::size_t most_sends_;
  std::vector<Action> actions_;
  std::vector<Places> slots_, kept_;
  Places borders_, requests_, rows_;
  std::map<std::pair<int, int>, Open> open_;
  std::map<Key, int> at_border_, receiving_;  // border of what was not taken yet; request of what was not waited for
  std::map<Channel, std::deque<Travelling>> sends_;
  std::map<int, int> rows_of_, uses_;         // by micro-batch
  std::map<int, std::vector<Message>> sent_;  // to this rank, by sender, in its order
  std::map<int, std::size_t> posted_;         // how many of them
  Program program_;
};

}  // namespace

std::vector<Program> make_programs(const Schedule& schedule, int most_sends, Pairs pairs) {
  std::vector<Program> programs;
  for (int r = 0; r < schedule.num_ranks; ++r) programs.push_back(Writer(schedule, r, most_sends, pairs).write());
  return programs;
}

std::vector<Program> make_proven_programs(const Schedule& schedule, Pairs pairs) {
  for (int most_sends = 2;; ++most_sends) {
    std::vector<Program> programs = make_programs(schedule, most_sends, pairs);
    try {
      prove_order(schedule, programs);
      return programs;
    } catch (const Error&) {
      // With as many as there are messages nobody ever waits for a send but at the end.
      if (most_sends > schedule.num_micro_batches * schedule.num_chunks) throw;
    }
  }
}

}  // namespace fourmi
