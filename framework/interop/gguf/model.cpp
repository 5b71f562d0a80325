#include "framework/interop/gguf/model.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "framework/interop/gguf/vocabulary.h"
#include "kernels/runtime/error.h"

namespace fourmi::interop {
namespace {

/// A file that is read by position, so that several threads may, and that is not mapped: one that is cut short under us
/// is an error, never a signal.
class File final : public ByteSource {
 public:
  File(const std::filesystem::path& path, std::atomic<std::int64_t>& bytes_read)
      : path_(path.string()), bytes_read_(bytes_read) {
    file_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat about {};
    const bool known = file_ >= 0 && ::fstat(file_, &about) == 0;
    if (known && S_ISREG(about.st_mode)) {
      size_ = about.st_size;
      return;
    }
    const std::string what = known ? "no regular file" : std::strerror(errno);
    if (file_ >= 0) ::close(file_);
    refuse(what);
  }
  ~File() override { ::close(file_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  std::int64_t size() const override { return size_; }
  void read(std::int64_t offset, std::span<std::byte> out) const override {
    while (!out.empty()) {
      const ssize_t got = ::pread(file_, out.data(), out.size(), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) refuse(got < 0 ? std::strerror(errno) : "it has become shorter while it was read");
      bytes_read_ += got;
      out = out.subspan(static_cast<std::size_t>(got));
      offset += got;
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ExitStatus::input, path_, what + ", a GGUF file that can be read was expected");
  }
  std::string path_;
  std::atomic<std::int64_t>& bytes_read_;
  int file_ = -1;
  std::int64_t size_ = 0;
};

}  // namespace

GgufModel::GgufModel(const std::filesystem::path& file)
    : file_(std::make_unique<File>(file, bytes_read_)),
      header_(read_gguf_header(*file_, file.string())),
      tensors_(llama_tensors(header_)) {
  // The header came in pieces, the last of which held numbers too: those are read again, and counted then.
  if (!header_.tensors.empty()) bytes_read_ = header_.tensors.front().begin;
}
GgufModel::~GgufModel() = default;

const LlamaTensor* GgufModel::find(std::string_view name) const {
  const auto found = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                      [](const LlamaTensor& t, std::string_view n) { return t.name < n; });
  return found == tensors_.end() || found->name != name ? nullptr : &*found;
}

void GgufModel::read_rows(const LlamaTensor& tensor, std::int64_t begin, std::int64_t count,
                          std::span<float> out) const {
  FOURMI_CHECK(begin >= 0 && count >= 0 && begin + count <= tensor.rows() &&
                   static_cast<std::int64_t>(out.size()) == count * tensor.columns(),
               "rows [{}, {}) of {}", begin, begin + count, tensor.name);
  read_elements(tensor, begin * tensor.columns(), out);
}

void GgufModel::read_elements(const LlamaTensor& tensor, std::int64_t first, std::span<float> out) const {
  const std::int64_t columns = tensor.columns(), count = static_cast<std::int64_t>(out.size());
  FOURMI_CHECK(first >= 0 && first + count <= tensor.rows() * columns, "elements [{}, {}) of {}", first, first + count,
               tensor.name);
  if (tensor.head_rows == 0) return read_stored(tensor, first, out);
  if (columns == 1) {  // a bias, whose rows are no blocks of their own: all of it at once
    std::vector<float> all(static_cast<std::size_t>(tensor.rows()));
    read_stored(tensor, 0, all);
    for (std::int64_t i = 0; i < count; ++i)
      out[static_cast<std::size_t>(i)] = all[static_cast<std::size_t>(tensor.stored_row(first + i))];
    return;
  }
  for (std::int64_t done = 0; done < count;) {  // row by row: neighbours here are none in the file
    const std::int64_t row = (first + done) / columns, column = (first + done) % columns,
                       n = std::min(columns - column, count - done);
    read_stored(tensor, tensor.stored_row(row) * columns + column,
                out.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(n)));
    done += n;
  }
}

void GgufModel::read_stored(const LlamaTensor& tensor, std::int64_t first, std::span<float> out) const {
  const GgufTypeInfo& info = info_of(tensor.type);
  const std::int64_t block = info.block_elements, at_once = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / block);
  std::vector<std::byte> stored;
  std::vector<float> whole;
  for (std::size_t done = 0; done < out.size();) {
    const std::int64_t begin = first + static_cast<std::int64_t>(done), inside = begin % block,
                       left = static_cast<std::int64_t>(out.size() - done),
                       blocks = std::min(at_once, (inside + left + block - 1) / block),
                       n = std::min(left, blocks * block - inside);
    stored.resize(static_cast<std::size_t>(blocks * info.block_bytes));
    file_->read(tensor.begin + begin / block * info.block_bytes, stored);
    const std::span<float> to = out.subspan(done, static_cast<std::size_t>(n));
    if (n == blocks * block) {
      dequantize(tensor.type, stored, to);
    } else {
      whole.resize(static_cast<std::size_t>(blocks * block));
      dequantize(tensor.type, stored, whole);
      std::copy_n(whole.begin() + inside, n, to.begin());
    }
    done += static_cast<std::size_t>(n);
  }
}

std::string GgufModel::tokenizer_json() const {
  return gguf_tokenizer_json(header_);
}

}  // namespace fourmi::interop
