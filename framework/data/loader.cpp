#include "framework/data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "framework/data/permutation.h"
#include "framework/tokenizer/choose.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

constexpr std::int64_t synthetic_documents = std::int64_t{1} << 20;

std::string place_of(const DataSource& source) {
  return fmt::format("data.train.{}", source.name);
}

}  // namespace

std::vector<LoadedSource> load_sources(const std::vector<DataSource>& sources, const std::string& place) {
  std::vector<LoadedSource> loaded;
  for (const DataSource& source : sources) {
    LoadedSource one{source, nullptr};
    if (source.format == "text")
      one.text = std::make_shared<const Text>(read_text(source.path, fmt::format("{}.{}.path", place, source.name)));
    else if (source.format != "synthetic")
      throw Error(ExitStatus::usage, fmt::format("{}.{}.format", place, source.name),
                  fmt::format("'{}' was found, 'text' or 'synthetic' was expected", source.format));
    loaded.push_back(std::move(one));
  }
  return loaded;
}

Loader::Loader(const DataSection& data, const std::vector<LoadedSource>& train, std::uint64_t seed,
               std::int64_t vocab_size)
    : seed_(seed), global_batch_size_(data.global_batch_size) {
  const auto tokenizer = make_tokenizer(data, vocab_size);
  shape_ = {data.sequence_length, data.cross_document_attention, tokenizer->end_of_document()};
  double total = 0;
  for (const LoadedSource& source : train) total += source.recipe.weight;
  if (!(total > 0))
    throw Error(ExitStatus::usage, "data.train", "no source with a weight above 0, at least one was expected");
  for (const LoadedSource& source : train) {
    Supply supply;
    supply.name = source.recipe.name;
    supply.share = std::llround(source.recipe.weight / total * 4294967296.0);
    if (source.text == nullptr)
      supply.tokens =
          std::make_unique<SyntheticSource>(seed, supply.name, synthetic_documents, vocab_size, shape_.end_of_document);
    else
      supply.tokens = std::make_unique<ByteSource>(
          source.text, split_text(*source.text, data.holdout, place_of(source.recipe)).train, shape_.end_of_document,
          true);
    if (supply.tokens->num_tokens() < shape_.sequence_length)
      throw Error(ExitStatus::input, place_of(source.recipe),
                  fmt::format("{} training tokens were found, at least one sequence of {} was expected",
                              supply.tokens->num_tokens(), shape_.sequence_length),
                  "Give it more text, or choose a shorter data.sequence_length.");
    supply.num_windows = num_windows(*supply.tokens, shape_.sequence_length);
    total_share_ += supply.share;
    sources_.push_back(std::move(supply));
  }
}

Position Loader::start() const {
  Position position;
  for (const Supply& supply : sources_)
    position.sources.push_back(
        {.name = supply.name, .bytes = supply.tokens->num_bytes(), .checksum = supply.tokens->checksum()});
  return position;
}

Position Loader::resume(const Position& position, bool accept_changes) const {
  constexpr const char* remedy =
      "Bring the text back, or start with --accept-changes to go on with the text as it is now.";
  Position now = start();
  now.samples = position.samples;
  bool same_sources = position.sources.size() == now.sources.size();
  for (std::size_t i = 0; i < now.sources.size(); ++i) {
    SourcePosition& source = now.sources[i];
    const auto before = std::find_if(position.sources.begin(), position.sources.end(),
                                     [&](const SourcePosition& s) { return s.name == source.name; });
    if (before == position.sources.end()) {
      same_sources = false;
      continue;
    }
    same_sources = same_sources && before == position.sources.begin() + static_cast<std::ptrdiff_t>(i);
    const bool same_text = before->bytes == source.bytes && before->checksum == source.checksum;
    if (!same_text && !accept_changes)
      throw Error(ExitStatus::input, fmt::format("data.train.{}", source.name),
                  fmt::format("{} bytes of text with CRC-32 {:08x} were found, {} bytes with {:08x} were expected from "
                              "the checkpoint",
                              source.bytes, source.checksum, before->bytes, before->checksum),
                  remedy);
    source.epoch = before->epoch;
    source.index = before->index;
    source.samples = before->samples;
    source.credit = before->credit;
    if (source.index >= sources_[i].num_windows) {  // the text has become shorter: this pass is over
      source.index = 0;
      ++source.epoch;
    }
  }
  if (!same_sources && !accept_changes)
    throw Error(ExitStatus::input, "data.train",
                "other sources were found than the checkpoint has, the same were expected", remedy);
  if (!same_sources)
    for (SourcePosition& source : now.sources) source.credit = 0;
  return now;
}

