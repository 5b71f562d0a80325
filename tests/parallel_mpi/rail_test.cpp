// Nodes of processes: between them messages, inside a node a segment of shared memory.
#include <gtest/gtest.h>

#include "tests/dispatch/draw_layer.h"
#include "tests/dispatch/member.h"
#include "tests/parallel_mpi/world_of_test.h"

namespace fourmi {
namespace {

TEST(Mpi, RoutingsOverRailsAreThoseOfTheAllToAll) {
  Group& group = world_of_test()->group();
  const int P = group.size();
  if (P == 1) return;
  testing::Draw draw{mix64(12)};
  int several_rounds = 0;
  for (int i = 0; i < 12; ++i) {
    const testing::Layer l = testing::draw_layer(draw, P);
    testing::Way plain{DispatchMethod::all_to_all},
        rail{.method = DispatchMethod::rail, .node_size = i % 3 == 2 ? 1 : 2, .block = l.most_tokens()};
    rail.num_channels = static_cast<int>(1 + draw(4)), rail.num_slots = static_cast<int>(2 + draw(7));
    if (draw(2) == 0) {  // in rounds
      plain.block = rail.block = std::min(rail.block, 1 + draw(4));
      plain.max_rows = rail.max_rows = P * rail.block + draw(8);
    }
    SCOPED_TRACE(fmt::format("routing {}: {} experts, {} choices, nodes of {}, {} chunks, {} slots, bound {}", i, l.E,
                             l.K, rail.node_size, rail.num_channels, rail.num_slots, rail.max_rows));
    const auto expected = testing::through_dispatcher<float>(group, l, plain),
               got = testing::through_dispatcher<float>(group, l, rail);
    ASSERT_TRUE(got == expected);
    several_rounds += got.load.rounds > 1;
  }
  EXPECT_GT(several_rounds, 0);
}

}  // namespace
}  // namespace fourmi
