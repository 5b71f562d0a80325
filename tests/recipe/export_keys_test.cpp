// The keys of export: defaults that depend on each other, and what is refused.
#include <gtest/gtest.h>

#include "framework/recipe/compare.h"
#include "framework/recipe/write.h"
#include "tests/recipe/support.h"

namespace fourmi {
namespace {

using testing::issues_of;
using testing::small_recipe;

Recipe with_keys(const std::vector<std::string>& overrides) {
  return parse_recipe(small_recipe(), "recipe", overrides);
}

TEST(ExportKeys, APathAloneMeansAtTheEndInBf16) {
  EXPECT_EQ(with_keys({}).export_, ExportSection{});
  const ExportSection at_end = with_keys({"export.path=export/a"}).export_;
  EXPECT_EQ(at_end.when, ExportWhen::end);
  EXPECT_EQ(at_end.dtype, ExportFormat::bf16);
  EXPECT_EQ(with_keys({"export.path=export/a", "export.when=never"}).export_.when, ExportWhen::never);
  EXPECT_EQ(with_keys({"export.path=export/a", "export.when=checkpoints"}).export_.when, ExportWhen::checkpoints);
}

TEST(ExportKeys, AnExportNeedsAPlaceAndKnownWords) {
  const auto issues = issues_of(small_recipe(), {"export.when=end"});
  ASSERT_EQ(issues.size(), 1u);
  EXPECT_NE(issues[0].text().find("export.path"), std::string::npos) << issues[0].text();
  EXPECT_TRUE(issues_of(small_recipe(), {"export.when=never"}).empty());
  EXPECT_EQ(issues_of(small_recipe(), {"export.path=a", "export.when=always"}).size(), 1u);
  EXPECT_EQ(issues_of(small_recipe(), {"export.path=a", "export.dtype=int4"}).size(), 1u);
}

TEST(ExportKeys, AreWrittenAndReadBackAndFree) {
  const Recipe r = with_keys({"export.path=export/a", "export.dtype=fp8-block", "export.when=checkpoints"});
  EXPECT_TRUE(parse_recipe(to_yaml(r)) == r) << to_yaml(r);
  const auto changes = compare(with_keys({}), r);
  EXPECT_EQ(changes.size(), 3u);
  for (const ChangedKey& c : changes) EXPECT_EQ(c.key_class, recipe::KeyClass::free) << c.key;
  EXPECT_EQ(to_yaml(with_keys({})).find("export"), std::string::npos);
}

}  // namespace
}  // namespace fourmi
