#include "framework/corpus/finish.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <system_error>
#include <vector>

#include "framework/corpus/corpus_reader.h"
#include "framework/corpus/part_file.h"
#include "framework/data/indexed_layout.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string name(const fs::path& prefix, const char* ending) {
  return prefix.string() + ending;
}

/// Calls each(lengths) with the documents' lengths, piece by piece.
template <class Each>
void for_lengths(const fs::path& prefix, Each&& each) {
  std::ifstream in(name(prefix, ".lengths.part"), std::ios::binary);
  std::vector<std::int32_t> lengths(1 << 16);
  while (in) {
    in.read(reinterpret_cast<char*>(lengths.data()), static_cast<std::streamsize>(lengths.size() * sizeof lengths[0]));
    each(std::span(lengths).first(static_cast<std::size_t>(in.gcount()) / sizeof lengths[0]));
  }
  if (in.bad()) refuse_disk(name(prefix, ".lengths.part"), "reading");
}

template <class T>
void put(PartFile& file, std::span<const T> values) {
  file.append(std::as_bytes(values));
}
template <class T>
void put(PartFile& file, const T& value) {
  put(file, std::span<const T>(&value, 1));
}

void write_index(const fs::path& prefix, TokenType type, std::int64_t num_documents) {
  PartFile idx(name(prefix, ".idx.part"), 0);
  put(idx, std::span<const char>(indexed_layout::magic));
  put(idx, std::uint64_t{1});
  put(idx, type);
  put(idx, static_cast<std::uint64_t>(num_documents));
  put(idx, static_cast<std::uint64_t>(num_documents + 1));
  for_lengths(prefix, [&](std::span<const std::int32_t> lengths) { put(idx, lengths); });
  std::int64_t pointer = 0;
  std::vector<std::int64_t> values;
  for_lengths(prefix, [&](std::span<const std::int32_t> lengths) {
    values.clear();
    for (const std::int32_t length : lengths) {
      values.push_back(pointer);
      pointer += length * size_of(type);
    }
    put(idx, std::span<const std::int64_t>(values));
  });
  for (std::int64_t d = 0; d <= num_documents;) {
    values.clear();
    for (; d <= num_documents && std::ssize(values) < (1 << 16); ++d) values.push_back(d);
    put(idx, std::span<const std::int64_t>(values));
  }
  idx.sync();
}

Json entry(const FileDigest& digest) {
  return {{"bytes", digest.bytes}, {"sha256", digest.sha256}};
}

}  // namespace

void write_index_and_side_file(const TokenizeOptions& options, const Tokenizer& tokenizer, TokenType type,
                               const CorpusProgress& progress) {
  const fs::path& prefix = options.prefix;
  const CorpusCounts& counts = progress.counts;
  write_index(prefix, type, counts.documents - counts.empty_documents);

  Json side;
  side["tokens"] = counts.tokens;
  side["documents"] = counts.documents - counts.empty_documents;
  side["empty_documents"] = counts.empty_documents;
  side["text_bytes"] = counts.text_bytes;
  side["bytes_not_utf8"] = counts.not_utf8;
  side["documents_with_end_of_document"] = counts.documents_cut;
  side["type"] = type == TokenType::u16 ? "u16" : "i32";
  side["tokenizer"] = {{"name", fs::path(tokenizer.name()).filename().string()},
                       {"sha256", options.tokenizer_sha256.empty() ? Json(nullptr) : Json(options.tokenizer_sha256)},
                       {"vocab_size", tokenizer.vocab_size()}};
  side["end_of_document"] = {{"id", tokenizer.end_of_document()}, {"after_each_document", options.end_documents}};
  if (!options.license.empty()) side["license"] = options.license;
  if (!options.source.empty()) side["source"] = options.source;
  side["bin"] = entry(digest_file(name(prefix, ".bin.part")));
  side["idx"] = entry(digest_file(name(prefix, ".idx.part")));
  side["inputs"] = Json::array();
  for (std::size_t i = 0; i < options.inputs.size(); ++i) {
    Json one{{"path", options.inputs[i].string()}, {"format", corpus_format(options.inputs[i], options.format)}};
    one.update(entry(progress.inputs.at(i)));
    one["documents"] = progress.of_inputs.at(i).documents - progress.of_inputs.at(i).empty_documents;
    one["tokens"] = progress.of_inputs.at(i).tokens;
    side["inputs"].push_back(std::move(one));
  }
  PartFile file(name(prefix, ".json.part"), 0);
  file.append(side.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  file.sync();
}

void take_names(const fs::path& prefix) {
  const auto has_part = [&](const char* ending) {
    std::error_code failure;
    return fs::exists(name(prefix, ending) + ".part", failure);
  };
  if (has_part(".bin")) {
    if (::unlink(name(prefix, ".idx").c_str()) != 0 && errno != ENOENT)
      refuse_disk(name(prefix, ".idx"), "removing the old file");
  }
  for (const char* ending : {".bin", ".json", ".idx"}) {
    if (!has_part(ending)) continue;  // it has its name already
    if (std::rename((name(prefix, ending) + ".part").c_str(), name(prefix, ending).c_str()) != 0)
      refuse_disk(name(prefix, ending), "renaming the file");
  }
  sync_folder_of(prefix);
  std::error_code failure;
  fs::remove(name(prefix, ".lengths.part"), failure);
}

}  // namespace fourmi
