#include "framework/train/rollbacks.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "framework/checkpoint/agree.h"
#include "framework/run/files.h"

namespace fourmi {

namespace {

constexpr const char* file_name = "rollbacks.jsonl";

std::string to_line(const Rollback& r) {
  return nlohmann::ordered_json{{"step", r.step},     {"bad_step", r.bad_step},
                                {"launch", r.launch}, {"root", r.root},
                                {"why", r.why},       {"state", nlohmann::ordered_json::parse(r.state)}}
             .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
         "\n";
}

Rollback from_line(const std::string& line, const std::string& place) {
  try {
    const auto j = nlohmann::ordered_json::parse(line);
    return {j.at("launch").get<std::int64_t>(), j.at("bad_step").get<std::int64_t>(), j.at("step").get<std::int64_t>(),
            j.at("root").get<std::string>(),    j.at("why").get<std::string>(),       j.at("state").dump()};
  } catch (const nlohmann::json::exception& failure) {
    throw Error(ExitStatus::input, place, fmt::format("{}, expected a line that a rollback wrote", failure.what()),
                "Remove the file to forget the rollbacks: their data is then trained on again");
  }
}

}  // namespace

Rollbacks::Rollbacks(const RunContext& context) : context_(context) {
  const std::string path = (context.directory / file_name).string();
  std::string text;
  agreed(context.group, [&] {
    if (context.first()) text = files::read(path).value_or("");
  });
  broadcast_text(context.group, text, 0);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) all_.push_back(from_line(line, path));
}

const Rollback* Rollbacks::last_to(const std::string& root) const {
  for (std::size_t i = all_.size(); i-- > 0;)
    if (all_[i].root == root) return &all_[i];
  return nullptr;
}

void Rollbacks::add(Rollback rollback) {
  all_.push_back(std::move(rollback));
  agreed(context_.group, [&] {
    if (!context_.first()) return;
    std::string text;
    for (const Rollback& r : all_) text += to_line(r);
    files::replace(context_.directory / file_name, text);
  });
}

}  // namespace fourmi
