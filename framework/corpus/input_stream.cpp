#include "framework/corpus/input_stream.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <new>
#include <span>
#include <string_view>
#include <utility>

#include "framework/data/input_file.h"
#include "framework/digest/sha256.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

constexpr std::size_t piece_bytes = std::size_t{1} << 20;
constexpr std::string_view gzip_magic = "\x1f\x8b", zstd_magic = "\x28\xb5\x2f\xfd";

class Decoder {
 public:
  virtual ~Decoder() = default;
  /// Takes from the front of `in`, puts into out[0, size) and returns how much; 0 with `in` used up: it wants more.
  virtual std::size_t decode(std::string_view& in, char* out, std::size_t size) = 0;
  /// Whether the input may end here.
  virtual bool complete() const = 0;
  virtual const char* name() const = 0;
};

struct Corrupt {
  std::string reason;
};

class Plain final : public Decoder {
 public:
  std::size_t decode(std::string_view& in, char* out, std::size_t size) override {
    const std::size_t n = in.copy(out, size);
    in.remove_prefix(n);
    return n;
  }
  bool complete() const override { return true; }
  const char* name() const override { return "text"; }
};

class Gzip final : public Decoder {
 public:
  Gzip() {
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) throw std::bad_alloc();
  }
  ~Gzip() override { inflateEnd(&stream_); }
  std::size_t decode(std::string_view& in, char* out, std::size_t size) override {
    if (ended_) {
      // Archives pad with zeros, and gzip itself accepts them; anything else must be a further member.
      in.remove_prefix(std::min(in.size(), in.find_first_not_of('\0')));
      if (in.empty()) return 0;
      inflateReset(&stream_);
      ended_ = false;
    }
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = static_cast<uInt>(in.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(size);
    const int result = inflate(&stream_, Z_NO_FLUSH);
    in.remove_prefix(in.size() - stream_.avail_in);
    if (result == Z_STREAM_END) {
      ended_ = true;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      throw Corrupt{stream_.msg != nullptr ? stream_.msg : "no detail"};
    }
    return size - stream_.avail_out;
  }
  bool complete() const override { return ended_; }
  const char* name() const override { return "gzip"; }

 private:
  z_stream stream_{};
  bool ended_ = false;
};

class Zstd final : public Decoder {
 public:
  Zstd() : stream_(ZSTD_createDStream(), &ZSTD_freeDStream) {
    if (!stream_) throw std::bad_alloc();
  }
  std::size_t decode(std::string_view& in, char* out, std::size_t size) override {
    if (in.empty() && left_ == 0) return 0;
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out, size, 0};
    left_ = ZSTD_decompressStream(stream_.get(), &to, &from);
    in.remove_prefix(from.pos);
    if (ZSTD_isError(left_)) throw Corrupt{ZSTD_getErrorName(left_)};
    return to.pos;
  }
  bool complete() const override { return left_ == 0; }
  const char* name() const override { return "zstd"; }

 private:
  std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream_;
  std::size_t left_ = 1;
};

}  // namespace

struct InputStream::State {
  explicit State(const std::filesystem::path& path) : file(path), raw(piece_bytes, '\0') {
    fill();
    if (rest.starts_with(gzip_magic))
      decoder = std::make_unique<Gzip>();
    else if (rest.starts_with(zstd_magic))
      decoder = std::make_unique<Zstd>();
    else
      decoder = std::make_unique<Plain>();
    for (const std::string_view ending : {".gz", ".zst"})
      if (path.extension() == ending && dynamic_cast<const Plain*>(decoder.get()) != nullptr)
        fail(fmt::format("{}, a whole {} file was expected", rest.empty() ? "an empty file" : "no header of one",
                         ending == ".gz" ? "gzip" : "zstd"));
  }

  void fill() {
    const std::size_t n = std::min<std::size_t>(raw.size(), static_cast<std::size_t>(file.size() - offset));
    file.read(offset, std::as_writable_bytes(std::span(raw.data(), n)));
    offset += static_cast<std::int64_t>(n);
    rest = std::string_view(raw).substr(0, n);
    sha.add(std::as_bytes(std::span(raw.data(), n)));
  }
  [[noreturn]] void fail(std::string what) const {
    throw Error(ExitStatus::input,
                fmt::format("{}: byte {}", file.path().string(), offset - static_cast<std::int64_t>(rest.size())),
                std::move(what), "Fetch or make the file again.");
  }

  InputFile file;
  std::string raw;
  std::string_view rest;  ///< of `raw`, not decoded yet
  std::int64_t offset = 0;
  Sha256 sha;
  std::unique_ptr<Decoder> decoder;
};

InputStream::InputStream(const std::filesystem::path& path) : state_(std::make_unique<State>(path)) {}
InputStream::~InputStream() = default;

bool InputStream::read(std::string& out) {
  State& s = *state_;
  const std::size_t before = out.size();
  out.resize(before + piece_bytes);
  while (true) {
    std::size_t n = 0;
    const std::size_t had = s.rest.size();
    try {
      n = s.decoder->decode(s.rest, out.data() + before, piece_bytes);
    } catch (const Corrupt& corrupt) {
      s.fail(fmt::format("corrupt data ({}), a whole {} file was expected", corrupt.reason, s.decoder->name()));
    }
    if (n > 0) {
      out.resize(before + n);
      return true;
    }
    if (!s.rest.empty() && s.rest.size() != had) continue;
    if (s.rest.empty() && s.offset < s.file.size()) {
      s.fill();
      continue;
    }
    if (!s.rest.empty() || !s.decoder->complete())
      s.fail(fmt::format("the file ends inside a compressed stream, a whole {} file was expected", s.decoder->name()));
    s.file.check_unchanged();
    out.resize(before);
    return false;
  }
}

std::int64_t InputStream::bytes_read() const {
  return state_->offset;
}

FileDigest InputStream::digest() {
  FOURMI_CHECK(state_->offset == state_->file.size(), "a digest before the end");
  return {state_->file.size(), state_->sha.finish()};
}

}  // namespace fourmi
