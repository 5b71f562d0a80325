#include "kernels/exchange/size_on_card.h"

#include <gtest/gtest.h>

#include "kernels/runtime/error.h"

namespace fourmi::exchange {
namespace {

TEST(SizeOnCard, IsWhatKeepsTheLinkBusy) {
  // 450 GB/s and an eighth of the rows beside them, by 8 warps with 4 KiB each in flight for a microsecond: 15.7, and a
  // quarter more.
  const SizeOnCard size = size_on_card(8, {});
  EXPECT_EQ(size.num_multiprocessors, 20);
  EXPECT_EQ(size.num_channels, 20);  // a sender and a receiver for each of 8 ranks: 16 warps
}

TEST(SizeOnCard, GrowsWithTheLinkAndWithLatency) {
  int before = 0;
  for (const double link : {50e9, 160e9, 300e9, 450e9}) {
    const int now = size_on_card(8, {.link_bytes_per_second = link}).num_multiprocessors;
    EXPECT_GT(now, before);
    EXPECT_EQ(now % 2, 0);
    before = now;
  }
  EXPECT_GT(size_on_card(8, {.latency_seconds = 1.5e-6}).num_multiprocessors, before);
}

TEST(SizeOnCard, LeavesThreeQuartersOfTheCard) {
  EXPECT_EQ(size_on_card(2, {}).num_multiprocessors, 32);
  EXPECT_EQ(size_on_card(8, {.num_multiprocessors = 4}).num_multiprocessors, 4);
  EXPECT_EQ(size_on_card(8, {.link_bytes_per_second = 1e9}).num_multiprocessors, 4);
}

TEST(SizeOnCard, TakesWhatARecipeSays) {
  EXPECT_EQ(size_on_card(8, {}, 6).num_multiprocessors, 6);
  EXPECT_EQ(size_on_card(8, {}, 6).num_channels, 6);
  EXPECT_EQ(size_on_card(4, {}, 6).num_channels, 12);
  EXPECT_EQ(size_on_card(16, {}, 1).num_channels, 1);
  EXPECT_THROW(size_on_card(0, {}), Error);
}

}  // namespace
}  // namespace fourmi::exchange
