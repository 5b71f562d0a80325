#include "framework/train/batch_tensors.h"

namespace fourmi {

BatchTensors BatchRows::tensors() {
  key_end_.resize(batch_.tokens.size());
  // A row sees itself and what came before it in its document.
  for (std::size_t i = 0; i < key_end_.size(); ++i) key_end_[i] = static_cast<std::int32_t>(i + 1);
  // Where multi-token prediction has no next token there is no target either: any valid id does.
  for (std::int32_t& token : batch_.mtp_tokens)
    if (token < 0) token = 0;
  auto tensor = [](std::vector<std::int32_t>& v) {
    return Tensor(v.data(), DType::i32, {static_cast<std::int64_t>(v.size())});
  };
  return {tensor(batch_.tokens), tensor(batch_.targets),    tensor(batch_.positions),  tensor(batch_.key_begin),
          tensor(key_end_),      tensor(batch_.mtp_tokens), tensor(batch_.mtp_targets)};
}

}  // namespace fourmi
