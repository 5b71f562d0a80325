#include "framework/data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "framework/data/chat_documents.h"
#include "framework/data/made_with.h"
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

Loader::Loader(const DataSection& data, const std::vector<LoadedSource>& train, std::uint64_t seed,
               std::int64_t vocab_size, ThreadPool* pool)
    : seed_(seed), global_batch_size_(data.global_batch_size), repeat_(data.repeat) {
  const auto tokenizer = make_tokenizer(data, vocab_size);
  shape_ = window_shape(data, *tokenizer);
  double total = 0;
  for (const LoadedSource& source : train) total += source.recipe.weight;
  if (!(total > 0))
    throw Error(ExitStatus::usage, "data.train", "no source with a weight above 0, at least one was expected");
  for (const LoadedSource& source : train) {
    Supply supply = make_supply(data, source, *tokenizer, seed, vocab_size, pool);
    supply.share = std::llround(source.recipe.weight / total * 4294967296.0);
    total_share_ += supply.share;
    sources_.push_back(std::move(supply));
  }
}

Loader::Supply Loader::make_supply(const DataSection& data, const LoadedSource& source, const Tokenizer& tokenizer,
                                   std::uint64_t seed, std::int64_t vocab_size, ThreadPool* pool) {
  const std::string place = place_of(source.recipe);
  Supply supply;
  supply.name = source.recipe.name;
  if (source.synthetic()) {
    supply.windows = std::make_unique<StreamWindows>(
        std::make_unique<SyntheticSource>(seed, supply.name, synthetic_documents, vocab_size, shape_.opening), shape_);
    if (!shape_.packing && shape_.sequence_length < SyntheticSource::document && data.overlong != "truncate")
      throw Error(
          ExitStatus::input, place,
          fmt::format("made-up documents of {} tokens with data.packing: false, sequences as long were expected",
                      SyntheticSource::document),
          "Set data.packing: true, or data.overlong: truncate.");
  } else if (source.chat) {
    ChatDocuments documents = chat_documents_of(source, Side::train, data.holdout, data, tokenizer, place, pool);
    notes_.push_back(documents.note);
    supply.checksum = documents.checksum;
    supply.learns_a_part = true;
    if (std::string note = fit_conversations(data.overlong, data.sequence_length, place, documents); !note.empty())
      notes_.push_back(std::move(note));
    supply.windows = std::make_unique<ChatWindows>(std::move(documents), shape_);
  } else {
    check_made_with(source, data, place);
    Documents documents =
        documents_of(source, Side::train, data.holdout, tokenizer, vocab_size, place, pool, shape_.opening);
    if (!documents.note.empty()) notes_.push_back(documents.note);
    if (!shape_.packing) fit_documents(data, place, documents.pieces);
    supply.windows = std::make_unique<StreamWindows>(
        std::make_unique<DocumentSource>(std::move(documents.store), std::move(documents.pieces), shape_.opening, true),
        shape_);
  }
  supply.num_bytes = source.num_bytes();
  if (!source.chat) supply.checksum = source.checksum();
  supply.num_windows = supply.windows->num_windows();
  supply.num_tokens = supply.windows->all_inputs();
  if (shape_.packing && !source.chat && supply.num_tokens < shape_.sequence_length)
    throw Error(ExitStatus::input, place,
                fmt::format("{} training tokens were found, at least one sequence of {} was expected",
                            supply.num_tokens, shape_.sequence_length),
                "Give it more text, or choose a shorter data.sequence_length.");
  return supply;
}

