#include "framework/interop/export_files.h"

#include <algorithm>

#include "framework/checkpoint/slice.h"
#include "framework/interop/fp8_blocks.h"
#include "framework/interop/import_plan.h"

namespace fourmi::interop {
namespace {

constexpr std::int64_t piece_elements = std::int64_t{1} << 20;

class FileExport {
 public:
  FileExport(Disk& disk, const Checkpoint& checkpoint, const ExportedFile& file, const std::filesystem::path& folder)
      : disk_(disk), checkpoint_(checkpoint), file_(file), writer_(disk, folder / file.name) {}

  /// Bytes of the checkpoint that were read.
  std::int64_t run() {
    writer_.write(std::as_bytes(std::span(file_.header)), 0);
    for (const ExportedTensor& t : file_.tensors) {
      if (t.has_blocks)
        write_blocks(t);
      else if (!t.is_scale)
        write_plain(t);
    }
    writer_.finish();
    return bytes_read_;
  }

 private:
  std::span<const float> read(const std::string& name, std::int64_t first, std::int64_t count) {
    values_.resize(static_cast<std::size_t>(count));
    const TensorEntry* entry = checkpoint_.manifest.find(name);
    FOURMI_CHECK(entry, "no tensor {}", name);
    read_bytes(disk_, checkpoint_.folder, checkpoint_.manifest, *entry, first * 4,
               std::as_writable_bytes(std::span(values_)));
    bytes_read_ += count * 4;
    return values_;
  }
  void write(const ExportedTensor& t, std::int64_t offset, std::span<const std::byte> bytes) {
    writer_.write(bytes, std::ssize(file_.header) + t.stored.begin + offset);
  }

  void write_plain(const ExportedTensor& t) {
    const std::int64_t size = size_of(t.stored.type), all = t.stored.shape.num_elements();
    for (std::int64_t done = 0; done < all; done += piece_elements) {
      const std::int64_t n = std::min(piece_elements, all - done);
      bytes_.resize(static_cast<std::size_t>(n * size));
      narrow(t.stored.type, read(master_name(*t.parameter), done, n), bytes_);
      write(t, done * size, bytes_);
    }
  }

  void write_blocks(const ExportedTensor& t) {
    const std::int64_t rows = t.stored.shape[0], columns = t.stored.shape[1];
    BlockScales scales{columns, {}};
    const std::string kept = kept_scales_name(t.parameter->name);
    const bool imported = checkpoint_.manifest.find(kept) != nullptr;
    if (imported) {
      const auto all = read(kept, 0, scale_shape(t.stored.shape).num_elements());
      scales.values.assign(all.begin(), all.end());
    }
    for (std::int64_t row = 0; row < rows; row += scale_block) {
      const std::int64_t n = std::min(scale_block, rows - row);
      const std::span<const float> panel = read(master_name(*t.parameter), row * columns, n * columns);
      if (!imported) append_scales(panel, scales);
      bytes_.resize(panel.size());
      quantise(panel, row, scales, bytes_);
      write(t, row * columns, bytes_);
    }
    const auto scale = std::find_if(file_.tensors.begin(), file_.tensors.end(), [&](const ExportedTensor& other) {
      return other.is_scale && other.stored.name == t.stored.name + std::string(scale_suffix);
    });
    FOURMI_CHECK(scale != file_.tensors.end(), "no scales of {}", t.stored.name);
    write(*scale, 0, std::as_bytes(std::span(scales.values)));
  }

  Disk& disk_;
  const Checkpoint& checkpoint_;
  const ExportedFile& file_;
  FileWriter writer_;
  std::vector<float> values_;
  std::vector<std::byte> bytes_;
  std::int64_t bytes_read_ = 0;
};

}  // namespace

std::int64_t write_export_file(Disk& disk, const Checkpoint& checkpoint, const ExportedFile& file,
                               const std::filesystem::path& folder) {
  return FileExport(disk, checkpoint, file, folder).run();
}

}  // namespace fourmi::interop
