// Tests of operations on this machine's card; without one each is skipped, and says why.
#include <gtest/gtest.h>

#include <memory>

#include "kernels/runtime/cuda_devices.h"
#include "tests/device/mirror.h"

namespace {

/// Skips a test before it runs.
class NoCard : public ::testing::EmptyTestEventListener {
 public:
  explicit NoCard(std::string why) : why_(std::move(why)) {}
  void OnTestStart(const ::testing::TestInfo&) override { GTEST_SKIP() << "no GPU: " << why_; }

 private:
  std::string why_;
};

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  fourmi::load_kernels_at_once();
  std::string why;
  if (!fourmi::test::mirrored_device(&why))
    ::testing::UnitTest::GetInstance()->listeners().Append(std::make_unique<NoCard>(why).release());
  return RUN_ALL_TESTS();
}
