// The order of calls: proven over all ranks before they run, and held against what a rank calls.
#include <gtest/gtest.h>

#include <array>

#include "kernels/runtime/error.h"
#include "parallel/groups.h"
#include "parallel/order/order_check.h"
#include "parallel/order/prove_step.h"
#include "tests/parallel/member_threads.h"

namespace fourmi {
namespace {

/// 2 stages of 2 tensor ranks: 0 1 and 2 3; along the pipeline 0 2 and 1 3.
const MeshSizes four{.ranks = 4, .pipeline = 2, .tensor = 2};

std::vector<StepOrder> orders_of(const OrderGroups& groups) {
  std::vector<StepOrder> orders;
  for (int r = 0; r < groups.num_ranks(); ++r) orders.emplace_back(groups, r);
  return orders;
}

void prove(const OrderGroups& groups, const std::vector<StepOrder>& orders) {
  prove_step(groups, [&](int rank) -> const StepOrder& { return orders[static_cast<std::size_t>(rank)]; });
}

/// What the error says; empty: there is none.
template <class Do>
std::string refusal(const Do& what) {
  try {
    what();
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::bug);
    return e.what();
  }
  return "";
}

void expect_says(const std::string& text, std::initializer_list<const char*> parts) {
  for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
}

TEST(OrderGroups, AreThoseThatARankWorksIn) {
  const std::vector<int> embedding{0, 1};
  for (const MeshSizes& sizes :
       {four, MeshSizes{.ranks = 8, .pipeline = 2, .context = 2, .tensor = 2, .expert = 2, .expert_tensor = 2},
        MeshSizes{.ranks = 8, .pipeline = 2, .expert = 4}, MeshSizes{.ranks = 2, .tensor = 2}, MeshSizes{.ranks = 1}}) {
    const Mesh mesh(sizes);
    const std::span<const int> stages = sizes.pipeline > 1 ? std::span<const int>(embedding) : std::span<const int>();
    const OrderGroups groups(mesh, stages, 0);
    run_members(mesh.ranks(), [&](Group& world) {
      const RankGroups mine(world, sizes, stages);
      const int rank = world.rank();
      const auto expect_same = [&](GroupKind kind, const Group& group) {
        EXPECT_EQ(groups.size(rank, kind), group.size()) << name_of(kind);
        EXPECT_EQ(groups.place(rank, kind), group.rank()) << name_of(kind);
        EXPECT_EQ(&group == &world ? name_of(GroupKind::world) : group.name(), name_of(groups.kind_of(rank, kind)));
        EXPECT_EQ(&group == &world, groups.kind_of(rank, kind) == GroupKind::world) << name_of(kind);
      };
      expect_same(GroupKind::world, world);
      expect_same(GroupKind::pipeline, mine.pipeline());
      expect_same(GroupKind::tensor, mine.tensor());
      expect_same(GroupKind::context, mine.context());
      expect_same(GroupKind::expert, mine.expert());
      expect_same(GroupKind::expert_tensor, mine.expert_tensor());
      expect_same(GroupKind::stage, mine.holders(Copies::every_rank));
      expect_same(GroupKind::data_context, mine.holders(Copies::tensor_peers));
      expect_same(GroupKind::expert_data, mine.holders(Copies::expert_peers));
      if (!stages.empty()) expect_same(GroupKind::embedding, mine.embedding());
      return 0;
    });
  }
}

TEST(OrderGroups, OfNodesHaveTheDispatchersRanks) {
  const OrderGroups groups(Mesh({.ranks = 8, .expert = 8}), {}, 2);
  EXPECT_EQ(groups.members(groups.group_of(5, GroupKind::expert_inside)), (std::vector{4, 5}));
  EXPECT_EQ(groups.members(groups.group_of(5, GroupKind::expert_across)), (std::vector{1, 3, 5, 7}));
}

TEST(ProveStep, AcceptsWhatEnds) {
  const OrderGroups groups(Mesh(four), {}, 0);
  std::vector<StepOrder> orders = orders_of(groups);
  for (StepOrder& o : orders) {
    const bool first = o.place(GroupKind::pipeline) == 0;
    o.call(GroupKind::tensor, Call::all_gather, 8);
    // Each sends before it waits for what the other sends.
    const StepOrder::Peer other{GroupKind::pipeline, first ? 1 : 0, first ? 1 : 0},
        own{GroupKind::pipeline, first ? 1 : 0, first ? 0 : 1};
    o.receive(other), o.send(own, 8);
    o.wait_receive(other), o.wait_send(own);
    o.repeated([&] { o.call(GroupKind::tensor, Call::all_to_all, StepOrder::routed); });
    o.maybe([&] { o.call(GroupKind::world, Call::all_sum, 8); });
  }
  prove(groups, orders);
}

TEST(ProveStep, NamesACallThatOthersDoNotMake) {
  const OrderGroups groups(Mesh(four), {}, 0);
  std::vector<StepOrder> orders = orders_of(groups);
  for (StepOrder& o : orders) o.call(GroupKind::tensor, o.rank() == 3 ? Call::all_to_all : Call::all_gather, 8);
  expect_says(refusal([&] { prove(groups, orders); }),
              {"call 1 of tensor (ranks 2, 3)", "all_gather on rank 2", "all_to_all on rank 3"});
  // One rank skips a call.
  orders = orders_of(groups);
  for (StepOrder& o : orders)
    for (int i = 0; i < (o.rank() == 1 ? 1 : 2); ++i) o.call(GroupKind::tensor, Call::all_gather, 8);
  expect_says(refusal([&] { prove(groups, orders); }),
              {"1 of 4 ranks wait", "rank 0", "all_gather of tensor (ranks 0, 1)"});
}

TEST(ProveStep, NamesRanksThatWaitInACircle) {
  const OrderGroups groups(Mesh(four), {}, 0);
  std::vector<StepOrder> orders = orders_of(groups);
  // Two groups, in one order on some ranks and in the other on others: no group alone shows it.
  for (StepOrder& o : orders) {
    const bool turned = o.rank() == 0 || o.rank() == 3;
    o.call(turned ? GroupKind::tensor : GroupKind::pipeline, Call::all_gather, 8);
    o.call(turned ? GroupKind::pipeline : GroupKind::tensor, Call::all_gather, 8);
  }
  expect_says(refusal([&] { prove(groups, orders); }),
              {"4 of 4 ranks wait for one another", "rank 0 (call 1 of 2): all_gather of tensor (ranks 0, 1), then",
               "rank 2 (call 1 of 2): all_gather of pipeline (ranks 0, 2)"});
  // A message that is waited for before a collective which its sender waits in.
  orders = orders_of(groups);
  for (StepOrder& o : orders) {
    const bool first = o.place(GroupKind::pipeline) == 0;
    const StepOrder::Peer peer{GroupKind::pipeline, first ? 1 : 0, 5};
    if (first) {
      o.call(GroupKind::world, Call::barrier, 0);
      o.send(peer, 8), o.wait_send(peer);
    } else {
      o.receive(peer), o.wait_receive(peer);
      o.call(GroupKind::world, Call::barrier, 0);
    }
  }
  expect_says(refusal([&] { prove(groups, orders); }),
              {"wait for the receive from rank 0 with tag 5 of pipeline (ranks 0, 2)", "barrier of world"});
}

TEST(ProveStep, NamesAMessageThatNobodyTakes) {
  const OrderGroups groups(Mesh(four), {}, 0);
  std::vector<StepOrder> orders = orders_of(groups);
  orders[0].send({GroupKind::tensor, 1, 7, true}, 8);
  expect_says(refusal([&] { prove(groups, orders); }), {"1 messages from rank 0 to rank 1", "tag 7, 0 receives"});
  orders[1].receive({GroupKind::tensor, -1, 7, true});
  prove(groups, orders);
}

TEST(ProveStep, TakesTheSecondWayOfChoicesToo) {
  const OrderGroups groups(Mesh({.ranks = 2, .tensor = 2}), {}, 0);
  std::vector<StepOrder> orders = orders_of(groups);
  for (StepOrder& o : orders)
    o.maybe_not([&] { o.call(GroupKind::tensor, o.rank() == 0 ? Call::all_gather : Call::all_to_all, 8); });
  expect_says(refusal([&] { prove(groups, orders); }), {"all_gather on rank 0", "all_to_all on rank 1"});
}

/// A rank of two makes the calls of `step` while they are held against `order`; the other one makes none and is not
/// waited for.
std::string refusal_of(const std::function<void(StepOrder&)>& order, const std::function<void(Group&)>& step) {
  const OrderGroups groups(Mesh({.ranks = 2, .tensor = 2}), {}, 0);
  std::vector<std::unique_ptr<Group>> world = make_thread_groups("threads", 2);
  OrderCheck check(groups, *world[0]);
  StepOrder expected(groups, 0);
  order(expected);
  std::vector<StepOrder> all{expected};
  check.begin_step(all[0]);
  return refusal([&] {
    step(*world[0]);
    check.end_step();
  });
}

Request gather(Group& group, std::size_t bytes) {
  static std::array<std::byte, 64> from{}, to{};
  return group.start_all_gather(std::span(from).first(bytes), std::span(to).first(2 * bytes));
}
/// The other one never comes.
void gather_in_vain(Group& group, std::size_t bytes) {
  try {
    Request request = gather(group, bytes);
    group.cancel("nobody waits");
    request.wait();
  } catch (const Error& e) {
    if (e.status() != ExitStatus::rank_lost) throw;
  }
}

TEST(OrderCheck, LetsPassWhatTheOrderSays) {
  const auto order = [](StepOrder& o) {
    o.call(GroupKind::tensor, Call::all_gather, 4);
    o.repeated([&] { o.call(GroupKind::world, Call::all_gather, StepOrder::routed); });
    o.maybe([&] { o.call(GroupKind::world, Call::all_gather, 8); });
  };
  // A group of all ranks is the world, whatever the order calls it.
  EXPECT_EQ(refusal_of(order,
                       [](Group& g) {
                         for (std::size_t bytes : {4, 9, 7}) gather_in_vain(g, bytes);
                       }),
            "");
  EXPECT_EQ(refusal_of(order,
                       [](Group& g) {
                         for (std::size_t bytes : {4, 9, 8}) gather_in_vain(g, bytes);
                       }),
            "");
}

TEST(OrderCheck, NamesAnotherCallWithBothPrograms) {
  const auto order = [](StepOrder& o) {
    o.call(GroupKind::tensor, Call::all_gather, 4);
    o.call(GroupKind::tensor, Call::all_sum, 8);
    o.call(GroupKind::tensor, Call::barrier, 0);
  };
  expect_says(refusal_of(order,
                         [](Group& g) {
                           gather_in_vain(g, 4);
                           g.barrier();
                         }),
              {"rank 0, call 2 of the step", "found barrier of world (ranks 0, 1)",
               "expected all_sum of world (ranks 0, 1), then barrier", "done before: all_gather of world"});
}

TEST(OrderCheck, NamesOtherBytesAndWhatIsMissing) {
  const auto order = [](StepOrder& o) {
    for (int i = 0; i < 2; ++i) o.call(GroupKind::tensor, Call::all_gather, 4);
  };
  expect_says(refusal_of(order, [](Group& g) { gather_in_vain(g, 5), gather_in_vain(g, 4); }),
              {"call 1 sent 5 bytes, expected 4"});
  expect_says(refusal_of(order, [](Group& g) { gather_in_vain(g, 4); }),
              {"found the end of the step", "expected all_gather of world"});
  expect_says(refusal_of(order,
                         [](Group& g) {
                           for (int i = 0; i < 3; ++i) gather_in_vain(g, 4);
                         }),
              {"found all_gather", "expected the end of the step"});
}

}  // namespace
}  // namespace fourmi
