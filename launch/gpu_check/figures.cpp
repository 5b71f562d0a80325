#include "launch/gpu_check/figures.h"

#include <fmt/format.h>

#include <cstdio>
#include <sstream>

namespace fourmi::gpu_check {

void tell_parent(const ordered_json& figure) {
  const std::string line = figure.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  std::fputs(line.c_str(), stdout);
  std::fflush(stdout);
}

Figures read_figures(const std::string& output, bool cut) {
  Figures figures;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    if (cut && lines.eof()) break;
    const ordered_json figure = ordered_json::parse(line, nullptr, false);
    if (!figure.is_object()) {
      if (figures.trouble.empty()) figures.trouble = line.substr(0, 80);
      continue;
    }
    if (figure.contains("begin") && figure["begin"].is_string()) {
      figures.begun = figure["begin"];
      figures.number = figure.value("number", std::int64_t{-1});
      continue;
    }
    figures.begun.clear();
    figures.lines.push_back(figure);
  }
  return figures;
}

Outcome run_measuring(const Job& job, const std::string& program, const std::string& part, double silence) {
  Outcome outcome{Verdict::passed, "", {}};
  ordered_json all = ordered_json::array(), failures = ordered_json::array();
  constexpr int most_starts = 6;
  std::int64_t from = 0;
  for (int start = 0; start < most_starts; ++start) {
    const ChildEnd end = job.run({program, "gpu-check", "--part", part, "--from", std::to_string(from)},
                                 {.seconds = job.left(), .silence = silence});
    const Figures figures = read_figures(end.output, end.how != ChildEnd::How::exited);
    for (const ordered_json& line : figures.lines) {
      all.push_back(line);
      if (line.contains("error")) failures.push_back({{"what", line.value("name", "?")}, {"how", line["error"]}});
    }
    if (end.well() && figures.trouble.empty() && figures.begun.empty()) break;
    if (end.how == ChildEnd::How::late) {
      outcome.verdict = Verdict::no_time;
      failures.push_back(
          {{"what", figures.begun.empty() ? part : figures.begun}, {"how", "not measured: no time left"}});
      break;
    }
    const bool hung = end.how == ChildEnd::How::hung || end.how == ChildEnd::How::stuck;
    outcome.verdict = hung ? Verdict::hung : outcome.verdict == Verdict::hung ? Verdict::hung : Verdict::failed;
    const std::string how =
        !figures.trouble.empty() ? fmt::format("printed what is no figure: {}", figures.trouble) : describe(end);
    failures.push_back(
        {{"what", figures.begun.empty() ? part : figures.begun}, {"how", how}, {"said", last_words(end)}});
    if (figures.number < from || end.how == ChildEnd::How::stuck || job.left() < silence) break;
    from = figures.number + 1;
  }
  if (all.empty() && failures.empty()) failures.push_back({{"what", part}, {"how", "told no figure"}});
  if (outcome.verdict == Verdict::passed && !failures.empty()) outcome.verdict = Verdict::failed;
  outcome.text = fmt::format("{} figures", all.size());
  if (!failures.empty()) {
    outcome.text +=
        fmt::format("; {}: {}", failures[0]["what"].get<std::string>(), failures[0]["how"].get<std::string>());
    if (failures.size() > 1) outcome.text += fmt::format(" (and {} more)", failures.size() - 1);
  }
  outcome.figures = {{"figures", all}, {"failures", failures}};
  return outcome;
}

}  // namespace fourmi::gpu_check
