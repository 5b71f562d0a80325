#include "framework/corpus/tokenize.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <system_error>
#include <utility>

#include "framework/corpus/corpus_reader.h"
#include "framework/corpus/encode_block.h"
#include "framework/corpus/finish.h"
#include "framework/corpus/part_file.h"
#include "framework/data/input_file.h"
#include "framework/tokenizer/encoder_shelf.h"
#include "kernels/runtime/error.h"
#include "kernels/runtime/thread_pool.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

CorpusCounts sum(const CorpusCounts& a, const CorpusCounts& b, std::int64_t sign) {
  return {a.documents + sign * b.documents, a.empty_documents + sign * b.empty_documents,
          a.tokens + sign * b.tokens,       a.text_bytes + sign * b.text_bytes,
          a.not_utf8 + sign * b.not_utf8,   a.documents_cut + sign * b.documents_cut};
}

class Job {
 public:
  Job(const Tokenizer& tokenizer, const TokenizeOptions& options)
      : tokenizer_(tokenizer),
        options_(options),
        type_(token_type_for(tokenizer.vocab_size())),
        encoders_(tokenizer),
        pool_(options.threads) {}

  TokenizeResult run() {
    FOURMI_CHECK(!options_.inputs.empty(), "no input");
    const std::string header = header_line();  // opens every input
    if (!fs::exists(name(".journal"))) refuse_existing();
    Journal journal(options_.prefix, header);
    if (journal.found()) {
      progress_ = journal.progress();
      result_.resumed = true;
    } else {
      refuse_existing();  // what is there may be older than another command's journal
      result_.begun_anew = journal.is_another();
    }
    journal.begin();
    if (!progress_.complete) {
      read_all(journal);
      if (progress_.counts.tokens == 0)
        throw Error(ExitStatus::input, options_.inputs.front().string(), "no token at all, at least one was expected");
      write_index_and_side_file(options_, tokenizer_, type_, progress_);
      progress_.complete = true;
      journal.commit(progress_);
    }
    take_names(options_.prefix);
    journal.remove();
    result_.counts = progress_.counts;
    return result_;
  }

 private:
  std::string name(const char* ending) const { return options_.prefix.string() + ending; }

  /// What is tokenized how. Another line here, and the work begins anew.
  std::string header_line() {
    nlohmann::ordered_json j{{"tokenizer", tokenizer_.name()},
                             {"sha256", options_.tokenizer_sha256},
                             {"end_of_document", tokenizer_.end_of_document()},
                             {"end_documents", options_.end_documents},
                             {"field", options_.field},
                             {"license", options_.license},
                             {"source", options_.source}};
    for (const fs::path& input : options_.inputs) {
      const InputFile file(input);
      all_bytes_ += file.size();
      std::error_code failure;
      const auto changed = fs::last_write_time(input, failure).time_since_epoch().count();
      j["inputs"].push_back({input.string(), corpus_format(input, options_.format), file.size(), changed});
    }
    return j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }

  void refuse_existing() const {
    std::error_code failure;
    if (options_.overwrite) return;
    for (const char* ending : {".bin", ".idx", ".json"})
      if (fs::exists(name(ending), failure))
        throw Error(ExitStatus::usage, name(ending), "it exists, a free name was expected",
                    "Name another --out, or take --overwrite");
  }

  /// Bytes of .bin and of the lengths that belong to the commit.
  std::int64_t bin_bytes() const { return progress_.counts.tokens * size_of(type_); }
  std::int64_t lengths_bytes() const {
    return (progress_.counts.documents - progress_.counts.empty_documents) *
           static_cast<std::int64_t>(sizeof(std::int32_t));
  }

