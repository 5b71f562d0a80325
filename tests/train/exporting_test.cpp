// What exports ask of the disk, before the first step.
#include "framework/train/exporting.h"

#include <gtest/gtest.h>

#include "framework/interop/export_plan.h"
#include "tests/train/small_recipe.h"

namespace fourmi {
namespace {

TEST(Exporting, FoldersOfOneFileSystemAreAddedUp) {
  std::error_code none;
  const auto available = static_cast<double>(std::filesystem::space("/tmp", none).available);
  const double most = 0.7 * available;
  EXPECT_TRUE(lacking_room({{"/tmp/not/there/yet", most, "checkpoints need"}}).empty());
  EXPECT_TRUE(lacking_room({{"/tmp", most, "checkpoints need"}, {"", 0, "exports need"}}).empty());
  const auto both = lacking_room({{"/tmp/a", most, "checkpoints need"}, {"/tmp/b/c", most, "exports need"}});
  ASSERT_EQ(both.size(), 1u);
  for (const char* part : {"checkpoints need", "exports need", "under /tmp", "are free"})
    EXPECT_NE(both[0].find(part), std::string::npos) << both[0];
}

TEST(Exporting, ARunTakesOneFolderOrOneForEachCheckpoint) {
  Recipe r = small_recipe(Compute::fp32, Reproducibility::run);
  EXPECT_EQ(export_bytes_of_run(r, 10), 0);
  r.export_ = {.path = "out", .dtype = ExportFormat::fp32, .when = ExportWhen::end};
  const double one = export_bytes_of_run(r, 10);
  const ParameterTable table(r.model);
  std::int64_t elements = 0;
  for (const Parameter& p : table.all()) elements += p.shape.num_elements();
  EXPECT_GE(one, 4.0 * static_cast<double>(elements));
  r.export_.when = ExportWhen::checkpoints;
  r.checkpoint.every_steps = 4;
  EXPECT_EQ(export_bytes_of_run(r, 10), 3 * one);  // 4, 8, and the end
  EXPECT_EQ(export_bytes_of_run(r, 8), 2 * one);
  EXPECT_EQ(export_bytes_of_run(r, std::nullopt), one);
  r.checkpoint.every_steps = 0;
  EXPECT_EQ(export_bytes_of_run(r, 10), one);
}

}  // namespace
}  // namespace fourmi
