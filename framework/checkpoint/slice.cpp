// All geometry here is in bytes: a tensor is a matrix of rows of bytes, a part some rows of some bytes of each.
#include "framework/checkpoint/slice.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "framework/checkpoint/extents.h"

namespace fourmi {
namespace {

/// From here on a run is worth a read of its own, and a gap is worth not to be read over.
constexpr std::int64_t long_run = std::int64_t{64} << 10;

Rectangle in_bytes(const Rectangle& part, const TensorEntry& tensor) {
  const std::int64_t cell = cell_elements(tensor.shape) * size_of(tensor.dtype);
  return {part.first_row, part.num_rows, part.first_column * cell, part.num_columns * cell};
}

/// Rows of `run` bytes, each `stride` after the one before, from a place on.
struct Place {
  std::int64_t begin = 0, stride = 0;
  Place(const Rectangle& outer, const Rectangle& inner)
      : begin((inner.first_row - outer.first_row) * outer.num_columns + inner.first_column - outer.first_column),
        stride(outer.num_columns) {}
};

/// Copies `common` of a box that begins at `offset` of the file to where `wanted` has it.
void read_common(const FileReader& reader, std::int64_t offset, const Rectangle& box, const Rectangle& wanted,
                 const Rectangle& common, std::byte* out) {
  const Place from(box, common), to(wanted, common);
  const std::int64_t run = common.num_columns, rows = common.num_rows;
  const auto read = [&](std::byte* p, std::int64_t bytes, std::int64_t at) {
    reader.read(std::span(p, static_cast<std::size_t>(bytes)), offset + at);
  };
  if (rows == 1 || (from.stride == run && to.stride == run)) return read(out + to.begin, rows * run, from.begin);
  if (run >= long_run || from.stride - run >= long_run) {
    for (std::int64_t r = 0; r < rows; ++r) read(out + to.begin + r * to.stride, run, from.begin + r * from.stride);
    return;
  }
  const std::int64_t at_once = std::min(rows, chunk_bytes / from.stride);
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(at_once * from.stride));
  for (std::int64_t done = 0; done < rows; done += at_once) {
    const std::int64_t n = std::min(at_once, rows - done);
    read(buffer.get(), (n - 1) * from.stride + run, from.begin + done * from.stride);
    for (std::int64_t r = 0; r < n; ++r)
      std::memcpy(out + to.begin + (done + r) * to.stride, buffer.get() + r * from.stride,
                  static_cast<std::size_t>(run));
  }
}

void read_in_bytes(Disk& disk, const std::filesystem::path& folder, const Manifest& manifest, const TensorEntry& tensor,
                   const Rectangle& wanted, std::byte* out) {
  if (wanted.empty()) return;
  for (const BoxEntry& b : tensor.boxes) {
    if (b.part.first_row >= wanted.end_row()) return;  // boxes come by first row
    const Rectangle box = in_bytes(b.part, tensor), common = common_part(box, wanted);
    if (common.empty()) continue;
    const FileReader reader(disk, folder / manifest.files[static_cast<std::size_t>(b.file)].name);
    read_common(reader, b.offset, box, wanted, common, out);
  }
}

}  // namespace

void read_part(Disk& disk, const std::filesystem::path& folder, const Manifest& manifest, const TensorEntry& tensor,
               const Rectangle& part, std::byte* out) {
  read_in_bytes(disk, folder, manifest, tensor, in_bytes(part, tensor), out);
}

void read_bytes(Disk& disk, const std::filesystem::path& folder, const Manifest& manifest, const TensorEntry& tensor,
                std::int64_t begin, std::span<std::byte> out) {
  const std::int64_t row = tensor.row_bytes(), end = begin + static_cast<std::int64_t>(out.size());
  for (std::int64_t at = begin; at < end;) {  // the rest of a row, whole rows, the beginning of a row
    const std::int64_t inside = at % row;
    const Rectangle wanted = inside == 0 && end - at >= row
                                 ? Rectangle{at / row, (end - at) / row, 0, row}
                                 : Rectangle{at / row, 1, inside, std::min(row - inside, end - at)};
    read_in_bytes(disk, folder, manifest, tensor, wanted, out.data() + (at - begin));
    at += wanted.num_rows * wanted.num_columns;
  }
}

}  // namespace fourmi
