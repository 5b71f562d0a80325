// What ranks execute: each list's actions in their order, messages matched and free of circles, places used once at a
// time and not more of them than the schedule is known to need.
#include "parallel/schedule/program.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "kernels/runtime/error.h"
#include "parallel/schedule/simulate.h"

namespace fourmi {
namespace {

bool legal(std::string_view name, int ranks, int m) {
  if (name.starts_with("dualpipe")) return m >= 2 * ranks && name != "dualpipe";
  return name != "interleaved" || m % ranks == 0;
}

void for_all(const std::function<void(const Schedule&)>& body) {
  for (std::string_view name : schedule_names())
    for (int ranks : {1, 2, 3, 4, 8})
      for (int m : {1, 2, 3, ranks, 2 * ranks, 2 * ranks + 1, 4 * ranks})
        for (const bool paired : {false, true})
          if (legal(name, ranks, m) && (!paired || name == "interleaved")) {
            SCOPED_TRACE(fmt::format("{} of {} ranks, {} micro-batches, {}", name, ranks, m, paired));
            body(make_schedule(name, ranks, name == "interleaved" ? 2 : 1, m, paired));
          }
}

std::vector<Action> apart(const std::vector<Action>& list) {
  std::vector<Action> single;
  for (const Action& a : list)
    if (a.verb == Verb::pair) {
      single.push_back({Verb::forward, a.pass, {}});
      single.push_back({Verb::backward, a.behind, {}});
    } else {
      single.push_back(a);
    }
  return single;
}

TEST(Program, IsProvenForEverySchedule) {
  for_all([](const Schedule& s) {
    for (const Pairs pairs : {Pairs::in_turn, Pairs::together})
      EXPECT_NO_THROW(prove_order(s, make_proven_programs(s, pairs)));
  });
}

TEST(Program, IsProvenForAllSizesOfInterleavedPairs) {
  for (int ranks : {2, 3, 4, 5, 6, 7, 8})
    for (int chunks : {1, 2, 3, 4})
      for (int m : {ranks, 2 * ranks, 3 * ranks}) {
        SCOPED_TRACE(fmt::format("{} ranks, {} chunks, {} micro-batches", ranks, chunks, m));
        const Schedule s = make_schedule("interleaved", ranks, chunks, m, true);
        for (const Pairs pairs : {Pairs::in_turn, Pairs::together})
          EXPECT_NO_THROW(prove_order(s, make_proven_programs(s, pairs)));
      }
}

TEST(Program, DoesWhatTheListSays) {
  for_all([](const Schedule& s) {
    const std::vector<Program> programs = make_proven_programs(s);
    for (int r = 0; r < s.num_ranks; ++r) {
      std::vector<Action> done;
      for (const Instruction& i : programs[static_cast<std::size_t>(r)].instructions)
        if (i.kind == Instruction::Kind::act) done.push_back({i.verb, i.pass, {}});
      EXPECT_EQ(done, apart(s.actions[static_cast<std::size_t>(r)])) << "rank " << r;
    }
  });
}

// A pair that is done together is two actions next to each other, and everything that either waits for is behind it.
TEST(Program, HasPairsTogetherOrInTurn) {
  for_all([](const Schedule& s) {
    const std::vector<Program> programs = make_proven_programs(s, Pairs::together);
    for (int r = 0; r < s.num_ranks; ++r) {
      const std::vector<Instruction>& list = programs[static_cast<std::size_t>(r)].instructions;
      std::vector<Action> done;
      for (std::size_t i = 0; i < list.size(); ++i) {
        if (list[i].kind != Instruction::Kind::act) continue;
        if (!list[i].together) {
          done.push_back({list[i].verb, list[i].pass, {}});
          continue;
        }
        const Instruction& f = list[i++];
        ASSERT_LT(i, list.size());
        EXPECT_EQ(list[i].kind, Instruction::Kind::act);
        done.push_back({Verb::pair, f.pass, list[i].pass});
        for (const int border : {f.in, f.out})
          for (const int other : {list[i].in, list[i].out, list[i].input})
            EXPECT_TRUE(border < 0 || border != other) << "rank " << r;
      }
      EXPECT_EQ(done, s.actions[static_cast<std::size_t>(r)]) << "rank " << r;
    }
    for (const Program& p : make_proven_programs(s))
      for (const Instruction& i : p.instructions) EXPECT_FALSE(i.together);
  });
}

TEST(Program, NeedsAsManySlotsAsTheSimulatorCounts) {
  for_all([](const Schedule& s) {
    const Simulation sim = simulate(s);
    const std::vector<Program> programs = make_proven_programs(s);
    for (std::size_t r = 0; r < programs.size(); ++r) {
      int slots = 0;
      for (int n : programs[r].num_slots) slots += n;
      if (s.num_chunks == 1) {
        EXPECT_EQ(slots, sim.peak_activations[r]) << "rank " << r;
      } else {
        // Chunks have slots of their own, and their peaks need not come at once; a pair's forward comes first.
        EXPECT_GE(slots, sim.peak_activations[r] - 1) << "rank " << r;
        EXPECT_LE(slots, s.num_chunks * sim.peak_activations[r]) << "rank " << r;
      }
      for (int kept : programs[r].num_kept) {
        if (s.name.starts_with("zb")) {
          EXPECT_GT(kept, 0) << "rank " << r;
        } else if (s.name != "dualpipev") {
          EXPECT_EQ(kept, 0) << "rank " << r;
        }
      }
    }
  });
}

/// Who writes and reads each border tensor: nobody writes what somebody else still reads.
TEST(Program, NoPlaceIsTakenTwice) {
  for_all([](const Schedule& s) {
    for (const Program& p : make_proven_programs(s)) {
      std::map<std::pair<int, int>, std::pair<int, int>> slot_of;  // pass: chunk's slot, input border
      std::set<std::pair<int, int>> slots;
      std::set<int> being_received, being_sent, inputs, requests;
      for (const Instruction& i : p.instructions) {
        EXPECT_LT(i.border, p.num_borders);
        EXPECT_LT(i.request, p.num_requests);
        const auto pass = std::pair(i.pass.chunk, i.pass.micro_batch);
        switch (i.kind) {
          case Instruction::Kind::start_receive:
            EXPECT_TRUE(requests.insert(i.request).second);
            EXPECT_FALSE(being_sent.contains(i.border) || inputs.contains(i.border));
            EXPECT_TRUE(being_received.insert(i.border).second);
            break;
          case Instruction::Kind::finish_receive:
            requests.erase(i.request), being_received.erase(i.border);
            break;
          case Instruction::Kind::start_send:
            EXPECT_TRUE(requests.insert(i.request).second);
            EXPECT_TRUE(being_sent.insert(i.border).second);
            break;
          case Instruction::Kind::finish_send:
            requests.erase(i.request), being_sent.erase(i.border);
            break;
          case Instruction::Kind::act:
            if (i.out >= 0) {
              EXPECT_FALSE(being_sent.contains(i.out) || being_received.contains(i.out) || inputs.contains(i.out));
            }
            if (i.verb == Verb::forward) {
              EXPECT_TRUE(slots.insert({i.pass.chunk, i.slot}).second);
              slot_of[pass] = {i.slot, i.in};
              if (i.in >= 0) {
                EXPECT_TRUE(inputs.insert(i.in).second);
              }
            } else {
              EXPECT_EQ(slot_of[pass], std::pair(i.slot, i.input));
            }
            if (i.verb == Verb::backward || i.verb == Verb::backward_weight) {
              slots.erase({i.pass.chunk, i.slot});
              inputs.erase(i.input);
            }
            break;
        }
      }
      EXPECT_TRUE(slots.empty() && requests.empty());
    }
  });
}

std::string refusal(const Schedule& s, const std::vector<Program>& programs) {
  try {
    prove_order(s, programs);
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::bug);
    return e.what();
  }
  return "proven";
}

TEST(Program, ACircleIsNamedWithBothPrograms) {
  const Schedule s = make_schedule("1f1b", 2, 1, 2);
  std::vector<Program> programs = make_programs(s, 2);
  // Rank 0 waits for its gradient before it sends what the gradient comes from.
  auto& list = programs[0].instructions;
  const auto wait = std::find_if(list.begin(), list.end(),
                                 [](const Instruction& i) { return i.kind == Instruction::Kind::finish_receive; });
  std::rotate(list.begin() + 1, wait, wait + 1);
  const std::string said = refusal(s, programs);
  EXPECT_NE(said.find("rank 0: wait for the gradient of stage 0, micro-batch 0, from rank 1"), std::string::npos)
      << said;
  EXPECT_NE(said.find("rank 1: wait for the output of stage 0, micro-batch 0, from rank 0"), std::string::npos) << said;
}

// Between two GPUs nothing but their order tells messages apart.
TEST(Program, AnotherOrderOfReceivesIsRefused) {
  const Schedule s = make_schedule("gpipe", 2, 1, 2);
  std::vector<Program> programs = make_programs(s, 2);
  EXPECT_EQ(refusal(s, programs), "proven");
  auto& list = programs[1].instructions;  // both receives are posted before the first one is waited for
  std::swap(list[0], list[1]);
  EXPECT_NE(refusal(s, programs)
                .find("rank 0 sends the output of stage 0, micro-batch 0 where rank 1 receives the "
                      "output of stage 0, micro-batch 1"),
            std::string::npos)
      << refusal(s, programs);
}

TEST(Program, AMessageThatNobodyTakesIsRefused) {
  const Schedule s = make_schedule("gpipe", 2, 1, 2);
  for (Instruction::Kind kind : {Instruction::Kind::start_receive, Instruction::Kind::start_send}) {
    std::vector<Program> programs = make_programs(s, 2);
    auto& list = programs[kind == Instruction::Kind::start_send ? 0 : 1].instructions;
    list.erase(std::find_if(list.begin(), list.end(), [&](const Instruction& i) { return i.kind == kind; }));
    EXPECT_NE(refusal(s, programs), "proven");
  }
  std::vector<Program> programs = make_programs(s, 2);
  for (Instruction& i : programs[0].instructions)
    if (i.kind == Instruction::Kind::start_send) i.message.to = 0;
  EXPECT_NE(refusal(s, programs), "proven");
}

}  // namespace
}  // namespace fourmi
