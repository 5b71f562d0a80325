#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "kernels/runtime/error.h"
#include "parallel/schedule/program.h"

namespace fourmi {
namespace {

std::string text_of(const Message& m) {
  return fmt::format("the {} of stage {}, micro-batch {}", m.gradient ? "gradient" : "output", m.stage, m.micro_batch);
}

using Key = std::tuple<int, int, int, int, bool>;
Key key_of(const Message& m) {
  return {m.from, m.to, m.stage, m.micro_batch, m.gradient};
}

/// What has been started; a message's two ends have to name the same ranks.
struct Ends {
  std::set<Key> sent, posted;
  struct InOrder {
    std::vector<Message> sent, posted;
  };
  std::map<std::pair<int, int>, InOrder> channels;  // from, to
};

bool is_done(const Instruction& i, const Ends& ends) {
  const Key key = key_of(i.message);
  const bool meets = ends.sent.contains(key) && ends.posted.contains(key);
  return (i.kind != Instruction::Kind::finish_receive && i.kind != Instruction::Kind::finish_send) || meets;
}

void start(const Schedule& s, int rank, const Instruction& i, Ends& ends) {
  const Message& m = i.message;
  if (i.kind == Instruction::Kind::start_send)
    FOURMI_CHECK(m.from == rank && ends.sent.insert(key_of(m)).second, "{}: rank {} sends {} of rank {}, or twice",
                 s.name, rank, text_of(m), m.from);
  if (i.kind == Instruction::Kind::start_receive)
    FOURMI_CHECK(m.to == rank && ends.posted.insert(key_of(m)).second,
                 "{}: rank {} receives {} that is meant for rank {}, or twice", s.name, rank, text_of(m), m.to);
  auto& [sent, posted] = ends.channels[{m.from, m.to}];
  if (i.kind == Instruction::Kind::start_send) sent.push_back(m);
  if (i.kind == Instruction::Kind::start_receive) posted.push_back(m);
}

void check_channels(const Schedule& s, const Ends& ends) {
  for (const auto& [ranks, of] : ends.channels) {
    const auto at = std::mismatch(of.sent.begin(), of.sent.end(), of.posted.begin(), of.posted.end());
    if (at.first == of.sent.end() || at.second == of.posted.end()) continue;
    FOURMI_CHECK(false, "{}: rank {} sends {} where rank {} receives {}", s.name, ranks.first, text_of(*at.first),
                 ranks.second, text_of(*at.second));
  }
}

}  // namespace

std::string to_string(const Instruction& i, int num_chunks) {
  switch (i.kind) {
    case Instruction::Kind::start_receive:
      return fmt::format("post a receive of {}, from rank {}", text_of(i.message), i.message.from);
    case Instruction::Kind::finish_receive:
      return fmt::format("wait for {}, from rank {}", text_of(i.message), i.message.from);
    case Instruction::Kind::start_send:
      return fmt::format("send {} to rank {}", text_of(i.message), i.message.to);
    case Instruction::Kind::finish_send:
      return fmt::format("wait until rank {} takes {}", i.message.to, text_of(i.message));
    case Instruction::Kind::act:
      break;
  }
  return to_string(Action{i.verb, i.pass, {}}, num_chunks);
}

int tag_of(const Message& m, int num_stages) {
  return 2 * (m.micro_batch * num_stages + m.stage) + m.gradient;
}

void prove_order(const Schedule& s, const std::vector<Program>& programs) {
  FOURMI_CHECK(std::ssize(programs) == s.num_ranks, "{} programs of {} ranks", programs.size(), s.num_ranks);
  Ends ends;
  std::vector<std::size_t> next(programs.size(), 0);
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t r = 0; r < programs.size(); ++r) {
      const auto& list = programs[r].instructions;
      for (; next[r] < list.size() && is_done(list[next[r]], ends); ++next[r]) {
        start(s, static_cast<int>(r), list[next[r]], ends);
        moved = true;
      }
    }
  }
  std::string waiting;
  for (std::size_t r = 0; r < programs.size(); ++r) {
    const auto& list = programs[r].instructions;
    if (next[r] == list.size()) continue;
    waiting += fmt::format("; rank {}: {}", r, to_string(list[next[r]], s.num_chunks));
    std::string then;
    for (std::size_t i = next[r] + 1; i < std::min(list.size(), next[r] + 4); ++i)
      then += (then.empty() ? ", then " : ", ") + to_string(list[i], s.num_chunks);
    waiting += then;
  }
  FOURMI_CHECK(waiting.empty(), "{} of {} ranks and {} micro-batches: ranks wait for one another{}", s.name,
               s.num_ranks, s.num_micro_batches, waiting);
  FOURMI_CHECK(ends.sent == ends.posted, "{}: {} messages are sent, {} received, expected the same", s.name,
               ends.sent.size(), ends.posted.size());
  check_channels(s, ends);
}

}  // namespace fourmi
