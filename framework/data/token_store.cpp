#include "framework/data/token_store.h"

#include <algorithm>

namespace fourmi {

void ByteStore::read(std::int64_t begin, std::span<std::int32_t> out) const {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text_->bytes.data()) + begin;
  std::copy_n(bytes, out.size(), out.begin());
}

void EncodedStore::append(std::span<const std::int32_t> ids) {
  if (narrow_)
    for (const std::int32_t id : ids) two_.push_back(static_cast<std::uint16_t>(id));
  else
    four_.insert(four_.end(), ids.begin(), ids.end());
}

void EncodedStore::read(std::int64_t begin, std::span<std::int32_t> out) const {
  if (narrow_)
    std::copy_n(two_.begin() + begin, out.size(), out.begin());
  else
    std::copy_n(four_.begin() + begin, out.size(), out.begin());
}

}  // namespace fourmi