void Loader::fit_documents(const DataSection& data, const std::string& place, std::vector<TextPiece>& documents) {
  // An opening token comes before them.
  const auto too_long = [&](const TextPiece& d) { return d.end - d.begin + 1 > shape_.sequence_length; };
  const std::int64_t count = std::count_if(documents.begin(), documents.end(), too_long);
  if (count == 0) return;
  const std::string found =
      fmt::format("{} of {} documents are longer than {} tokens", count, documents.size(), shape_.sequence_length - 1);
  if (data.overlong == "error")
    throw Error(ExitStatus::input, place,
                fmt::format("{} (the first is document {}), documents that fit into data.sequence_length were expected",
                            found, std::find_if(documents.begin(), documents.end(), too_long) - documents.begin()),
                "Set data.overlong to drop or truncate, or data.packing: true.");
  if (data.overlong == "drop") std::erase_if(documents, too_long);
  notes_.push_back(fmt::format("{}: {} and are {}", place, found, data.overlong == "drop" ? "left out" : "cut off"));
  if (documents.empty())
    throw Error(ExitStatus::input, place, found + ", some that fit into data.sequence_length were expected");
}

Position Loader::start() const {
  Position position;
  for (const Supply& supply : sources_)
    position.sources.push_back({.name = supply.name, .bytes = supply.num_bytes, .checksum = supply.checksum});
  return position;
}

Position Loader::resume(const Position& position, bool accept_changes) const {
  constexpr const char* remedy =
      "Bring the text back, or start with --accept-changes to go on with the text as it is now.";
  Position now = start();
  now.samples = position.samples;
  now.tokens = position.tokens;
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
    source.tokens = before->tokens;
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

std::size_t Loader::choose(const Position& position) const {
  // With what the next sample will give each of them, if it is a whole one.
  const auto claim = [&](std::size_t i) {
    return position.sources[i].credit + sources_[i].share * shape_.sequence_length;
  };
  std::size_t best = sources_.size();
  for (std::size_t i = 0; i < sources_.size(); ++i)
    if (!exhausted(position.sources[i]) && (best == sources_.size() || claim(i) > claim(best))) best = i;
  if (best == sources_.size())
    throw Error(ExitStatus::input, "data.repeat",
                fmt::format("every source has been read {} times, more text was expected", *repeat_),
                "Give it more text, raise data.repeat, or end the run earlier.");
  return best;
}

void Loader::pay(Position& position, std::size_t chosen, std::int64_t tokens) const {
  for (std::size_t i = 0; i < sources_.size(); ++i) position.sources[i].credit += sources_[i].share * tokens;
  position.sources[chosen].credit -= total_share_ * tokens;
}

void Loader::plan_step(const Position& position, StepPlan& step, std::optional<double> epochs) const {
  step.samples.reserve(static_cast<std::size_t>(global_batch_size_.most()));
  plan(position, global_batch_size_.at(position.tokens), step, epochs);
}

StepPlan Loader::plan_step(const Position& position) const {
  StepPlan step;
  plan_step(position, step);
  return step;
}

StepPlan Loader::plan(const Position& position, std::int64_t num_samples) const {
  StepPlan step;
  plan(position, num_samples, step);
  return step;
}

void Loader::plan(const Position& position, std::int64_t num_samples, StepPlan& step,
                  std::optional<double> epochs) const {
  FOURMI_CHECK(position.sources.size() == sources_.size(), "a position of {} sources for {}", position.sources.size(),
               sources_.size());
  step.samples.clear();
  step.num_inputs = step.num_targets = step.num_mtp_targets = step.num_rewritten = 0;
  step.rewritten = nullptr;
  step.source_inputs.assign(sources_.size(), 0);
  step.next = position;
  for (std::int64_t n = 0; n < num_samples; ++n) {
    if (epochs && finished(step.next, *epochs)) {
      step.samples.push_back({-1, 0, 0});
      continue;
    }
    const std::size_t chosen = choose(step.next);
    const Supply& supply = sources_[chosen];
    SourcePosition& source = step.next.sources[chosen];
    const std::int64_t window = Permutation(seed_, supply.name, source.epoch, supply.num_windows)(source.index);
    const std::int64_t tokens = supply.windows->num_inputs(window);
    step.samples.push_back({static_cast<std::int32_t>(chosen), source.epoch, window});
    step.num_inputs += tokens;
    step.source_inputs[chosen] += tokens;
    step.num_targets += supply.windows->num_targets(window);
    step.num_mtp_targets += supply.windows->num_mtp_targets(window);
    pay(step.next, chosen, tokens);
    ++step.next.samples;
    ++source.samples;
    source.tokens += tokens;
    if (++source.index == supply.num_windows) {
      source.index = 0;
      ++source.epoch;
    }
  }
  step.next.tokens += step.num_inputs;
}

bool Loader::finished(const Position& position, double epochs) const {
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const Supply& supply = sources_[i];
    const SourcePosition& source = position.sources[i];
    const double needed = std::ceil(epochs * static_cast<double>(supply.num_windows));
    const bool read = static_cast<double>(source.epoch * supply.num_windows + source.index) >= needed;
    if (supply.share > 0 && !read && !exhausted(source)) return false;
  }
  return true;
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
    if (sample.source < 0) continue;
    sources_[static_cast<std::size_t>(sample.source)].windows->write(sample.window, s, batch);
    if (step.rewritten) step.rewritten->write(first_sample + s, s, batch);
  }
}

