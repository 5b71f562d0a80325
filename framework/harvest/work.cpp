#include "framework/harvest/work.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include "kernels/runtime/error.h"

namespace fourmi::harvest {
namespace {

using Json = nlohmann::ordered_json;

/// 2026-11-23T20:15:00Z.
std::string now_utc() {
  const std::time_t now = std::time(nullptr);
  std::tm date{};
  ::gmtime_r(&now, &date);
  char text[32];
  return {text, std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &date)};
}

}  // namespace

Work::Work(const Plan& plan, Log& log, Records& records) : plan_(plan), log_(log), records_(records) {
  while (!records_.open().empty()) append(Records::lost(records_.open().begin()->first, "the harvest was killed"));
  // Sample by sample over all prompts, so that an early end leaves something of each.
  std::vector<Job> all;
  for (std::size_t p = 0; p < plan_.prompts.all.size(); ++p) {
    std::vector<std::int64_t> samples;
    if (!needs(p, samples)) ++prompts_done_;
    for (const std::int64_t sample : samples) all.push_back({p, sample});
    for (std::int64_t s = 0; s < plan_.harvest.samples; ++s)
      if (const Sample* known = records_.find(plan_.prompts.all[p].key, s))
        kept_ += known->by == plan_.rule && known->verdict == 1;
  }
  std::stable_sort(all.begin(), all.end(), [](const Job& a, const Job& b) { return a.sample < b.sample; });
  jobs_.assign(all.begin(), all.end());
}

std::int64_t Work::append(const std::string& text) {
  const std::int64_t offset = log_.append(text);
  records_.apply(offset, text, plan_.harvest.output);
  return offset;
}

/// Whether the prompt lacks answers or verdicts, and which can be worked on now.
bool Work::needs(std::size_t prompt, std::vector<std::int64_t>& samples) const {
  const auto keep = plan_.harvest.verify_keep;
  std::int64_t kept = 0;
  for (std::int64_t s = 0; s < plan_.harvest.samples; ++s) {
    if (keep && kept >= *keep) break;
    const Sample* known = records_.find(plan_.prompts.all[prompt].key, s);
    if (known != nullptr && known->by == plan_.rule) {
      kept += known->verdict == 1;
      continue;
    }
    samples.push_back(s);
    if (keep) break;  // whether the next one is needed depends on this one
  }
  return !samples.empty();
}

bool Work::done() const {
  std::lock_guard lock(mutex_);
  return prompts_done_ == std::ssize(plan_.prompts.all);
}

bool Work::out_of_budget() const {
  std::lock_guard lock(mutex_);
  return budget_spent_;
}

Progress Work::progress() const {
  std::lock_guard lock(mutex_);
  return {std::ssize(plan_.prompts.all), prompts_done_, records_.answers(), kept_, sent_again_, records_.spent()};
}

std::optional<Job> Work::next() {
  std::unique_lock lock(mutex_);
  // A job that runs may lead to another one.
  changed_.wait(lock, [&] { return stopping() || !jobs_.empty() || running_ == 0; });
  if (stopping() || jobs_.empty()) return std::nullopt;
  const Job job = jobs_.front();
  jobs_.pop_front();
  ++running_;
  return job;
}

void Work::finish(const Job& job) {
  std::lock_guard lock(mutex_);
  --running_;
  const Sample* known = records_.find(plan_.prompts.all[job.prompt].key, job.sample);
  if (known != nullptr && known->by == plan_.rule) {
    std::vector<std::int64_t> samples;
    if (!needs(job.prompt, samples))
      ++prompts_done_;
    else if (plan_.harvest.verify_keep)
      jobs_.push_back({job.prompt, samples.front()});
  }
  changed_.notify_all();
}

std::optional<Answer> Work::known_answer(const Job& job) const {
  std::lock_guard lock(mutex_);
  const Sample* known = records_.find(plan_.prompts.all[job.prompt].key, job.sample);
  if (known == nullptr) return std::nullopt;
  const Json record = Json::parse(log_.read(known->answer_at));
  Answer answer;
  answer.content = record.at("content");
  answer.reasoning = record.at("reasoning");
  answer.finish_reason = record.at("finish_reason");
  return answer;
}

