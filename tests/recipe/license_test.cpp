// SPDX licence expressions: what is one, what a policy denies.
#include "framework/recipe/license.h"

#include <gtest/gtest.h>

#include <set>

namespace fourmi {
namespace {

std::string found(std::string_view text) {
  return check_license(text).found;
}

TEST(License, ExpressionsOfTheSpecification) {
  for (const char* good : {"MIT", "Apache-2.0 OR MIT", "(CC-BY-4.0 AND CC0-1.0) OR LicenseRef-our-terms",
                           "GPL-2.0-or-later WITH Classpath-exception-2.0", "Apache-2.0+", "LicenseRef-Dict.1",
                           "((MIT))", "MIT AND(BSD-3-Clause)"})
    EXPECT_EQ(found(good), "") << good;
  for (const char* bad : {"", " ", "MIT OR", "OR MIT", "MIT MIT", "(MIT", "MIT)", "MIT WITH MIT", "MIT or Apache-2.0",
                          "mit", "LicenseRef-", "LicenseRef-a+", "Apache 2.0", "MIT,Apache-2.0", "public domain",
                          "MIT WITH", "NONE", "\xff\xfe", "()"})
    EXPECT_NE(found(bad), "") << bad;
  EXPECT_NE(found(std::string(5000, '(')), "");
  EXPECT_NE(found(std::string(900, '(')), "");
}

TEST(License, MisspellingsAreAnsweredWithTheRightOne) {
  EXPECT_EQ(check_license("mit").remedy, "Did you mean `MIT`?");
  EXPECT_EQ(check_license("apache-2.0").remedy, "Did you mean `Apache-2.0`?");
  EXPECT_EQ(check_license("CC-BY-SA-40").remedy, "Did you mean `CC-BY-SA-4.0`?");
  EXPECT_EQ(check_license("GPL-3.0").remedy, "Did you mean one of `GPL-3.0-only`, `GPL-3.0-or-later`?");
  EXPECT_EQ(check_license("CC0").remedy, "Did you mean `CC0-1.0`?");
  EXPECT_EQ(check_license("LGPL-2.1+").remedy, "Did you mean one of `LGPL-2.1-only`, `LGPL-2.1-or-later`?");
  EXPECT_EQ(check_license("GPL-2.0-only WITH classpath-exception-2.0").remedy,
            "Did you mean `Classpath-exception-2.0`?");
  EXPECT_NE(check_license("whatever-you-like").remedy.find("LicenseRef-"), std::string::npos);
  EXPECT_EQ(check_denied_word("noncommercial").remedy, "Did you mean `non-commercial`?");
  EXPECT_EQ(check_denied_word("non-commercial").found, "");
  EXPECT_EQ(check_denied_word("CC-BY-NC-4.0").found, "");
  EXPECT_NE(check_denied_word("MIT OR Apache-2.0").found, "");
}

TEST(License, DenialsByIdentifierAndTag) {
  const auto denied = [](std::string_view text, std::vector<std::string> words) { return denied_by(text, words); };
  EXPECT_EQ(denied("MIT", {"non-commercial", "GPL-3.0-only"}), "");
  EXPECT_EQ(denied("CC-BY-NC-4.0", {"share-alike", "non-commercial"}), "non-commercial");
  EXPECT_EQ(denied("CC-BY-NC-SA-4.0", {"share-alike"}), "share-alike");
  EXPECT_EQ(denied("CC-BY-ND-4.0", {"no-derivatives"}), "no-derivatives");
  EXPECT_EQ(denied("LicenseRef-x", {"custom"}), "custom");
  EXPECT_EQ(denied("LicenseRef-x", {"LicenseRef-x"}), "LicenseRef-x");
  EXPECT_EQ(denied("LicenseRef-y", {"LicenseRef-x"}), "");
  // One of alternatives is enough; of both, none may be denied; AND binds tighter.
  EXPECT_EQ(denied("GPL-3.0-only OR MIT", {"share-alike"}), "");
  EXPECT_EQ(denied("GPL-3.0-only AND MIT", {"share-alike"}), "share-alike");
  EXPECT_EQ(denied("MIT OR Apache-2.0 AND GPL-3.0-only", {"GPL-3.0-only"}), "");
  EXPECT_EQ(denied("(MIT OR Apache-2.0) AND GPL-3.0-only", {"GPL-3.0-only"}), "GPL-3.0-only");
  EXPECT_EQ(denied("GPL-2.0-only WITH Classpath-exception-2.0", {"GPL-2.0-only"}), "GPL-2.0-only");
}

TEST(License, TheListNamesEachOnceAndTagsWhatItsNamesSay) {
  std::set<std::string_view> seen;
  for (const LicenseId& l : license_ids()) {
    EXPECT_TRUE(seen.insert(l.id).second) << l.id;
    EXPECT_EQ(found(l.id), "") << l.id;
    const bool cc = l.id.starts_with("CC-BY");
    if (!cc) continue;
    EXPECT_EQ((l.tags & license_non_commercial) != 0, l.id.find("-NC") != std::string_view::npos) << l.id;
    EXPECT_EQ((l.tags & license_no_derivatives) != 0, l.id.find("-ND") != std::string_view::npos) << l.id;
    EXPECT_EQ((l.tags & license_share_alike) != 0, l.id.find("-SA") != std::string_view::npos) << l.id;
  }
  EXPECT_GT(seen.size(), 100u);
}

}  // namespace
}  // namespace fourmi
