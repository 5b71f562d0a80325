#include "kernels/numerics/digest.h"

#include <algorithm>
#include <cstring>

#include "kernels/numerics/mix.h"
#include "kernels/numerics/target.h"

namespace fourmi {
namespace {

// Seeds of the two halves and the odd steps of the index in them: any constants would do, they only have to stay.
constexpr std::uint64_t low_seed = 0x6a09e667f3bcc908u, high_seed = 0xbb67ae8584caa73bu;
constexpr std::uint64_t low_step = golden_ratio_64, high_step = 0xd1342543de82ef95u;

struct Key {
  std::uint64_t low, high;
};

/// Another bijection than mix64, for the upper half.
constexpr std::uint64_t mix64_other(std::uint64_t x) {
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
  x = (x ^ (x >> 29)) * 0xc4ceb9fe1a85ec53u;
  return x ^ (x >> 32);
}

struct Sums {
  std::uint64_t low_part = 0, middle_part = 0, high_part = 0;
};

/// The sum over n words with global indices first, first + 1, ... The lower half is summed in two parts, whose carries
/// fit into 64 bits for up to 2^32 words; that keeps 128-bit arithmetic out of the loop.
template <class Word>
FOURMI_INLINE void add_words(Key key, const std::byte* data, std::uint64_t n, std::uint64_t first, Sums& sums) {
  std::uint64_t low_part = 0, middle_part = 0, high_part = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    Word word;
    std::memcpy(&word, data + i * sizeof(Word), sizeof(Word));
    const std::uint64_t low = mix64((key.low + (first + i) * low_step) ^ word);
    high_part += mix64_other(key.high + (first + i) * high_step + word);
    low_part += low & 0xffffffffu;
    middle_part += low >> 32;
  }
  sums = {low_part, middle_part, high_part};
}

template <class Word>
void add_words_portable(Key key, const std::byte* data, std::uint64_t n, std::uint64_t first, Sums& sums) {
  add_words<Word>(key, data, n, first, sums);
}

/// The same loop, for which the compiler then has 64-bit multiplication in vectors.
template <class Word>
FOURMI_AVX512 void add_words_avx512(Key key, const std::byte* data, std::uint64_t n, std::uint64_t first, Sums& sums) {
  add_words<Word>(key, data, n, first, sums);
}

template <class Word>
uint128 digest_words(Isa isa, Key key, const std::byte* data, std::uint64_t n, std::uint64_t first) {
  const auto add = isa == Isa::avx512 ? add_words_avx512<Word> : add_words_portable<Word>;
  uint128 total = 0;
  constexpr std::uint64_t block = std::uint64_t{1} << 30;
  for (std::uint64_t begin = 0; begin < n; begin += block) {
    Sums s;
    add(key, data + begin * sizeof(Word), std::min(n - begin, block), first + begin, s);
    total += (static_cast<uint128>(s.high_part) << 64) + (static_cast<uint128>(s.middle_part) << 32) + s.low_part;
  }
  return total;
}

/// n elements of `bytes` bytes each, with global indices first, first + 1, ...
uint128 digest_elements(Isa isa, Key key, std::int64_t bytes, const std::byte* data, std::uint64_t n,
                        std::uint64_t first) {
  switch (bytes) {
    case 1:
      return digest_words<std::uint8_t>(isa, key, data, n, first);
    case 2:
      return digest_words<std::uint16_t>(isa, key, data, n, first);
    case 4:
      return digest_words<std::uint32_t>(isa, key, data, n, first);
    case 8:
      return digest_words<std::uint64_t>(isa, key, data, n, first);
    case 16:
      return digest_words<std::uint64_t>(isa, key, data, 2 * n, 2 * first);  // two words an element
  }
  FOURMI_CHECK(false, "digest of elements of {} bytes", bytes);
  return 0;
}

}  // namespace

uint128 digest(std::string_view tensor_name, const Tensor& x, std::uint64_t first_element, Isa isa) {
  return digest(tensor_name, x, {first_element, 1, 1}, 0, isa);
}

uint128 digest(std::string_view tensor_name, const Tensor& x, const ElementRuns& runs, std::uint64_t begin, Isa isa) {
  FOURMI_CHECK(x, "digest of an absent tensor {}", tensor_name);
  FOURMI_CHECK(runs.length > 0 && runs.length <= runs.stride, "runs of {} elements, {} apart, in tensor {}",
               runs.length, runs.stride, tensor_name);
  const Key key{mix_text(low_seed, tensor_name), mix_text(high_seed, tensor_name)};
  const auto* data = static_cast<const std::byte*>(x.data);
  const std::int64_t bytes = size_of(x.dtype);
  const std::uint64_t end = begin + static_cast<std::uint64_t>(x.num_elements());
  if (runs.length == runs.stride)  // no gaps: one run
    return digest_elements(isa, key, bytes, data, end - begin, runs.first + begin);
  uint128 sum = 0;
  for (std::uint64_t i = begin; i < end;) {
    const std::uint64_t run = i / runs.length, inside = i % runs.length, n = std::min(runs.length - inside, end - i);
    sum += digest_elements(isa, key, bytes, data, n, runs.first + run * runs.stride + inside);
    data += n * static_cast<std::uint64_t>(bytes);
    i += n;
  }
  return sum;
}

std::string digest_text(uint128 digest) {
  return fmt::format("{:016x}{:016x}", static_cast<std::uint64_t>(digest >> 64), static_cast<std::uint64_t>(digest));
}

std::optional<uint128> parse_digest(std::string_view text) {
  if (text.size() != 32) return std::nullopt;
  uint128 value = 0;
  for (char c : text) {
    int digit = 0;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    } else {
      return std::nullopt;
    }
    value = value << 4 | static_cast<unsigned>(digit);
  }
  return value;
}

}  // namespace fourmi