std::optional<std::int64_t> Work::reserve(const Job& job) {
  std::unique_lock lock(mutex_);
  const Prompt& prompt = plan_.prompts.all[job.prompt];
  Money cost = 0;
  for (;;) {
    if (stopping()) return std::nullopt;
    if (Clock::now() < not_before_) {
      changed_.wait_until(lock, not_before_);
      continue;
    }
    cost = plan_.most_cost(prompt, overhead_);
    if (plan_.budget == 0 || records_.spent() + records_.reserved() + cost <= plan_.budget) break;
    if (records_.open().empty()) {
      budget_spent_ = true;
      changed_.notify_all();
      return std::nullopt;
    }
    changed_.wait(lock);
  }
  const std::int64_t request = records_.next_request();
  append(Records::reserve(request, prompt.key, job.sample, cost));
  lock.unlock();
  log_.sync();
  return request;
}

void Work::answered(const Job& job, std::int64_t request, const Answer& answer, const std::string& request_id) {
  std::lock_guard lock(mutex_);
  const Prompt& prompt = plan_.prompts.all[job.prompt];
  // Without the server's count the most that it could have been is what counts.
  const Money cost =
      answer.has_usage ? plan_.prices.of(answer.input_tokens, answer.output_tokens) : records_.open().at(request);
  // A template longer than thought: what is reserved from now on allows for it.
  overhead_ = std::max(overhead_, answer.input_tokens - std::ssize(prompt.text));
  Json record{{"type", "answer"}, {"request", request}, {"prompt", prompt.key}, {"sample", job.sample}, {"cost", cost}};
  record["usage"] = {answer.input_tokens, answer.output_tokens};
  record["digest"] = answer.digest();
  record["finish_reason"] = answer.finish_reason;
  record["model"] = answer.model.empty() ? plan_.teacher.model : answer.model;
  record["host"] = host_of(plan_.endpoint.url);
  record["request_id"] = request_id.empty() ? answer.id : request_id;
  record["time"] = now_utc();
  record["reasoning"] = answer.reasoning;
  record["content"] = answer.content;
  append(record.dump());
  changed_.notify_all();
}

void Work::released(std::int64_t request, const std::string& why) {
  std::lock_guard lock(mutex_);
  append(Records::release(request, why));
  ++sent_again_;
  changed_.notify_all();
}

void Work::lost(std::int64_t request, const std::string& why) {
  std::lock_guard lock(mutex_);
  append(Records::lost(request, why));
  ++sent_again_;
  changed_.notify_all();
}

void Work::judged(const Job& job, const Verdict& verdict) {
  std::lock_guard lock(mutex_);
  append(Records::verdict(plan_.prompts.all[job.prompt].key, job.sample, verdict.kept, plan_.rule, verdict.why));
  kept_ += verdict.kept;
}

std::optional<Verdict> Work::verdict_of_equal(const Job& job, const Answer& answer) const {
  std::lock_guard lock(mutex_);
  const std::string digest = answer.digest();
  for (std::int64_t s = 0; s < plan_.harvest.samples; ++s) {
    const Sample* other = s == job.sample ? nullptr : records_.find(plan_.prompts.all[job.prompt].key, s);
    if (other != nullptr && other->by == plan_.rule && other->digest == digest)
      return Verdict{false, fmt::format("the same as answer {}", s)};
  }
  return std::nullopt;
}

void Work::pause_until(Clock::time_point time) {
  std::lock_guard lock(mutex_);
  not_before_ = std::max(not_before_, time);
}

bool Work::wait(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, Clock::now() + time, [&] { return stopping(); });
  return !stopping();
}

void Work::stop() {
  std::lock_guard lock(mutex_);
  stop_ = true;
  changed_.notify_all();
}

void Work::fail(std::exception_ptr error) {
  std::lock_guard lock(mutex_);
  if (!failure_) failure_ = std::move(error);
  changed_.notify_all();
}

void Work::rethrow_failure() const {
  std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

}  // namespace fourmi::harvest
