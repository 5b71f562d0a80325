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
  explicit File(const std::filesystem::path& path) : path_(path.string()) {
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
      out = out.subspan(static_cast<std::size_t>(got));
      offset += got;
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ExitStatus::input, path_, what + ", a GGUF file that can be read was expected");
  }
  std::string path_;
  int file_ = -1;
  std::int64_t size_ = 0;
};

}  // namespace

GgufModel::GgufModel(const std::filesystem::path& file)
    : file_(std::make_unique<File>(file)),
      header_(read_gguf_header(*file_, file.string())),
      tensors_(llama_tensors(header_)) {}
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
  const GgufTypeInfo& info = info_of(tensor.type);
  std::vector<std::byte> stored;
  const auto read = [&](std::int64_t element, std::span<float> to) {
    const auto blocks = static_cast<std::int64_t>(to.size()) / info.block_elements;
    stored.resize(static_cast<std::size_t>(blocks * info.block_bytes));
    file_->read(tensor.begin + element / info.block_elements * info.block_bytes, stored);
    dequantize(tensor.type, stored, to);
  };
  if (tensor.shape.size() == 1) {  // a vector has no rows of whole blocks: all of it at once
    std::vector<float> all(static_cast<std::size_t>(tensor.rows()));
    read(0, all);
    for (std::int64_t r = 0; r < count; ++r)
      out[static_cast<std::size_t>(r)] = all[static_cast<std::size_t>(tensor.stored_row(begin + r))];
    return;
  }
  const auto columns = static_cast<std::size_t>(tensor.columns());
  // Rows in the file's order come in one piece.
  const std::int64_t together =
      tensor.head_rows > 0 ? 1 : std::max<std::int64_t>(1, (std::int64_t{1} << 20) / tensor.columns());
  for (std::int64_t r = 0; r < count; r += together) {
    const std::int64_t n = std::min(together, count - r);
    read(tensor.stored_row(begin + r) * tensor.columns(),
         out.subspan(static_cast<std::size_t>(r) * columns, static_cast<std::size_t>(n) * columns));
  }
}

std::string GgufModel::tokenizer_json() const {
  return gguf_tokenizer_json(header_);
}

}  // namespace fourmi::interop
