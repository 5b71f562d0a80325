// What a batch's rows say of documents: the count and the longest, which a library is told in place of ranges.
#include <gtest/gtest.h>

#include "framework/train/batch_tensors.h"

namespace fourmi {
namespace {

Batch batch_of(std::vector<std::int32_t> key_begin, std::int64_t sequences) {
  Batch b;
  const std::size_t rows = key_begin.size();
  b.num_sequences = sequences, b.sequence_length = static_cast<std::int64_t>(rows) / sequences;
  for (auto* v : {&b.tokens, &b.targets, &b.positions, &b.mtp_tokens, &b.mtp_targets}) v->assign(rows, 0);
  b.key_begin = std::move(key_begin);
  return b;
}

TEST(BatchDocuments, AreCountedOverSequences) {
  BatchRows packed(batch_of({0, 0, 2, 3, 4, 4, 4, 7}, 2));
  const PackedDocuments d = packed.tensors().documents;
  EXPECT_EQ(d.count, 5);
  EXPECT_EQ(d.longest, 3);

  BatchRows whole(batch_of({0, 0, 0, 0, 4, 4, 4, 4}, 2));
  EXPECT_EQ(whole.tensors().documents.count, 2);
  EXPECT_EQ(whole.tensors().documents.longest, 4);
}

TEST(BatchDocuments, AreUnknownWhereRanksShareSequences) {
  BatchRows rows(batch_of({0, 0, 2, 2, 4, 4, 4, 4}, 2));
  SequencePart part;
  part.size = 2;
  EXPECT_EQ(rows.tensors(part).documents.count, 0);
}

}  // namespace
}  // namespace fourmi
