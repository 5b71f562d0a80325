#include "framework/harvest/records.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "kernels/runtime/error.h"

namespace fourmi::harvest {
namespace {

using nlohmann::json;

/// Text that came from elsewhere may be no UTF-8.
std::string line_of(const nlohmann::ordered_json& record) {
  return record.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

void Records::apply(std::int64_t offset, const std::string& text, const std::string& log) {
  try {
    const json record = json::parse(text);
    if (header_.empty()) {
      if (record.at("type") != "harvest") throw std::runtime_error("no header");
      header_ = text;
    } else {
      take(offset, record);
    }
  } catch (const std::exception& problem) {  // of the JSON library, or below
    throw Error(ExitStatus::input, log,
                fmt::format("the record at byte {} says what cannot be ({}), a harvest's log was expected", offset,
                            problem.what()));
  }
}

Money Records::close(std::int64_t request) {
  const auto found = open_.find(request);
  if (found == open_.end()) throw std::runtime_error(fmt::format("request {} is not open", request));
  const Money cost = found->second;
  reserved_ -= cost;
  open_.erase(found);
  return cost;
}

void Records::take(std::int64_t offset, const json& record) {
  const std::string& type = record.at("type").get_ref<const std::string&>();
  if (type == "reserve") {
    const std::int64_t request = record.at("request");
    const Money cost = record.at("cost");
    if (request != next_request_ || cost < 0) throw std::runtime_error("a request out of its order");
    ++next_request_;
    open_.emplace(request, cost);
    reserved_ += cost;
  } else if (type == "answer") {
    Sample& sample = samples_[record.at("prompt")][record.at("sample")];
    if (sample.answer_at >= 0) throw std::runtime_error("a second answer");
    const Money cost = record.at("cost");
    close(record.at("request"));
    spent_ += cost;
    sample.answer_at = offset;
    sample.digest = record.at("digest");
    ++answers_;
    input_tokens_ += record.at("usage").at(0).get<std::int64_t>();
    output_tokens_ += record.at("usage").at(1).get<std::int64_t>();
  } else if (type == "release") {
    close(record.at("request"));
  } else if (type == "lost") {
    spent_ += close(record.at("request"));
  } else if (type == "verdict") {
    Sample& sample = samples_[record.at("prompt")][record.at("sample")];
    const std::string& by = record.at("by").get_ref<const std::string&>();
    if (sample.answer_at < 0) throw std::runtime_error("a verdict on no answer");
    if (sample.by == by) throw std::runtime_error("a second verdict");
    sample.by = by;
    sample.verdict = record.at("kept").get<bool>() ? 1 : 0;
  } else {
    throw std::runtime_error("a record of no known type");
  }
}

const Sample* Records::find(const std::string& prompt, std::int64_t sample) const {
  const auto of_prompt = samples_.find(prompt);
  if (of_prompt == samples_.end()) return nullptr;
  const auto found = of_prompt->second.find(sample);
  return found == of_prompt->second.end() ? nullptr : &found->second;
}

std::string Records::reserve(std::int64_t request, const std::string& prompt, std::int64_t sample, Money cost) {
  return line_of({{"type", "reserve"}, {"request", request}, {"prompt", prompt}, {"sample", sample}, {"cost", cost}});
}

std::string Records::release(std::int64_t request, const std::string& why) {
  return line_of({{"type", "release"}, {"request", request}, {"why", why}});
}

std::string Records::lost(std::int64_t request, const std::string& why) {
  return line_of({{"type", "lost"}, {"request", request}, {"why", why}});
}

std::string Records::verdict(const std::string& prompt, std::int64_t sample, bool kept, const std::string& by,
                             const std::string& why) {
  return line_of(
      {{"type", "verdict"}, {"prompt", prompt}, {"sample", sample}, {"kept", kept}, {"by", by}, {"why", why}});
}

}  // namespace fourmi::harvest
