// GoogleTest under mpirun: every rank runs every test; rank 0 prints, the others only their failures; one failure
// anywhere fails all.
#include <gtest/gtest.h>

#include <cstdio>

#include "parallel/world.h"
#include "tests/parallel_mpi/world_of_test.h"

namespace {

class FailuresOnly : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& r) override {
    if (r.failed())
      std::fprintf(stderr, "%s:%d: %s\n", r.file_name() ? r.file_name() : "?", r.line_number(), r.message());
  }
};

}  // namespace

namespace fourmi {
World*& world_of_test() {
  static World* world = nullptr;
  return world;
}
}  // namespace fourmi

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // Small pieces, so that the cutting of long messages is tested by messages of ordinary length.
  fourmi::World world(fourmi::read_launcher(), {.max_message_bytes = 4096});
  fourmi::world_of_test() = &world;
  if (world.rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailuresOnly);
  }
  std::int64_t failed = RUN_ALL_TESTS();
  world.group().all_max(std::span(&failed, 1));
  return static_cast<int>(failed);
}
