#include "framework/train/batch_tensors.h"

#include <algorithm>

namespace fourmi {

namespace {

Tensor tensor(std::vector<std::int32_t>& v) {
  return Tensor(v.data(), DType::i32, {static_cast<std::int64_t>(v.size())});
}

/// A document begins with the row that sees no row before itself.
PackedDocuments documents_of(const std::vector<std::int32_t>& key_begin) {
  PackedDocuments d;
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i < std::ssize(key_begin); ++i) {
    if (key_begin[static_cast<std::size_t>(i)] == i) ++d.count, begin = i;
    d.longest = std::max(d.longest, i + 1 - begin);
  }
  return d;
}

}  // namespace

/// The rows of a rank's part of each sequence, one sequence after the other.
Tensor BatchRows::held(const std::vector<std::int32_t>& rows, const SequencePart& part,
                       std::vector<std::int32_t>& mine) const {
  mine.clear();
  for (std::int64_t s = 0; s < batch_.num_sequences; ++s) {
    const auto first = rows.begin() + s * batch_.sequence_length;
    for (const Share::Range run : part.runs(batch_.sequence_length))
      mine.insert(mine.end(), first + run.begin, first + run.end);
  }
  return tensor(mine);
}

BatchTensors BatchRows::tensors(const SequencePart& part) {
  key_end_.resize(batch_.tokens.size());
  // A row sees itself and what came before it in its document.
  for (std::size_t i = 0; i < key_end_.size(); ++i) key_end_[i] = static_cast<std::int32_t>(i + 1);
  // Where multi-token prediction has no next token there is no target either: any valid id does.
  for (std::int32_t& token : batch_.mtp_tokens)
    if (token < 0) token = 0;
  if (part.size == 1)
    return {tensor(batch_.tokens),
            tensor(batch_.targets),
            tensor(batch_.positions),
            tensor(batch_.key_begin),
            tensor(key_end_),
            tensor(batch_.mtp_tokens),
            tensor(batch_.mtp_targets),
            {},
            documents_of(batch_.key_begin)};
  return {held(batch_.tokens, part, mine_[0]),      held(batch_.targets, part, mine_[1]),
          held(batch_.positions, part, mine_[2]),   held(batch_.key_begin, part, mine_[3]),
          held(key_end_, part, mine_[4]),           held(batch_.mtp_tokens, part, mine_[5]),
          held(batch_.mtp_targets, part, mine_[6]), tensor(batch_.positions)};
}

}  // namespace fourmi
