// What the journal of an unfinished corpus counts.
#include "framework/corpus/journal.h"

#include <gtest/gtest.h>

#include "tests/corpus/corpus.h"

namespace fourmi {
namespace {

using test::content;

TEST(Journal, CountsWholeLinesOnly) {
  const test::Folder folder;
  const std::string prefix = folder.path() + "/out", file = prefix + ".journal";
  CorpusProgress progress;
  progress.input = 1;
  progress.decoded = 12;
  progress.counts.tokens = 34;
  progress.inputs = {{5, std::string(64, 'a')}};
  progress.of_inputs = {CorpusCounts{.documents = 2, .tokens = 9}};
  {
    Journal journal(prefix, "header");
    EXPECT_FALSE(journal.found());
    journal.begin();
    journal.commit(progress);
    progress.decoded = 13;
    journal.commit(progress);
  }
  const std::string whole = content(file);
  const std::size_t second = whole.find('\n', whole.find('\n') + 1) + 1;
  for (const auto& [text, decoded] : {std::pair{whole, 13},
                                      {whole.substr(0, whole.size() - 1), 12},
                                      {whole.substr(0, second), 12},
                                      {whole.substr(0, second) + "{\"input\": 1}\n", 12},
                                      {whole.substr(0, second - 1), -1},
                                      {std::string("header\n"), -1},
                                      {std::string("head"), -1},
                                      {std::string(), -1}}) {
    folder.write("out.journal", text);
    Journal journal(prefix, "header");
    EXPECT_EQ(journal.found(), decoded >= 0) << text;
    EXPECT_FALSE(journal.is_another()) << text;
    if (!journal.found()) continue;
    EXPECT_EQ(journal.progress().decoded, decoded) << text;
    EXPECT_EQ(journal.progress().counts, progress.counts);
    EXPECT_EQ(journal.progress().of_inputs, progress.of_inputs);
    // Going on from there, the next reader finds what was committed then.
    journal.begin();
    progress.decoded = 99;
    journal.commit(progress);
    folder.write("copy.journal", content(file));
    EXPECT_EQ(Journal(folder.path() + "/copy", "header").progress().decoded, 99) << text;
  }
  EXPECT_TRUE(Journal(folder.path() + "/copy", "other").is_another());
}

}  // namespace
}  // namespace fourmi
