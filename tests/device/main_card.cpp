// Tests of operations on this machine's card; without one they are skipped, and say why.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/device/mirror.h"

namespace {

class NeedsCard : public ::testing::Environment {
 public:
  void SetUp() override {
    std::string why;
    if (!fourmi::test::mirrored_device(&why)) GTEST_SKIP() << "no GPU: " << why;
  }
};

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  ::testing::AddGlobalTestEnvironment(new NeedsCard);
  return RUN_ALL_TESTS();
}
