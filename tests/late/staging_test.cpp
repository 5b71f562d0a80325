// Optimizer state that visits a device whose streams run late: each panel is there before it is computed on, and back
// before the next visit and before whoever waits for the stream looks.
#include "framework/train/staging.h"

#include <gtest/gtest.h>

#include "tests/late/late_device.h"

namespace fourmi {
namespace {

TEST(LateStaging, PanelsComeAndGoBehindTheWork) {
  test::LateDevice device(1, std::chrono::milliseconds(3));
  test::LateStream of_device(device, 3);
  ThreadPool pool(1);
  const Stream stream(of_device, pool);
  constexpr std::int64_t n = 4 * Staging::most_elements;
  Arena arena({.name = "panels", .device = &device}, 1 << 26);
  Staging staging(DType::f32, DType::f32, n, arena);
  std::vector<float> master(n), first(n), second(n);
  of_device.give([&] {  // such as an update before
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    for (std::size_t i = 0; i < master.size(); ++i)
      master[i] = static_cast<float>(i % 1000), first[i] = 1, second[i] = 2;
  });
  const OptimizerState host{Tensor(master.data(), DType::f32, {n}), Tensor(first.data(), DType::f32, {n}),
                            Tensor(second.data(), DType::f32, {n})};
  constexpr int visits = 3;
  for (int visit = 0; visit < visits; ++visit)
    staging.visit(stream, host, Staging::Back::yes, [&](std::int64_t, std::int64_t, const OptimizerState& panel) {
      of_device.give([panel] {
        auto* const m = static_cast<float*>(panel.master.data);
        auto *const a = static_cast<float*>(panel.exp_avg.data), *const b = static_cast<float*>(panel.exp_avg_sq.data);
        for (std::int64_t i = 0; i < panel.master.num_elements(); ++i) m[i] += a[i] + b[i], a[i] += 1;
      });
    });
  stream.synchronize();
  for (std::size_t i = master.size(); i-- > 0;) {  // the last to come back first
    ASSERT_EQ(first[i], 1 + visits) << i;
    ASSERT_EQ(master[i], static_cast<float>(i % 1000) + 3 + 4 + 5) << i;
  }
}

}  // namespace
}  // namespace fourmi
