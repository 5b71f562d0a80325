// Text that becomes ids when it is loaded.
#include <gtest/gtest.h>

#include "framework/data/sources.h"
#include "tests/tokenizer/goldens.h"

namespace fourmi {
namespace {

TEST(Documents, AreEncodedOneByOneByAnyNumberOfThreads) {
  // Several megabytes, so that threads have something to share: documents of very different length, empty ones too.
  const std::string words = test::golden("train.txt");
  auto text = std::make_shared<Text>();
  for (std::size_t d = 0; text->bytes.size() < (6 << 20); ++d) {
    const std::size_t begin = d * 7919 % (words.size() / 2),
                      size = d % 97 == 0 ? 0 : d * 104729 % (d % 50 == 1 ? 20000 : 2000);
    text->bytes += words.substr(begin, size);
    text->file_ends.push_back(std::ssize(text->bytes));
  }
  LoadedSource source;
  source.recipe.name = "x";
  source.recipe.format = "jsonl";
  source.text = text;
  const BpeTokenizer tokenizer = test::golden_tokenizer("cl100k");
  ThreadPool pool(3);
  const Documents alone = documents_of(source, Side::train, 0, tokenizer, 1000, "data.train.x");
  const Documents shared = documents_of(source, Side::train, 0, tokenizer, 1000, "data.train.x", &pool);
  std::size_t d = 0;
  std::int64_t begin = 0;
  for (const std::int64_t end : text->file_ends) {
    if (end > begin) {
      const auto ids = tokenizer.encode(
          std::string_view(text->bytes).substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
      for (const Documents* documents : {&alone, &shared}) {
        ASSERT_LT(d, documents->pieces.size());
        const TextPiece& piece = documents->pieces[d];
        ASSERT_EQ(piece.end - piece.begin, std::ssize(ids)) << d;
        std::vector<std::int32_t> found(ids.size());
        documents->store->read(piece.begin, found);
        ASSERT_EQ(found, ids) << d;
      }
      ++d;
    }
    begin = end;
  }
  EXPECT_EQ(d, alone.pieces.size());
  EXPECT_EQ(d, shared.pieces.size());
}

}  // namespace
}  // namespace fourmi
