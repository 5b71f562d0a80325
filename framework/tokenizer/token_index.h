// Ids of tokens by what a tokenizer.json writes: three look-ups for each of its merges make up most of the time that
// reading one takes. A hash table with open addressing, of views.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace fourmi {

class TokenIndex {
 public:
  /// For at most `count` tokens, whose texts live as long as this.
  explicit TokenIndex(std::size_t count = 0) : slots_(std::bit_ceil(2 * count + 2)), mask_(slots_.size() - 1) {}

  /// False: it is there already, and stays.
  bool add(std::string_view written, std::int32_t id) {
    Slot& slot = slots_[place(written)];
    if (slot.text != nullptr) return false;
    slot = {written.data(), static_cast<std::uint32_t>(written.size()), id};
    return true;
  }
  /// -1: there is none.
  std::int32_t find(std::string_view written) const { return slots_[place(written)].id; }

 private:
  struct Slot {
    const char* text = nullptr;
    std::uint32_t size = 0;
    std::int32_t id = -1;
  };
  std::size_t place(std::string_view written) const {
    for (std::size_t i = std::hash<std::string_view>()(written) & mask_;; i = (i + 1) & mask_)
      if (slots_[i].text == nullptr || std::string_view(slots_[i].text, slots_[i].size) == written) return i;
  }

  std::vector<Slot> slots_;
  std::size_t mask_;
};

}  // namespace fourmi
