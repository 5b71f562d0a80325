#include "framework/serve/batcher.h"

#include <algorithm>

#include "framework/serve/likelihood.h"

namespace fourmi {

Batcher::Batcher(Decoder& decoder, const Stream& stream, const Vocabulary& vocabulary, std::int64_t max_waiting)
    : decoder_(decoder),
      stream_(stream),
      vocabulary_(vocabulary),
      max_waiting_(max_waiting),
      texts_(static_cast<std::size_t>(decoder.sizes().texts)) {
  const DecoderSizes& s = decoder.sizes();
  FOURMI_CHECK(s.rows > s.texts && s.logit_rows > s.texts, "a step of {} tokens for {} texts", s.rows, s.texts);
  thread_ = std::thread([this] { run(); });
}

Batcher::~Batcher() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::shared_ptr<Writing> Batcher::write(TextRequest request) {
  const std::int64_t prompt = std::ssize(request.prompt);
  FOURMI_CHECK(prompt > 0 && request.max_tokens >= 0 && prompt + request.max_tokens <= max_tokens(),
               "a prompt of {} and {} tokens", prompt, request.max_tokens);
  auto writing = std::make_shared<Writing>(std::move(request));
  {
    const std::lock_guard lock(mutex_);
    if (ends_ || std::ssize(waiting_) >= max_waiting_) return nullptr;
    waiting_.push_back(writing);
  }
  changed_.notify_all();
  return writing;
}

Batcher::Load Batcher::load() const {
  const std::lock_guard lock(mutex_);
  return {std::ssize(waiting_), num_writing_};
}

std::string Batcher::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Batcher::run() {
  try {
    while (wait_for_work()) {
      admit();
      plan();
      if (runs_.empty()) continue;
      std::span<const double> logits = decoder_.step(stream_, runs_);
      const auto vocab = static_cast<std::size_t>(logits.empty() ? 0 : std::ssize(logits) / [&] {
        std::int64_t rows = 0;
        for (const DecoderRun& r : runs_) rows += r.logits;
        return rows;
      }());
      for (const DecoderRun& r : runs_) {
        const auto n = static_cast<std::size_t>(r.logits) * vocab;
        take(r, logits.first(n));
        logits = logits.subspan(n);
      }
    }
    end_all(Finish::cancelled);
  } catch (const std::exception& e) {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
      failure_ = e.what();
    }
    end_all(Finish::failed);
  }
}

/// False: there is no more work to wait for.
bool Batcher::wait_for_work() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return ends_ || num_writing_ > 0 || !waiting_.empty(); });
  return !ends_;
}

void Batcher::admit() {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < texts_.size() && !waiting_.empty();) {
    if (texts_[i].writing) {
      ++i;
      continue;
    }
    std::shared_ptr<Writing> next = std::move(waiting_.front());
    waiting_.pop_front();
    if (next->finish() != Finish::not_yet) continue;  // nobody waits for it any more
    decoder_.clear(static_cast<std::int64_t>(i));
    const std::vector<std::int32_t>& prompt = next->request().prompt;
    texts_[i] = {.writing = std::move(next), .tokens = prompt};
    ++num_writing_;
  }
}

/// Texts that are being written first: a token each. Then prompts, in as large pieces as fit.
void Batcher::plan() {
  runs_.clear();
  const DecoderSizes& sizes = decoder_.sizes();
  std::int64_t rows = sizes.rows, logits = sizes.logit_rows;
  for (bool prompts : {false, true})
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      Text& t = texts_[i];
      if (!t.writing || t.reading_prompt() != prompts) continue;
      if (t.writing->finish() != Finish::not_yet) {
        leave(t, Finish::cancelled);
        continue;
      }
      const std::int64_t left = std::ssize(t.tokens) - t.read;
      const bool scores = prompts && t.writing->request().score_prompt;
      const std::int64_t count = std::min({left, rows, scores ? logits : left});
      const std::int64_t wanted = scores ? count : count == left ? 1 : 0;
      if (count <= 0 || wanted > logits) continue;
      const auto first = static_cast<std::size_t>(t.read), n = static_cast<std::size_t>(count);
      runs_.push_back(
          {.text = static_cast<std::int64_t>(i), .tokens = std::span(t.tokens).subspan(first, n), .logits = wanted});
      rows -= count;
      logits -= wanted;
    }
}

void Batcher::take(const DecoderRun& run, std::span<const double> logits) {
  Text& t = texts_[static_cast<std::size_t>(run.text)];
  if (t.reading_prompt() && t.writing->request().score_prompt) score(t, t.read, logits);
  t.read += std::ssize(run.tokens);
  if (t.read < std::ssize(t.tokens)) return;
  const std::size_t vocab = logits.size() / static_cast<std::size_t>(run.logits);
  write_next(t, logits.last(vocab));
}

/// Log probabilities of the prompt's tokens: row i says what comes behind token first_row + i.
void Batcher::score(const Text& t, std::int64_t first_row, std::span<const double> logits) {
  const std::vector<std::int32_t>& prompt = t.writing->request().prompt;
  if (first_row == 0) t.writing->push({.token = prompt[0]});
  const std::int64_t rows = std::min(decoder_.num_tokens(&t - texts_.data()), std::ssize(prompt) - 1) - first_row;
  const auto vocab = logits.size() / static_cast<std::size_t>(decoder_.num_tokens(&t - texts_.data()) - first_row);
  for (std::int64_t i = 0; i < rows; ++i)
    t.writing->push(token_of(logits.subspan(static_cast<std::size_t>(i) * vocab, vocab),
                             prompt[static_cast<std::size_t>(first_row + i + 1)], t.writing->request().num_likeliest));
}

void Batcher::write_next(Text& t, std::span<const double> logits) {
  const TextRequest& r = t.writing->request();
  if (r.max_tokens == 0) return leave(t, Finish::length);
  const std::int32_t token = sample(logits, r.sampling, t.written, vocabulary_.size);
  const std::vector<std::int32_t>& ends = vocabulary_.ends;
  if (std::find(ends.begin(), ends.end(), token) != ends.end()) return leave(t, Finish::stop);
  t.writing->push(token_of(logits, token, r.num_likeliest));
  t.tokens.push_back(token);
  if (++t.written == r.max_tokens) leave(t, Finish::length);
}

void Batcher::leave(Text& t, Finish finish) {
  const std::shared_ptr<Writing> writing = std::move(t.writing);
  t = {};
  --num_writing_;
  writing->end(finish);  // last: who hears of it may look at the load
}

void Batcher::end_all(Finish finish) {
  for (Text& t : texts_)
    if (t.writing) leave(t, finish);
  const std::lock_guard lock(mutex_);
  for (const auto& w : waiting_) w->end(finish);
  waiting_.clear();
}

}  // namespace fourmi