std::int64_t Loader::tokens_per_epoch(std::int64_t source) const {
  return sources_.at(static_cast<std::size_t>(source)).num_tokens;
}

std::int64_t Loader::samples_per_epoch(std::int64_t source) const {
  return sources_.at(static_cast<std::size_t>(source)).num_windows;
}

std::int64_t Loader::num_inputs(const Sample& sample) const {
  return sample.source < 0 ? 0
                           : sources_.at(static_cast<std::size_t>(sample.source)).windows->num_inputs(sample.window);
}

std::int64_t Loader::first_token(const Sample& sample) const {
  if (sample.source < 0) return -1;
  return sources_.at(static_cast<std::size_t>(sample.source)).windows->first_token(sample.window);
}

double Loader::share(std::int64_t source) const {
  return static_cast<double>(sources_.at(static_cast<std::size_t>(source)).share) / static_cast<double>(total_share_);
}

double Loader::tokens_per_sample() const {
  double samples_a_token = 0;
  for (std::int64_t i = 0; i < num_sources(); ++i)
    samples_a_token += share(i) * static_cast<double>(samples_per_epoch(i)) / static_cast<double>(tokens_per_epoch(i));
  return 1 / samples_a_token;
}

double Loader::tokens_per_epoch() const {
  double tokens = 0;
  for (std::int64_t i = 0; i < num_sources(); ++i)
    if (share(i) > 0) tokens = std::max(tokens, static_cast<double>(tokens_per_epoch(i)) / share(i));
  return tokens;
}

void Loader::check_repeat(const Position& position, double tokens) const {
  if (!repeat_) return;
  for (std::int64_t i = 0; i < num_sources(); ++i) {
    const SourcePosition& source = position.sources[static_cast<std::size_t>(i)];
    const double windows = static_cast<double>(samples_per_epoch(i));
    const double read = static_cast<double>(source.epoch) + static_cast<double>(source.index) / windows;
    const double passes = read + share(i) * tokens / static_cast<double>(tokens_per_epoch(i));
    // Mixing is exact to within a few sequences; a source that has reached its limit gives no more (choose).
    const double slack = num_sources() > 1 ? static_cast<double>(num_sources()) / windows : 0;
    if (passes <= static_cast<double>(*repeat_) + slack + 1e-9) continue;
    throw Error(
        ExitStatus::input, fmt::format("data.train.{}", source.name),
        fmt::format("the run reads it {:.3f} times ({:.3f} until now, then a share of {:.4f} of {:.0f} tokens, of "
                    "which it has {} an epoch), at most data.repeat = {} were expected",
                    passes, read, share(i), tokens, tokens_per_epoch(i), *repeat_),
        "Give it more text or less weight, raise data.repeat, or end the run earlier.");
  }
}

}  // namespace fourmi
