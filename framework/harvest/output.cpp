#include "framework/harvest/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "framework/digest/sha256.h"
#include "framework/run/files.h"
#include "kernels/runtime/error.h"

namespace fourmi::harvest {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

/// A file that is written from its beginning to its end, with its digest.
class Writer {
 public:
  explicit Writer(fs::path path)
      : path_(std::move(path)), file_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
    if (!file_) refuse("opening");
  }
  void add(const std::string& text) {
    digest_.add(std::as_bytes(std::span(text)));
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t n = ::write(file_.get(), text.data() + done, text.size() - done);
      if (n < 0 && errno != EINTR) refuse("writing");
      if (n > 0) done += static_cast<std::size_t>(n);
    }
  }
  std::string finish() {
    if (::fsync(file_.get()) != 0) refuse("fsync");
    return digest_.finish();
  }

 private:
  [[noreturn]] void refuse(const char* what) const {
    throw Error(ExitStatus::environment, path_.string(),
                fmt::format("{} failed: {}, room for the messages was expected", what, std::strerror(errno)),
                "Make room; the same command goes on");
  }
  fs::path path_;
  files::Descriptor file_;
  Sha256 digest_;
};

std::string line_of(const Plan& plan, const Prompt& prompt, std::int64_t sample, const Json& answer) {
  Json said{{"role", "assistant"}};
  if (!answer.at("reasoning").get_ref<const std::string&>().empty()) said["reasoning_content"] = answer["reasoning"];
  said["content"] = answer.at("content");
  const Json messages = Json::array({{{"role", "user"}, {"content", prompt.text}}, said});
  const std::string digest = sha256(messages.dump());
  Json provenance{{"prompt_source", prompt.source},
                  {"prompt_id", prompt.id},
                  {"prompt_sha256", prompt.key},
                  {"prompt_license", prompt.license},
                  {"sample", sample},
                  {"teacher", plan.teacher.name},
                  {"model", answer.at("model")},
                  {"endpoint", answer.at("host")},
                  {"request_id", answer.at("request_id")},
                  {"sampling", Json::parse(plan.sampling)},
                  {"finish_reason", answer.at("finish_reason")},
                  {"time", answer.at("time")},
                  {"license", plan.teacher.license},
                  {"digest", digest}};
  return Json{{"messages", messages}, {"provenance", provenance}}.dump() + "\n";
}

/// Of all prompts, in their order.
std::string digest_of(const Prompts& prompts) {
  std::string lines;
  for (const Prompt& prompt : prompts.all) lines += prompt.key + '\n';
  return sha256(lines);
}

}  // namespace

fs::path messages_file(const fs::path& output) {
  return output / "messages.jsonl";
}
fs::path log_file(const fs::path& output) {
  return output / ".harvest" / "log";
}
fs::path state_file(const fs::path& output) {
  return output / ".harvest" / "state.json";
}

Written write_messages(const Plan& plan, const Log& log, const Records& records) {
  const fs::path output = plan.harvest.output, aside = output / ".harvest" / "messages.partial";
  Writer writer(aside);
  Written written;
  for (const Prompt& prompt : plan.prompts.all) {
    std::unordered_set<std::string> seen;
    for (std::int64_t s = 0; s < plan.harvest.samples; ++s) {
      const Sample* sample = records.find(prompt.key, s);
      if (sample == nullptr || sample->by != plan.rule || sample->verdict != 1) continue;
      if (plan.harvest.verify_keep && std::ssize(seen) >= *plan.harvest.verify_keep) break;
      if (!seen.insert(sample->digest).second) {
        ++written.duplicates;
        continue;
      }
      writer.add(line_of(plan, prompt, s, Json::parse(log.read(sample->answer_at))));
      ++written.lines;
    }
  }
  written.sha256 = writer.finish();
  std::error_code failure;
  fs::rename(aside, messages_file(output), failure);
  if (failure)
    throw Error(ExitStatus::environment, messages_file(output).string(),
                fmt::format("renaming failed: {}, a file was expected there", failure.message()));
  files::sync_folder(output);
  return written;
}

void write_state(const Plan& plan, const Log& log, const Progress& progress, const Written* written) {
  const fs::path path = state_file(plan.harvest.output);
  Json state{{"complete", written != nullptr && progress.prompts_done == progress.prompts}};
  state["prompts"] = progress.prompts;
  state["prompts_done"] = progress.prompts_done;
  state["prompts_sha256"] = digest_of(plan.prompts);
  state["answers"] = progress.answers;
  if (written != nullptr) {
    state["messages"] = {{"lines", written->lines}, {"sha256", written->sha256}};
  } else {  // those of a launch before, if there was one
    const auto before = files::read(path);
    const Json old = before ? Json::parse(*before, nullptr, false) : Json();
    const bool known = old.is_object() && old.contains("messages");
    state["messages"] = known ? old["messages"] : Json{{"lines", 0}, {"sha256", ""}};
  }
  state["log"] = {{"bytes", log.size()}, {"digest", log.digest()}};
  if (plan.prices.input_token > 0 || plan.prices.output_token > 0)
    state["spent"] = {{"cost", in_currency(progress.spent)}, {"currency", plan.harvest.currency}};
  state["sampling"] = Json::parse(plan.sampling);
  state["teacher"] = {{"name", plan.teacher.name},
                      {"model", plan.teacher.model},
                      {"endpoint", host_of(plan.teacher.endpoint)},
                      {"license", plan.teacher.license},
                      {"terms_sha256", plan.terms_sha256},
                      {"terms_url", plan.teacher.terms.url},
                      {"allows", plan.teacher.terms.allows},
                      {"obligations", plan.teacher.terms.obligations}};
  files::replace(path, state.dump(2) + "\n");
}

}  // namespace fourmi::harvest
