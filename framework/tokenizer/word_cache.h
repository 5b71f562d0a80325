// The ids of words met before. Bounded: when it is full it forgets everything and begins anew, which changes nothing
// but time. At most 7 MB: 64Ki words of at most 64 bytes, in tables of fixed size.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace fourmi {

class WordCache {
 public:
  WordCache() : entries_(num_entries) {}

  struct Place {
    std::size_t slot;
    std::uint64_t hash;
  };
  /// Appends the word's ids and returns true; or returns false and where to put them.
  bool append(std::string_view word, std::vector<std::int32_t>& out, Place& place) const {
    place.hash = hash(word);
    for (place.slot = place.hash & (num_entries - 1);; place.slot = (place.slot + 1) & (num_entries - 1)) {
      const Entry& e = entries_[place.slot];
      if (e.length == 0) return false;
      if (e.hash != place.hash || e.length != word.size() ||
          std::memcmp(&bytes_[e.word], word.data(), word.size()) != 0)
        continue;
      if (e.num_ids == 1)
        out.push_back(e.ids);
      else
        out.insert(out.end(), ids_.begin() + e.ids, ids_.begin() + e.ids + e.num_ids);
      return true;
    }
  }

  /// After append() has returned false. `ids` are the word's, 1 to 64 of them.
  void put(std::string_view word, Place place, const std::int32_t* ids, std::size_t num_ids) {
    if (word.size() > longest_word) return;
    if (num_words_ == num_entries / 2 || bytes_.size() + word.size() > most_bytes || ids_.size() + num_ids > most_ids) {
      entries_.assign(num_entries, Entry{});
      bytes_.clear();
      ids_.clear();
      num_words_ = 0;
      place.slot = place.hash & (num_entries - 1);
    }
    ++num_words_;
    Entry& e = entries_[place.slot];
    e = {place.hash, static_cast<std::uint32_t>(bytes_.size()), static_cast<std::int32_t>(ids_.size()),
         static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(num_ids)};
    bytes_.insert(bytes_.end(), word.begin(), word.end());
    if (num_ids == 1)
      e.ids = ids[0];
    else
      ids_.insert(ids_.end(), ids, ids + num_ids);
  }

  static constexpr std::size_t longest_word = 64;

 private:
  static constexpr std::size_t num_entries = 1 << 17, most_bytes = 1 << 20, most_ids = 1 << 18;
  struct Entry {
    std::uint64_t hash = 0;
    std::uint32_t word = 0;    ///< where its bytes begin
    std::int32_t ids = 0;      ///< where its ids begin; the id itself if it is one
    std::uint16_t length = 0;  ///< of the word; 0: free
    std::uint16_t num_ids = 0;
  };

  static std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }
  static std::uint64_t hash(std::string_view word) {
    constexpr std::uint64_t factor = 0x9e3779b97f4a7c15u;
    std::uint64_t h = word.size() ^ 0xd6e8feb86659fd93u;
    while (word.size() > 8) {
      std::uint64_t eight;
      std::memcpy(&eight, word.data(), 8);
      h = mix(h ^ eight, factor);
      word.remove_prefix(8);
    }
    std::uint64_t rest = 0;
    std::memcpy(&rest, word.data(), word.size());
    return mix(h ^ rest, factor);
  }

  std::vector<Entry> entries_;
  std::vector<char> bytes_;
  std::vector<std::int32_t> ids_;
  std::size_t num_words_ = 0;
};

}  // namespace fourmi
