#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "framework/data/indexed.h"
#include "framework/data/indexed_layout.h"
#include "kernels/runtime/error.h"

namespace fourmi {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

namespace {

namespace layout = indexed_layout;
constexpr std::int64_t piece = 1 << 16;  ///< entries read at a time

std::filesystem::path with_ending(const std::filesystem::path& path, const char* ending) {
  return indexed_prefix(path).string() + ending;
}

/// Reads .idx from front to back, piece by piece; what it finds wrong names the file and the byte.
class IndexReader {
 public:
  explicit IndexReader(const std::filesystem::path& path) : file_(path) {}

  [[noreturn]] void fail(std::int64_t byte, const std::string& found_and_expected) const {
    throw Error(ExitStatus::input, fmt::format("{}: byte {}", file_.path().string(), byte), found_and_expected,
                "Write or fetch the pair of .bin and .idx again.");
  }
  template <class T>
  T value(std::int64_t byte) const {
    T value{};
    file_.read(byte, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  /// Calls visit(i, values) with values = entries i, i+1, ... of an array of `count` that begins at `byte`.
  template <class T, class Visit>
  void array(std::int64_t byte, std::int64_t count, Visit visit) const {
    std::vector<T> values;
    for (std::int64_t i = 0; i < count; i += piece) {
      values.resize(static_cast<std::size_t>(std::min(piece, count - i)));
      file_.read(byte + i * static_cast<std::int64_t>(sizeof(T)), std::as_writable_bytes(std::span(values)));
      visit(i, values);
    }
  }
  std::int64_t size() const { return file_.size(); }
  void check_unchanged() const { file_.check_unchanged(); }

 private:
  InputFile file_;
};

struct Header {
  TokenType type = TokenType::u16;
  std::int64_t num_sequences = 0, num_indices = 0;
};

Header read_header(const IndexReader& in) {
  if (in.size() < layout::header_bytes)
    in.fail(in.size(), fmt::format("the file ends here, a header of {} bytes was expected", layout::header_bytes));
  const auto magic = in.value<std::array<char, 9>>(0);
  if (magic != layout::magic) in.fail(0, "other bytes, \"MMIDIDX\\0\\0\" was expected");
  const auto version = in.value<std::uint64_t>(9);
  if (version != 1) in.fail(9, fmt::format("version {}, version 1 was expected", version));
  const auto code = in.value<std::uint8_t>(17);
  constexpr std::array<TokenType, 6> types{TokenType::u8,  TokenType::i8,  TokenType::i16,
                                           TokenType::i32, TokenType::i64, TokenType::u16};
  const auto type = std::find(types.begin(), types.end(), static_cast<TokenType>(code));
  if (type == types.end())
    in.fail(17, fmt::format("{} as the type of tokens, 1, 2, 3, 4, 5 or 8 (integers) was expected", code));
  const auto sequences = in.value<std::uint64_t>(18), indices = in.value<std::uint64_t>(26);
  // Divided, not multiplied: a header that lies can not overflow.
  const auto room = static_cast<std::uint64_t>(in.size() - layout::header_bytes);
  if (sequences > room / 12 || indices > room / 8 || sequences * 12 + indices * 8 != room)
    in.fail(18, fmt::format("{} sequences and {} document indices, which do not make a file of {} bytes, were found; "
                            "counts that do ({} + 12 x sequences + 8 x indices bytes) were expected",
                            sequences, indices, in.size(), layout::header_bytes));
  if (indices == 0) in.fail(26, "no document index, at least the one that ends the list was expected");
  return {*type, static_cast<std::int64_t>(sequences), static_cast<std::int64_t>(indices)};
}

/// Where each sequence begins in tokens, and one more: their sum.
std::vector<std::int64_t> read_sequences(const IndexReader& in, const Header& header) {
  std::vector<std::int64_t> begin{0};
  begin.reserve(static_cast<std::size_t>(header.num_sequences) + 1);
  in.array<std::int32_t>(layout::header_bytes, header.num_sequences, [&](std::int64_t i, const auto& lengths) {
    for (const std::int32_t length : lengths) {
      if (length < 0)
        in.fail(layout::header_bytes + 4 * i,
                fmt::format("a length of {} of sequence {}, at least 0 was expected", length, i));
      begin.push_back(begin.back() + length);
      ++i;
    }
  });
  const std::int64_t pointers = layout::header_bytes + 4 * header.num_sequences;
  in.array<std::int64_t>(pointers, header.num_sequences, [&](std::int64_t i, const auto& values) {
    for (const std::int64_t pointer : values) {
      const std::int64_t expected = begin[static_cast<std::size_t>(i)] * size_of(header.type);
      if (pointer != expected)
        in.fail(pointers + 8 * i,
                fmt::format("a pointer to byte {} for sequence {}, byte {} (the end of those before it) "
                            "was expected",
                            pointer, i, expected));
      ++i;
    }
  });
  return begin;
}

/// Where each document begins in tokens, and one more.
std::vector<std::int64_t> read_documents(const IndexReader& in, const Header& header) {
  const std::vector<std::int64_t> sequence_begin = read_sequences(in, header);
  std::vector<std::int64_t> begin;
  begin.reserve(static_cast<std::size_t>(header.num_indices));
  const std::int64_t at = layout::header_bytes + 12 * header.num_sequences;
  std::int64_t last = 0;
  in.array<std::int64_t>(at, header.num_indices, [&](std::int64_t i, const auto& indices) {
    for (const std::int64_t index : indices) {
      const bool first = i == 0, ends = i == header.num_indices - 1;
      if (index < last || index > header.num_sequences || (first && index != 0) ||
          (ends && index != header.num_sequences))
        in.fail(at + 8 * i, fmt::format("{} as document index {} of {}, {} was expected", index, i, header.num_indices,
                                        ends    ? fmt::format("{} (the number of sequences)", header.num_sequences)
                                        : first ? "0"
                                                : fmt::format("one from {} to {}", last, header.num_sequences)));
      begin.push_back(sequence_begin[static_cast<std::size_t>(index)]);
      last = index;
      ++i;
    }
  });
  return begin;
}

}  // namespace

std::int64_t size_of(TokenType type) {
  switch (type) {
    case TokenType::u8:
    case TokenType::i8:
      return 1;
    case TokenType::i16:
    case TokenType::u16:
      return 2;
    case TokenType::i32:
      return 4;
    case TokenType::i64:
      return 8;
  }
  FOURMI_CHECK(false, "token type {}", static_cast<int>(type));
}

TokenType token_type_for(std::int64_t vocab_size) {
  return vocab_size <= 65536 ? TokenType::u16 : TokenType::i32;
}

std::filesystem::path indexed_prefix(const std::filesystem::path& path) {
  const bool ending = path.extension() == ".bin" || path.extension() == ".idx";
  return ending ? path.parent_path() / path.stem() : path;
}

IndexedTokens::IndexedTokens(const std::filesystem::path& path) : bin_(with_ending(path, ".bin")) {
  const IndexReader in(with_ending(path, ".idx"));
  const Header header = read_header(in);
  type_ = header.type;
  document_begin_ = read_documents(in, header);
  in.check_unchanged();
  const std::int64_t expected = num_tokens() * size_of(type_);
  if (bin_.size() != expected)
    throw Error(ExitStatus::input, bin_.path().string(),
                fmt::format("{} bytes, {} were expected (its .idx tells of {} tokens of {} bytes)", bin_.size(),
                            expected, num_tokens(), size_of(type_)),
                "Write or fetch the pair of .bin and .idx again.");
}

std::int64_t IndexedTokens::document_of(std::int64_t token) const {
  return std::upper_bound(document_begin_.begin(), document_begin_.end(), token) - document_begin_.begin() - 1;
}

void IndexedTokens::read(std::int64_t first, std::span<std::int32_t> out) const {
  FOURMI_CHECK(first >= 0 && first + std::ssize(out) <= num_tokens(), "tokens {} to {} of {}", first,
               first + std::ssize(out), num_tokens());
  std::array<std::byte, 8192> bytes;
  const auto read_as = [&]<class T>(T) {
    constexpr std::size_t most = bytes.size() / sizeof(T);
    for (std::size_t done = 0; done < out.size();) {
      const std::size_t n = std::min(most, out.size() - done);
      const std::int64_t token = first + static_cast<std::int64_t>(done);
      bin_.read(token * static_cast<std::int64_t>(sizeof(T)), std::span(bytes).first(n * sizeof(T)));
      for (std::size_t i = 0; i < n; ++i) {
        T id;
        std::memcpy(&id, bytes.data() + i * sizeof(T), sizeof(T));
        if (!std::in_range<std::int32_t>(id) || id < 0)
          refuse_token(token + static_cast<std::int64_t>(i), static_cast<std::int64_t>(id), std::int64_t{1} << 31);
        out[done + i] = static_cast<std::int32_t>(id);
      }
      done += n;
    }
  };
  switch (type_) {
    case TokenType::u8:
      return read_as(std::uint8_t{});
    case TokenType::i8:
      return read_as(std::int8_t{});
    case TokenType::i16:
      return read_as(std::int16_t{});
    case TokenType::u16:
      return read_as(std::uint16_t{});
    case TokenType::i32:
      return read_as(std::int32_t{});
    case TokenType::i64:
      return read_as(std::int64_t{});
  }
}

void IndexedTokens::refuse_token(std::int64_t token, std::int64_t id, std::int64_t vocab_size) const {
  const std::int64_t document = document_of(token);
  throw Error(ExitStatus::input, bin_path().string(),
              fmt::format("token id {} at offset {} of document {} (byte {}), an id from 0 to {} was expected", id,
                          token - document_begin(document), document, token * size_of(type_), vocab_size - 1),
              "The file was made with another tokenizer, or model.vocab_size is too small for it.");
}

}  // namespace fourmi
