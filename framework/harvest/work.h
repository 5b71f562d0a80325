// What is still to be done, who does what, and what it may cost: shared by the threads that ask.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <string>

#include "framework/harvest/answer.h"
#include "framework/harvest/log.h"
#include "framework/harvest/plan.h"
#include "framework/harvest/records.h"
#include "framework/harvest/verifier.h"

namespace fourmi::harvest {

struct Job {
  std::size_t prompt = 0;
  std::int64_t sample = 0;
};

struct Progress {
  std::int64_t prompts = 0, prompts_done = 0, answers = 0, kept = 0, sent_again = 0;
  Money spent = 0;
};

class Work {
 public:
  using Clock = std::chrono::steady_clock;

  /// What a kill left open counts as spent: it may have been.
  Work(const Plan& plan, Log& log, Records& records);

  bool done() const;  ///< every prompt has what it needs
  bool out_of_budget() const;
  Progress progress() const;

  /// The next job; nullopt: there is none, or all is to stop.
  std::optional<Job> next();
  void finish(const Job& job);

  /// What the log has answered for the job; nullopt: it must be asked.
  std::optional<Answer> known_answer(const Job& job) const;

  /// Reserves what a request may cost, on the disk; its number, or nullopt: stop. Waits for others' outcomes where the
  /// budget is reserved, and where the endpoint asked for a pause.
  std::optional<std::int64_t> reserve(const Job& job);
  void answered(const Job& job, std::int64_t request, const Answer& answer, const std::string& request_id);
  void released(std::int64_t request, const std::string& why);
  void lost(std::int64_t request, const std::string& why);
  void judged(const Job& job, const Verdict& verdict);
  /// The verdict of an equal answer to the same prompt; nullopt: none.
  std::optional<Verdict> verdict_of_equal(const Job& job, const Answer& answer) const;

  /// Nobody asks before then, since the endpoint said so.
  void pause_until(Clock::time_point time);
  /// Waits; false: all is to stop.
  bool wait(std::chrono::milliseconds time);
  void stop();
  void fail(std::exception_ptr error);  ///< stop, for this reason
  void rethrow_failure() const;

 private:
  bool stopping() const { return stop_ || budget_spent_ || failure_; }
  bool needs(std::size_t prompt, std::vector<std::int64_t>& samples) const;
  std::int64_t append(const std::string& text);

  const Plan& plan_;
  Log& log_;
  Records& records_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  Clock::time_point not_before_{};
  std::int64_t running_ = 0, prompts_done_ = 0, kept_ = 0, sent_again_ = 0, overhead_ = 64;
  bool stop_ = false, budget_spent_ = false;
  std::exception_ptr failure_;
};

}  // namespace fourmi::harvest
