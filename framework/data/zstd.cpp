#include <fmt/format.h>
#include <zstd.h>

#include <memory>

#include "framework/data/text.h"
#include "kernels/runtime/error.h"

namespace fourmi {

void append_zstd(std::string_view data, const std::string& name, std::string& out) {
  constexpr std::size_t piece = std::size_t{1} << 20;
  const std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream(ZSTD_createDStream(), &ZSTD_freeDStream);
  if (!stream) throw Error(ExitStatus::environment, name, "zstd could not start, memory for a stream was expected");
  ZSTD_inBuffer in{data.data(), data.size(), 0};
  const auto fail = [&](const std::string& found) {
    throw Error(ExitStatus::input, fmt::format("{}: byte {}", name, in.pos), found + ", a whole zstd file was expected",
                "Fetch or install the file again.");
  };
  std::size_t left = 1;  // 0: a frame has ended
  while (true) {
    const std::size_t before = out.size();
    out.resize(before + piece);
    ZSTD_outBuffer to{out.data() + before, piece, 0};
    left = ZSTD_decompressStream(stream.get(), &to, &in);
    out.resize(before + to.pos);
    if (ZSTD_isError(left)) fail(fmt::format("corrupt zstd data ({})", ZSTD_getErrorName(left)));
    if (in.pos < in.size) continue;
    if (left == 0) return;
    if (to.pos < piece) fail("the file ends inside a compressed frame");
  }
}

}  // namespace fourmi
