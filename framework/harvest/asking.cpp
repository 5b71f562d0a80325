#include "framework/harvest/asking.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "kernels/runtime/error.h"

namespace fourmi::harvest {
namespace {

bool may_help_to_ask_again(const Reply& reply) {
  if (reply.kind != Reply::Kind::refused) return true;
  const int s = reply.status;
  return s == 408 || s == 409 || s == 425 || s == 429 || s >= 500;
}

/// A refusal that stays one, with the key of the recipe that it is about.
Error refusal(const Plan& plan, const Prompt& prompt, const Reply& reply) {
  const Complaint said = parse_complaint(reply.body);
  const std::string found = fmt::format("{} answered status {}{}{}", host_of(plan.endpoint.url), reply.status,
                                        said.message.empty() ? "" : ": ", said.message);
  const int s = reply.status;
  if (s == 401 || s == 403)
    return Error(ExitStatus::input, "distill.teacher.api_key_file", found + "; a key that it takes was expected");
  if (s == 404 || said.param == "model")
    return Error(ExitStatus::usage,
                 s == 404 ? "distill.teacher.endpoint, distill.teacher.model" : "distill.teacher.model",
                 fmt::format("{}; a model `{}` was expected there", found, plan.teacher.model));
  for (const char* key : {"temperature", "top_p", "max_tokens"})
    if (said.param == key)
      return Error(ExitStatus::usage, fmt::format("distill.harvest.sampling.{}", key),
                   found + "; a value that it takes was expected");
  if (s == 400 || s == 413 || s == 422)
    return Error(ExitStatus::input, prompt.id, found + "; a prompt that it takes was expected",
                 "Take it out of the prompts, or look at distill.harvest.sampling; the same command goes on");
  return Error(ExitStatus::usage, "distill.teacher.endpoint",
               found + "; an endpoint for chat completions was expected");
}

class Asker {
 public:
  Asker(const Plan& plan, Work& work, std::uint64_t seed)
      : plan_(plan), work_(work), endpoint_(plan.endpoint), random_(seed) {}

  void run(const Job& job) {
    std::optional<Answer> answer = work_.known_answer(job);
    if (!answer) answer = ask(job);
    if (answer) work_.judged(job, judge(job, *answer));
  }

 private:
  /// nullopt: all is to stop.
  std::optional<Answer> ask(const Job& job) {
    const Prompt& prompt = plan_.prompts.all[job.prompt];
    const std::string body = plan_.request(prompt);
    for (int failures = 1;; ++failures) {
      const std::optional<std::int64_t> request = work_.reserve(job);
      if (!request) return std::nullopt;
      Reply reply = endpoint_.ask(body);
      if (reply.kind == Reply::Kind::answered) {
        if (std::optional<Answer> answer = parse_answer(reply.body)) {
          work_.answered(job, *request, *answer, reply.request_id);
          return answer;
        }
        reply.kind = Reply::Kind::lost;
        reply.problem = "an answer that is no chat completion";
      }
      reply.kind == Reply::Kind::lost ? work_.lost(*request, reply.problem) : work_.released(*request, reply.problem);
      if (!may_help_to_ask_again(reply)) throw refusal(plan_, prompt, reply);
      if (failures > plan_.harvest.retries)
        throw Error(
            ExitStatus::environment, host_of(plan_.endpoint.url),
            fmt::format("{} for {}, after {} tries; an answer was expected", reply.problem, prompt.id, failures),
            "Nothing that was answered is lost: the same command goes on");
      // Who asks for a pause asks it of everybody.
      if (reply.retry_after) work_.pause_until(Work::Clock::now() + *reply.retry_after);
      if (!work_.wait(plan_.backoff.delay(failures, reply.retry_after, random_))) return std::nullopt;
    }
  }

  Verdict judge(const Job& job, const Answer& answer) const {
    if (answer.content.empty()) return {false, "no text"};
    if (answer.finish_reason == "length" && !plan_.harvest.keep_unfinished) return {false, "cut off by max_tokens"};
    if (const std::optional<Verdict> known = work_.verdict_of_equal(job, answer)) return *known;
    if (plan_.harvest.verify_command.empty()) return {true, "answered"};
    const Prompt& prompt = plan_.prompts.all[job.prompt];
    nlohmann::ordered_json input{
        {"prompt", prompt.text}, {"reasoning", answer.reasoning}, {"answer", answer.content}, {"reference", nullptr}};
    if (!prompt.reference.empty()) input["reference"] = nlohmann::ordered_json::parse(prompt.reference);
    const double seconds = std::min(plan_.harvest.verify_timeout_seconds, 1e6);
    return verify(plan_.harvest.verify_command, input.dump() + "\n",
                  std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000)));
  }

  const Plan& plan_;
  Work& work_;
  Endpoint endpoint_;
  std::mt19937_64 random_;
};

}  // namespace

void ask_until_done(const Plan& plan, Work& work, std::uint64_t seed) {
  // A connection that the server closed is an error of the request, not the end of the process.
  sigset_t pipe;
  ::sigemptyset(&pipe);
  ::sigaddset(&pipe, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  try {
    Asker asker(plan, work, seed);
    while (const std::optional<Job> job = work.next()) {
      asker.run(*job);
      work.finish(*job);
    }
  } catch (...) {
    work.fail(std::current_exception());
  }
}

}  // namespace fourmi::harvest
