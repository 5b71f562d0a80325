#include <cstring>

#include "framework/capture/cache.h"
#include "framework/capture/checksum.h"
#include "framework/checkpoint/streamed_file.h"
#include "framework/run/files.h"

namespace fourmi {

CachePart write_cache_part(const std::filesystem::path& folder, const CacheFormat& format, std::int64_t source,
                           std::int64_t number, const CachedWindows& w) {
  const auto rows = static_cast<std::int64_t>(w.rest.size());
  FOURMI_CHECK(w.first_token.size() == w.rows.size() && std::ssize(w.entries) == rows * format.entries && rows > 0,
               "{} windows, {} rows, {} entries", w.rows.size(), rows, w.entries.size());
  std::vector<std::uint32_t> checksums;
  std::int64_t at = 0;
  for (const std::int32_t n : w.rows) {
    checksums.push_back(
        cache_checksum(std::span(w.entries).subspan(static_cast<std::size_t>(at * format.entries),
                                                    static_cast<std::size_t>(n * format.entries)),
                       std::span(w.rest).subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n))));
    at += n;
  }
  FOURMI_CHECK(at == rows, "{} rows in windows, {} in all", at, rows);

  const auto num_windows = static_cast<std::int64_t>(w.rows.size());
  const std::array<StreamedTensor, 5> tensors{{{"/entries", "", DType::i32, {rows, format.entries}},
                                               {"/rest", "", DType::f32, {rows}},
                                               {"/windows/first_token", "", DType::i64, {num_windows}},
                                               {"/windows/rows", "", DType::i32, {num_windows}},
                                               {"/windows/crc32", "", DType::i32, {num_windows}}}};
  const std::array<const void*, 5> data{w.entries.data(), w.rest.data(), w.first_token.data(), w.rows.data(),
                                        checksums.data()};
  CachePart part;
  part.source = source, part.windows = num_windows, part.rows = rows;
  part.file = fmt::format("part-{:03}-{:06}.h5", source, number);
  const std::filesystem::path aside = folder / (part.file + ".partial");
  std::error_code none;
  std::filesystem::remove(aside, none);
  const RankFile file = write_streamed_file(
      real_disk(), aside, tensors, [&](std::size_t index, std::int64_t begin, std::span<std::byte> out) {
        std::memcpy(out.data(), static_cast<const std::byte*>(data[index]) + begin, out.size());
      });
  rename_path(real_disk(), aside, folder / part.file);
  sync_directory(real_disk(), folder);
  part.bytes = file.file.bytes, part.sha256 = file.file.sha256;
  for (std::size_t i = 0; i < tensors.size(); ++i) part.offsets[i] = file.tensors[i].boxes[0].offset;
  part.table_checksum = cache_table_checksum(w.first_token, w.rows, checksums);
  return part;
}

}  // namespace fourmi
