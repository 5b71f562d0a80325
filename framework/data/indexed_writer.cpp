#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "framework/data/indexed.h"
#include "framework/data/indexed_layout.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

constexpr std::size_t buffer_bytes = std::size_t{1} << 20;

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  throw Error(ExitStatus::environment, path.string(),
              fmt::format("{} failed ({}), a disk that can be written was expected", what, std::strerror(errno)),
              "Make room or name another place.");
}

void sync_folder_of(const std::filesystem::path& file) {
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail(folder, "opening the folder");
  const bool done = ::fsync(descriptor) == 0;
  ::close(descriptor);
  if (!done) fail(folder, "forcing the folder to the disk");
}

}  // namespace

/// A file that grows under the name PATH.tmp.
class IndexedWriter::Output {
 public:
  explicit Output(std::filesystem::path path) : path_(std::move(path)), aside_(path_.string() + ".tmp") {
    descriptor_ = ::open(aside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail(aside_, "creating the file");
    buffer_.reserve(buffer_bytes);
  }
  ~Output() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!named_) ::unlink(aside_.c_str());
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  template <class T>
  void put(const T& value) {
    const auto* bytes = reinterpret_cast<const char*>(&value);
    buffer_.insert(buffer_.end(), bytes, bytes + sizeof value);
    if (buffer_.size() >= buffer_bytes) flush();
  }
  /// All bytes are on the disk.
  void settle() {
    flush();
    if (::fsync(descriptor_) != 0) fail(aside_, "forcing the file to the disk");
    if (::close(std::exchange(descriptor_, -1)) != 0) fail(aside_, "closing the file");
  }
  void take_name() {
    if (::rename(aside_.c_str(), path_.c_str()) != 0) fail(path_, "renaming the file");
    named_ = true;
  }

 private:
  void flush() {
    for (std::size_t done = 0; done < buffer_.size();) {
      const ssize_t n = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(aside_, "writing");
      done += static_cast<std::size_t>(n);
    }
    buffer_.clear();
  }

  std::filesystem::path path_, aside_;
  std::vector<char> buffer_;
  int descriptor_ = -1;
  bool named_ = false;
};

IndexedWriter::IndexedWriter(std::filesystem::path prefix, TokenType type)
    : prefix_(std::move(prefix)), type_(type), bin_(std::make_unique<Output>(prefix_.string() + ".bin")) {}

IndexedWriter::~IndexedWriter() = default;

void IndexedWriter::add(std::span<const std::int32_t> document) {
  FOURMI_CHECK(bin_ != nullptr, "a document after finish()");
  const auto put_as = [&]<class T>(T) {
    for (const std::int32_t id : document) {
      if (!std::in_range<T>(id) || id < 0)
        throw Error(ExitStatus::input, fmt::format("{}.bin: document {}", prefix_.string(), num_documents()),
                    fmt::format("token id {}, an id that {} bytes a token can hold was expected", id, sizeof(T)));
      bin_->put(static_cast<T>(id));
    }
  };
  switch (type_) {
    case TokenType::u8:
      put_as(std::uint8_t{});
      break;
    case TokenType::i8:
      put_as(std::int8_t{});
      break;
    case TokenType::i16:
      put_as(std::int16_t{});
      break;
    case TokenType::u16:
      put_as(std::uint16_t{});
      break;
    case TokenType::i32:
      put_as(std::int32_t{});
      break;
    case TokenType::i64:
      put_as(std::int64_t{});
      break;
  }
  FOURMI_CHECK(std::in_range<std::int32_t>(document.size()), "a document of {} tokens", document.size());
  lengths_.push_back(static_cast<std::int32_t>(document.size()));
  num_tokens_ += std::ssize(document);
}

void IndexedWriter::finish() {
  FOURMI_CHECK(bin_ != nullptr, "finish() twice");
  const std::filesystem::path name = prefix_.string() + ".idx";
  Output idx(name);
  idx.put(indexed_layout::magic);
  idx.put(std::uint64_t{1});
  idx.put(type_);
  idx.put(std::uint64_t{lengths_.size()});
  idx.put(std::uint64_t{lengths_.size() + 1});
  for (const std::int32_t length : lengths_) idx.put(length);
  std::int64_t pointer = 0;
  for (const std::int32_t length : lengths_) {
    idx.put(pointer);
    pointer += length * size_of(type_);
  }
  for (std::int64_t d = 0; d <= num_documents(); ++d) idx.put(d);
  bin_->settle();
  idx.settle();
  // An old .idx must not be found beside the new .bin: first it goes, and the new one comes last.
  if (::unlink(name.c_str()) != 0 && errno != ENOENT) fail(name, "removing the old file");
  bin_->take_name();
  idx.take_name();
  sync_folder_of(name);
  bin_.reset();
}

}  // namespace fourmi