std::size_t Loader::choose(Position& position) const {
  std::size_t best = 0;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    position.sources[i].credit += sources_[i].share;
    if (position.sources[i].credit > position.sources[best].credit) best = i;
  }
  position.sources[best].credit -= total_share_;
  return best;
}

void Loader::plan_step(const Position& position, StepPlan& step) const {
  plan(position, global_batch_size_, step);
}

StepPlan Loader::plan_step(const Position& position) const {
  return plan(position, global_batch_size_);
}

StepPlan Loader::plan(const Position& position, std::int64_t num_samples) const {
  StepPlan step;
  plan(position, num_samples, step);
  return step;
}

void Loader::plan(const Position& position, std::int64_t num_samples, StepPlan& step) const {
  FOURMI_CHECK(position.sources.size() == sources_.size(), "a position of {} sources for {}", position.sources.size(),
               sources_.size());
  step.samples.clear();
  step.num_targets = step.num_mtp_targets = 0;
  step.source_targets.assign(sources_.size(), 0);
  step.next = position;
  for (std::int64_t n = 0; n < num_samples; ++n) {
    const std::size_t chosen = choose(step.next);
    const Supply& supply = sources_[chosen];
    SourcePosition& source = step.next.sources[chosen];
    const std::int64_t window = Permutation(seed_, supply.name, source.epoch, supply.num_windows)(source.index);
    step.samples.push_back({static_cast<std::int32_t>(chosen), source.epoch, window});
    const std::int64_t targets = num_targets(*supply.tokens, shape_, window);
    step.num_targets += targets;
    step.source_targets[chosen] += targets;
    step.num_mtp_targets += num_mtp_targets(*supply.tokens, shape_, window);
    ++source.samples;
    if (++source.index == supply.num_windows) {
      source.index = 0;
      ++source.epoch;
    }
  }
  step.next.samples += num_samples;
}

Batch Loader::micro_batch(const StepPlan& step, std::int64_t rank, std::int64_t num_ranks, std::int64_t micro_batch,
                          std::int64_t num_sequences) const {
  Batch batch;
  this->micro_batch(step, rank, num_ranks, micro_batch, num_sequences, batch);
  return batch;
}

void Loader::micro_batch(const StepPlan& step, std::int64_t rank, std::int64_t num_ranks, std::int64_t micro_batch,
                         std::int64_t num_sequences, Batch& batch) const {
  const auto total = static_cast<std::int64_t>(step.samples.size());
  FOURMI_CHECK(total % (num_ranks * num_sequences) == 0, "{} samples for {} ranks with {} sequences a micro-batch",
               total, num_ranks, num_sequences);
  const std::int64_t of_rank = total / num_ranks, first = micro_batch * num_sequences;
  FOURMI_CHECK(rank >= 0 && rank < num_ranks && first >= 0 && first < of_rank, "micro-batch {} of rank {}", micro_batch,
               rank);
  this->batch(step, rank * of_rank + first, num_sequences, batch);
}

Batch Loader::batch(const StepPlan& step, std::int64_t first_sample, std::int64_t num_sequences) const {
  Batch batch;
  this->batch(step, first_sample, num_sequences, batch);
  return batch;
}

void Loader::batch(const StepPlan& step, std::int64_t first_sample, std::int64_t num_sequences, Batch& batch) const {
  empty_batch(shape_, num_sequences, batch);
  for (std::int64_t s = 0; s < num_sequences; ++s) {
    const Sample& sample = step.samples.at(static_cast<std::size_t>(first_sample + s));
    write_window(*sources_[static_cast<std::size_t>(sample.source)].tokens, shape_, sample.window, s, batch);
  }
}

std::int64_t Loader::tokens_per_epoch(std::int64_t source) const {
  return sources_.at(static_cast<std::size_t>(source)).tokens->num_tokens();
}

std::int64_t Loader::samples_per_epoch(std::int64_t source) const {
  return sources_.at(static_cast<std::size_t>(source)).num_windows;
}

std::int64_t Loader::samples_per_epoch() const {
  double samples = 0;
  for (const Supply& supply : sources_)
    if (supply.share > 0)
      samples = std::max(samples, std::ceil(static_cast<double>(supply.num_windows) *
                                            static_cast<double>(total_share_) / static_cast<double>(supply.share)));
  return static_cast<std::int64_t>(samples);
}

}  // namespace fourmi
