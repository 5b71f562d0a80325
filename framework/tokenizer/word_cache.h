// The ids of words met before. Bounded: when it is full it forgets everything and begins anew, which changes nothing
// but time. At most 6 MB: 64Ki words of at most 64 bytes, in tables of fixed size.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace fourmi {

/// A word of at most 16 bytes and at most 2 ids stands in one entry, two of which are a line of the processor's cache:
/// nearly every look-up waits for one line. Longer words are compared where all of their bytes are kept.
class WordCache {
 public:
  WordCache() : entries_(num_entries) {}

  /// Of a word that is sought.
  struct Place {
    std::size_t slot;
    std::uint64_t hash, low, high;
  };
  /// The first step of a look-up, of a word of 1 to 64 bytes. The second had better come later: the table is larger
  /// than the caches near a core, and the line that the word should be in is asked for here.
  Place ask(std::string_view word) const {
    Place place{};
    read(word, place);
    __builtin_prefetch(&entries_[place.hash & (num_entries - 1)]);
    return place;
  }
  /// Appends the word's ids and returns true; or returns false and where to put them.
  bool append(std::string_view word, std::vector<std::int32_t>& out, Place& place) const {
    for (place.slot = place.hash & (num_entries - 1);; place.slot = (place.slot + 1) & (num_entries - 1)) {
      const Entry& e = entries_[place.slot];
      if (e.length == 0) return false;
      if (e.low != place.low || e.length != word.size()) continue;
      if (word.size() <= in_entry ? e.high != place.high : std::memcmp(&bytes_[e.high], word.data(), word.size()) != 0)
        continue;
      if (e.num_ids <= 2) {
        out.push_back(e.ids[0]);
        if (e.num_ids == 2) out.push_back(e.ids[1]);
      } else {
        const auto first = ids_.begin() + e.ids[0];
        out.insert(out.end(), first, first + e.num_ids);
      }
      return true;
    }
  }

  /// After append() has returned false. `ids` are the word's, 1 to 64 of them.
  void put(std::string_view word, Place place, const std::int32_t* ids, std::size_t num_ids) {
    if (num_words_ == num_entries / 2 || bytes_.size() + word.size() > most_bytes || ids_.size() + num_ids > most_ids) {
      std::fill(entries_.begin(), entries_.end(), Entry{});
      bytes_.clear();
      ids_.clear();
      num_words_ = 0;
      place.slot = place.hash & (num_entries - 1);
    }
    ++num_words_;
    Entry& e = entries_[place.slot];
    e = {place.low, place.high, {}, static_cast<std::uint8_t>(word.size()), static_cast<std::uint8_t>(num_ids)};
    if (word.size() > in_entry) {
      e.high = bytes_.size();
      bytes_.insert(bytes_.end(), word.begin(), word.end());
    }
    if (num_ids <= 2) {
      std::copy(ids, ids + num_ids, e.ids);
    } else {
      e.ids[0] = static_cast<std::int32_t>(ids_.size());
      ids_.insert(ids_.end(), ids, ids + num_ids);
    }
  }

  static constexpr std::size_t longest_word = 64;

 private:
  static constexpr std::size_t num_entries = 1 << 17, most_bytes = 1 << 20, most_ids = 1 << 18, in_entry = 16;
  struct alignas(32) Entry {
    std::uint64_t low = 0;     ///< a longer word's hash
    std::uint64_t high = 0;    ///< where a longer word's bytes begin
    std::int32_t ids[2] = {};  ///< of more than two: where they begin
    std::uint8_t length = 0;   ///< of the word; 0: free
    std::uint8_t num_ids = 0;
  };

  static std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }
  template <class T>
  static std::uint64_t load(const char* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  /// Words of one length and at most 16 bytes are different exactly if `low` or `high` is; these overlap.
  static void read(std::string_view word, Place& place) {
    constexpr std::uint64_t factor = 0x9e3779b97f4a7c15u, other = 0xd6e8feb86659fd93u;
    const char *begin = word.data(), *end = begin + word.size();
    place.high = 0;
    if (word.size() > in_entry) {
      place.low = word.size();
      for (; end - begin > 8; begin += 8) place.low = mix(place.low ^ load<std::uint64_t>(begin), factor);
      place.low = mix(place.low ^ load<std::uint64_t>(end - 8), factor);
    } else if (word.size() >= 8) {
      place.low = load<std::uint64_t>(begin);
      place.high = load<std::uint64_t>(end - 8);
    } else if (word.size() >= 4) {
      place.low = load<std::uint32_t>(begin) | load<std::uint32_t>(end - 4) << 32;
    } else {
      place.low = load<std::uint8_t>(begin) | load<std::uint8_t>(begin + word.size() / 2) << 8 |
                  load<std::uint8_t>(end - 1) << 16;
    }
    place.hash = mix(place.low ^ factor, place.high ^ word.size() ^ other);
  }

  std::vector<Entry> entries_;
  std::vector<char> bytes_;
  std::vector<std::int32_t> ids_;
  std::size_t num_words_ = 0;
};

}  // namespace fourmi