  void read_all(Journal& journal) {
    const auto has = [&](const char* ending, std::int64_t bytes) {
      std::error_code failure;
      const auto size = fs::file_size(name(ending), failure);
      return !failure && static_cast<std::int64_t>(size) >= bytes;
    };
    if (result_.resumed && (!has(".bin.part", bin_bytes()) || !has(".lengths.part", lengths_bytes())))
      throw Error(ExitStatus::input, name(".bin.part"),
                  fmt::format("less than the {} bytes that {} tells of, what the last process left was expected",
                              bin_bytes(), name(".journal")),
                  fmt::format("Remove {} and start again", name(".journal")));
    bin_ = std::make_unique<PartFile>(name(".bin.part"), bin_bytes());
    lengths_ = std::make_unique<PartFile>(name(".lengths.part"), lengths_bytes());
    if (!result_.resumed) sync_folder_of(options_.prefix);
    CorpusReader reader(options_.inputs, options_.format, options_.block_bytes,
                        {progress_.input, progress_.decoded, progress_.lines});
    reader.for_batches(2 * options_.block_bytes * pool_.num_threads(), [&](CorpusBatch& batch) {
      encode_and_append(batch.pieces);
      if (options_.progress) options_.progress(batch.bytes_read, all_bytes_);
      if (since_commit_ >= options_.commit_bytes) commit(journal);
    });
    commit(journal);
    bin_.reset();
    lengths_.reset();
  }

  void commit(Journal& journal) {
    bin_->sync();
    lengths_->sync();
    journal.commit(progress_);
    since_commit_ = 0;
  }

  /// Blocks are encoded at once and appended in their order.
  void encode_and_append(std::span<CorpusPiece> pieces) {
    std::vector<EncodedBlock> encoded(pieces.size());
    std::vector<std::int64_t> sizes(pieces.size());
    for (std::size_t i = 0; i < pieces.size(); ++i) sizes[i] = std::ssize(pieces[i].block.bytes);
    pool_.parallel_for(std::ssize(pieces), 1, [&](std::int64_t begin, std::int64_t end) {
      std::unique_ptr<Encoder> encoder = encoders_.take();
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
        if (!pieces[i].ended)
          encoded[i] = encode_block(std::move(pieces[i].block), encode_options(pieces[i].input),
                                    tokenizer_.end_of_document(), *encoder);
      encoders_.give(std::move(encoder));
    });
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      if (pieces[i].ended) {
        finish_input(*pieces[i].ended);
        continue;
      }
      bin_->append(encoded[i].tokens);
      lengths_->append(std::as_bytes(std::span(encoded[i].lengths)));
      progress_.counts = sum(progress_.counts, encoded[i].counts, 1);
      progress_.decoded += sizes[i];
      progress_.lines += pieces[i].block.lines;
      since_commit_ += sizes[i];
      result_.text_bytes_here += encoded[i].counts.text_bytes;
    }
  }

  EncodeOptions encode_options(std::size_t input) const {
    return {.json_lines = corpus_format(options_.inputs[input], options_.format) == "jsonl",
            .field = options_.field,
            .name = options_.inputs[input].string(),
            .type = type_,
            .end_documents = options_.end_documents};
  }

  void finish_input(const FileDigest& digest) {
    const bool text = corpus_format(options_.inputs[progress_.input], options_.format) == "text";
    if (text && progress_.decoded == 0) {  // an empty text is a document too, of nothing
      ++progress_.counts.documents;
      ++progress_.counts.empty_documents;
    }
    progress_.inputs.push_back(digest);
    progress_.of_inputs.push_back(sum(progress_.counts, progress_.before, -1));
    progress_.before = progress_.counts;
    progress_.decoded = progress_.lines = 0;
    ++progress_.input;
  }

  const Tokenizer& tokenizer_;
  const TokenizeOptions& options_;
  const TokenType type_;
  EncoderShelf encoders_;
  ThreadPool pool_;
  std::unique_ptr<PartFile> bin_, lengths_;
  CorpusProgress progress_;
  TokenizeResult result_;
  std::int64_t all_bytes_ = 0;     ///< of the inputs
  std::int64_t since_commit_ = 0;  ///< decoded
};

}  // namespace

TokenizeResult tokenize_corpus(const Tokenizer& tokenizer, const TokenizeOptions& options) {
  return Job(tokenizer, options).run();
}

}  // namespace fourmi
