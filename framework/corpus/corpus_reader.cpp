#include "framework/corpus/corpus_reader.h"

#include <fmt/format.h>

#include <future>
#include <system_error>
#include <utility>

#include "framework/data/sources.h"
#include "kernels/runtime/error.h"

namespace fourmi {

std::string corpus_format(const std::filesystem::path& input, const std::string& format) {
  const std::string by_name = format_of_name(input.string());
  if (by_name == "bin")
    throw Error(ExitStatus::usage, input.string(), "a token file by its name, text or JSON lines were expected",
                "Token files are read as they are: name them in data.train");
  return format == "auto" ? by_name : format;
}

CorpusReader::CorpusReader(std::span<const std::filesystem::path> inputs, std::string format, std::int64_t block_bytes,
                           Start start)
    : inputs_(inputs), format_(std::move(format)), block_bytes_(block_bytes), at_(start) {
  std::error_code failure;
  for (const auto& input : inputs.first(start.input)) {
    const auto size = std::filesystem::file_size(input, failure);
    if (!failure) bytes_before_ += static_cast<std::int64_t>(size);
  }
}

CorpusBatch CorpusReader::next(std::int64_t bytes) {
  CorpusBatch batch;
  for (std::int64_t sum = 0; sum < bytes && at_.input < inputs_.size();) {
    const std::filesystem::path& input = inputs_[at_.input];
    if (!reader_)
      reader_ = std::make_unique<BlockReader>(input, corpus_format(input, format_) == "jsonl", block_bytes_,
                                              at_.decoded, at_.lines);
    CorpusPiece& piece = batch.pieces.emplace_back();
    piece.input = at_.input;
    if (reader_->next(piece.block)) {
      sum += std::ssize(piece.block.bytes);
    } else {
      piece.ended = reader_->stream().digest();
      bytes_before_ += piece.ended->bytes;
      reader_.reset();
      at_ = {at_.input + 1, 0, 0};
      ++sum;  // a thousand empty files are a batch too
    }
  }
  batch.bytes_read = bytes_before_ + (reader_ ? reader_->stream().bytes_read() : 0);
  return batch;
}

void CorpusReader::for_batches(std::int64_t bytes, const std::function<void(CorpusBatch&)>& work) {
  const auto ahead = [&] { return std::async(std::launch::async, [this, bytes] { return next(bytes); }); };
  for (std::future<CorpusBatch> coming = ahead();;) {
    CorpusBatch batch = coming.get();
    if (batch.pieces.empty()) return;
    coming = ahead();
    work(batch);
  }
}

}  // namespace fourmi
