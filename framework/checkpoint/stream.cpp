#include "framework/checkpoint/stream.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace fourmi {
namespace {

constexpr std::align_val_t alignment{direct_block};

}  // namespace

void StreamBuffer::Free::operator()(std::byte* p) const {
  ::operator delete(p, alignment);
}

StreamBuffer::StreamBuffer() : data_(static_cast<std::byte*>(::operator new(size, alignment))) {}

StreamWriter::StreamWriter(Disk& disk, std::filesystem::path path) : file_(disk, std::move(path), PageCache::avoid) {}

void StreamWriter::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t n = std::min(bytes.size(), StreamBuffer::size - filled_);
    std::memcpy(buffer_.data() + filled_, bytes.data(), n);
    filled_ += n;
    bytes = bytes.subspan(n);
    if (filled_ < StreamBuffer::size) continue;
    file_.write({buffer_.data(), filled_}, written_);
    written_ += static_cast<std::int64_t>(filled_);
    filled_ = 0;
  }
}

void StreamWriter::finish() {
  const std::size_t whole = filled_ / direct_block * direct_block;
  if (whole > 0) file_.write({buffer_.data(), whole}, written_);
  if (filled_ > whole)
    file_.write({buffer_.data() + whole, filled_ - whole}, written_ + static_cast<std::int64_t>(whole));
  file_.finish();
}

StreamReader::StreamReader(Disk& disk, std::filesystem::path path) : file_(disk, std::move(path), PageCache::avoid) {}

std::span<const std::byte> StreamReader::next(std::size_t most) {
  if (begin_ == end_) {
    const auto left = static_cast<std::size_t>(file_.size() - read_);
    std::size_t n = std::min(left, StreamBuffer::size);
    if (n > direct_block) n = n / direct_block * direct_block;
    n = std::max<std::size_t>(n, 1);  // at the end: the read says what is wrong
    file_.read({buffer_.data(), n}, read_);
    read_ += static_cast<std::int64_t>(n);
    begin_ = 0;
    end_ = n;
  }
  const std::size_t n = std::min(most, end_ - begin_);
  return {buffer_.data() + std::exchange(begin_, begin_ + n), n};
}

}  // namespace fourmi
