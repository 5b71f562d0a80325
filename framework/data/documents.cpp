#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "framework/data/sources.h"
#include "framework/tokenizer/bytes.h"
#include "framework/tokenizer/encoder_shelf.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

/// Lines' documents as pieces of the text.
std::vector<TextPiece> lines_of(const Text& text) {
  std::vector<TextPiece> pieces;
  std::int64_t begin = 0;
  for (const std::int64_t end : text.file_ends) {
    if (end > begin) pieces.push_back({begin, end});
    begin = end;
  }
  return pieces;
}

Split split_source(const LoadedSource& source, double share, const Tokenizer& tokenizer, std::int64_t vocab_size,
                   const std::string& place, bool bytes, std::int32_t opening) {
  if (source.tokens)
    return split_documents(source.tokens->scan(vocab_size, tokenizer.end_of_document(), opening).documents, share,
                           place);
  if (source.recipe.format == "jsonl") return split_documents(lines_of(*source.text), share, place);
  return split_text(*source.text, share, place, !bytes);
}

/// Ids of one document into the store; end-of-document inside of them (whatever the tokenizer makes of such a text)
/// cuts, and so does what opens documents.
void append_document(std::span<const std::int32_t> ids, std::int32_t end_of_document, std::int32_t opening,
                     EncodedStore& store, std::vector<TextPiece>& pieces) {
  const auto cuts = [&](std::int32_t id) { return id == end_of_document || id == opening; };
  for (auto at = ids.begin(); at != ids.end();) {
    at = std::find_if_not(at, ids.end(), cuts);
    const auto end = std::find_if(at, ids.end(), cuts);
    if (at == end) continue;
    const std::int64_t begin = store.size();
    store.append({at, end});
    pieces.push_back({begin, store.size()});
    at = end;
  }
}

/// Pieces that one thread encodes at a time, and what became of them.
struct Portion {
  std::span<const TextPiece> pieces;
  std::vector<std::int32_t> ids;
  std::vector<std::size_t> ends;  ///< of each piece in `ids`
};

constexpr std::int64_t portion_bytes = 1 << 20;

/// The next portions of `pieces`, which it takes off: one a thread and a few more, so that none waits for the last.
std::vector<Portion> next_portions(std::span<const TextPiece>& pieces, int threads) {
  std::vector<Portion> portions;
  const std::size_t most = threads > 1 ? 4 * static_cast<std::size_t>(threads) : 1;
  while (!pieces.empty() && portions.size() < most) {
    std::size_t count = 0;
    for (std::int64_t bytes = 0; count < pieces.size() && bytes < portion_bytes; ++count)
      bytes += pieces[count].end - pieces[count].begin;
    portions.push_back({pieces.first(count), {}, {}});
    pieces = pieces.subspan(count);
  }
  return portions;
}

void encode(const Text& text, const Tokenizer& tokenizer, const std::string& place, ThreadPool* pool,
            std::int32_t opening, Documents& documents) {
  const auto start = std::chrono::steady_clock::now();
  auto store = std::make_shared<EncodedStore>(tokenizer.vocab_size());
  std::vector<TextPiece> pieces;
  EncoderShelf encoders(tokenizer);
  const auto encode_one = [&](Portion& portion) {
    std::unique_ptr<Encoder> encoder = encoders.take();
    for (const TextPiece& piece : portion.pieces) {
      encoder->append({text.bytes.data() + piece.begin, static_cast<std::size_t>(piece.end - piece.begin)},
                      portion.ids);
      portion.ends.push_back(portion.ids.size());
    }
    encoders.give(std::move(encoder));
  };
  for (std::span<const TextPiece> left = documents.pieces; !left.empty();) {
    std::vector<Portion> portions = next_portions(left, pool ? pool->num_threads() : 1);
    const auto body = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) encode_one(portions[static_cast<std::size_t>(i)]);
    };
    pool ? pool->parallel_for(std::ssize(portions), 1, body) : body(0, std::ssize(portions));
    for (const Portion& portion : portions) {
      std::size_t begin = 0;
      for (const std::size_t end : portion.ends) {
        append_document(std::span(portion.ids).subspan(begin, end - begin), tokenizer.end_of_document(), opening,
                        *store, pieces);
        begin = end;
      }
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  documents.note =
      fmt::format("{}: {} bytes of text are {} tokens, encoded in {:.1f} s (`fourmi tokenize` does it once)", place,
                  documents.num_bytes, store->size(), seconds);
  const Utf8Flaws flaws = find_utf8_flaws(text.bytes);
  if (flaws.count > 0)
    documents.note +=
        fmt::format("; {} bytes are no UTF-8 and are taken one by one, the first is byte {}", flaws.count, flaws.first);
  documents.store = std::move(store);
  documents.pieces = std::move(pieces);
}

/// Bytes of the text that token files were made from.
std::int64_t decoded_bytes(const TokenStore& store, const std::vector<TextPiece>& pieces, const Tokenizer& tokenizer) {
  constexpr std::int64_t most = 1 << 16;
  std::int64_t bytes = 0;
  std::vector<std::int32_t> ids;
  for (const TextPiece& piece : pieces)
    for (std::int64_t at = piece.begin; at < piece.end; at += most) {
      ids.resize(static_cast<std::size_t>(std::min(most, piece.end - at)));
      store.read(at, ids);
      // A model may have more ids than the tokenizer: they stand for nothing.
      std::erase_if(ids, [&](std::int32_t id) { return id >= tokenizer.vocab_size(); });
      bytes += std::ssize(tokenizer.decode(ids));
    }
  return bytes;
}

}  // namespace

Documents documents_of(const LoadedSource& source, Side side, double share, const Tokenizer& tokenizer,
                       std::int64_t vocab_size, const std::string& place, ThreadPool* pool, std::int32_t opening) {
  FOURMI_CHECK(source.text || source.tokens, "documents of a source of {}", source.recipe.format);
  const bool bytes = dynamic_cast<const ByteTokenizer*>(&tokenizer) != nullptr;
  Split split = split_source(source, share, tokenizer, vocab_size, place, bytes, opening);
  Documents documents;
  documents.pieces = std::move(side == Side::train ? split.train : split.held_out);
  if (source.tokens) {
    documents.store = std::make_shared<FileStore>(source.tokens, vocab_size);
    if (side == Side::held_out) documents.num_bytes = decoded_bytes(*documents.store, documents.pieces, tokenizer);
  } else {
    for (const TextPiece& piece : documents.pieces) documents.num_bytes += piece.end - piece.begin;
    if (bytes)
      documents.store = std::make_shared<ByteStore>(source.text);
    else
      encode(*source.text, tokenizer, place, pool, opening, documents);
  }
  if (documents.pieces.empty() && (side == Side::train || share > 0))
    throw Error(ExitStatus::input, place, "no token at all, at least one was expected");
  return documents;
}

}  // namespace fourmi
