// The keys of guard.
#include <gtest/gtest.h>

#include "framework/recipe/compare.h"
#include "framework/recipe/read.h"
#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using testing::small_recipe;

TEST(GuardKeys, ReadWriteAndDefaults) {
  const Recipe plain = parse_recipe(small_recipe());
  EXPECT_EQ(plain.guard.non_finite, GuardAction::stop);
  EXPECT_EQ(plain.guard.spike_action, GuardAction::none);
  EXPECT_EQ(plain.guard.spike_z, 8);
  EXPECT_EQ(plain.guard.spike_window, 200);
  EXPECT_EQ(plain.guard.hang_seconds, 600);
  EXPECT_EQ(plain.guard.max_rollbacks, 3);
  EXPECT_FALSE(plain.guard.check_calls);
  const Recipe given = parse_recipe(small_recipe() +
                                    "guard: {non_finite: rollback, spike: {action: skip, z: 6.5, window: 64}, hang: "
                                    "5m, max_rollbacks: 0, check_calls: true}\n");
  EXPECT_EQ(given.guard.non_finite, GuardAction::rollback);
  EXPECT_EQ(given.guard.spike_action, GuardAction::skip);
  EXPECT_EQ(given.guard.spike_z, 6.5);
  EXPECT_EQ(given.guard.spike_window, 64);
  EXPECT_EQ(given.guard.hang_seconds, 300);
  EXPECT_EQ(given.guard.max_rollbacks, 0);
  EXPECT_TRUE(given.guard.check_calls);
  const Recipe off = parse_recipe(small_recipe(), "recipe", {"guard.hang=0s"});
  EXPECT_EQ(off.guard.hang_seconds, 0);
  for (const Recipe& r : {plain, given, off}) EXPECT_EQ(parse_recipe(to_yaml(r)).guard, r.guard) << to_yaml(r);
}

TEST(GuardKeys, MayDifferBetweenLaunches) {
  const Recipe before = parse_recipe(small_recipe());
  const Recipe after =
      parse_recipe(small_recipe() +
                   "guard: {non_finite: skip, spike: {action: stop, z: 5, window: 50}, hang: 1m, max_rollbacks: 9}\n");
  const std::vector<ChangedKey> changes = compare(before, after);
  EXPECT_EQ(changes.size(), 6u);
  for (const ChangedKey& c : changes) EXPECT_EQ(c.key_class, recipe::KeyClass::free) << c.key;
}

TEST(GuardKeys, WrongValuesAreRefused) {
  for (const char* wrong :
       {"non_finite: none", "non_finite: ignore", "spike: {action: warn}", "spike: {z: 1}", "spike: {window: 3}",
        "spike: skip", "hang: 0", "hang: -1m", "hang: 5", "max_rollbacks: -1", "rollbacks: 3"})
    EXPECT_ANY_THROW(parse_recipe(small_recipe() + "guard: {" + wrong + "}\n")) << wrong;
  EXPECT_ANY_THROW(parse_recipe(small_recipe(), "recipe", {"run.time=0s"}))
      << "zero is a duration only where it has a meaning";
}

}  // namespace
}  // namespace fourmi
