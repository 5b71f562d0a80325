#include "parallel/schedule/draw.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace fourmi {
namespace {

std::string label(const Action& a) {
  switch (a.verb) {
    case Verb::forward:
      return fmt::format("{}", a.pass.micro_batch);
    case Verb::backward:
    case Verb::backward_input:
      return fmt::format("({})", a.pass.micro_batch);
    case Verb::backward_weight:
      return fmt::format(".{}.", a.pass.micro_batch);
    case Verb::pair:
      return fmt::format("{}({})", a.pass.micro_batch, a.behind.micro_batch);
  }
  return "";
}

/// Columns for one unit of time, so that every label has room.
double columns_of_a_unit(const Schedule& s, const Simulation& sim) {
  double scale = 1;
  for (std::size_t r = 0; r < s.actions.size(); ++r)
    for (std::size_t i = 0; i < s.actions[r].size(); ++i) {
      const Interval& span = sim.spans[r][i];
      if (span.end > span.begin)
        scale = std::max(scale, (static_cast<double>(label(s.actions[r][i]).size()) + 1) / (span.end - span.begin));
    }
  return scale;
}

std::string_view colour(const Action& a) {
  constexpr std::array<std::string_view, 2> forward{"#9ecae1", "#4292c6"}, backward{"#a1d99b", "#41ab5d"},
      weight{"#fdd0a2", "#fd8d3c"};
  const std::size_t chunk = static_cast<std::size_t>(a.pass.chunk % 2);
  switch (a.verb) {
    case Verb::forward:
      return forward[chunk];
    case Verb::backward:
    case Verb::backward_input:
      return backward[chunk];
    case Verb::backward_weight:
      return weight[chunk];
    case Verb::pair:
      return "#bcbddc";
  }
  return "#000000";
}

}  // namespace

std::string draw_text(const Schedule& s, const Simulation& sim, int columns) {
  const double scale = columns_of_a_unit(s, sim);
  const std::string last_rank = fmt::format("rank {} ", s.num_ranks - 1);
  const auto margin = last_rank.size();
  const auto room = static_cast<std::size_t>(std::max(columns, 20)) - margin;
  std::string text;
  bool cut = false;
  for (std::size_t r = 0; r < s.actions.size(); ++r) {
    std::string line;
    for (std::size_t i = 0; i < s.actions[r].size(); ++i) {
      const Interval& span = sim.spans[r][i];
      const auto begin = static_cast<std::size_t>(std::lround(span.begin * scale)),
                 end = static_cast<std::size_t>(std::lround(span.end * scale));
      if (end > room) {
        cut = true;
        break;
      }
      line.resize(std::max(line.size(), begin), ' ');
      line += fmt::format("{:<{}}", label(s.actions[r][i]), end - begin);
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    text += fmt::format("{:<{}}{}\n", fmt::format("rank {}", r), margin, line);
  }
  if (cut) text += fmt::format("{:<{}}... to {:.4g}\n", "", margin, sim.makespan);
  return text;
}

std::string draw_svg(const Schedule& s, const Simulation& sim) {
  constexpr double row = 26, height = 22, margin = 64;
  const double scale = 9 * columns_of_a_unit(s, sim);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0f}\" height=\"{:.0f}\" font-family=\"monospace\" "
      "font-size=\"11\">\n",
      margin + sim.makespan * scale + 8, row * (s.num_ranks + 1));
  svg += fmt::format("<text x=\"4\" y=\"16\">{}: {} ranks, {} micro-batches, largest bubble {:.4g} of {:.4g}</text>\n",
                     s.name, s.num_ranks, s.num_micro_batches, sim.largest_bubble(), sim.makespan);
  for (std::size_t r = 0; r < s.actions.size(); ++r) {
    const double y = row * static_cast<double>(r + 1);
    svg += fmt::format("<text x=\"4\" y=\"{:.1f}\">rank {}</text>\n", y + 15, r);
    for (std::size_t i = 0; i < s.actions[r].size(); ++i) {
      const Interval& span = sim.spans[r][i];
      const double x = margin + span.begin * scale, width = (span.end - span.begin) * scale;
      svg += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.0f}\" fill=\"{}\" stroke=\"white\"/>", x, y,
          width, height, colour(s.actions[r][i]));
      svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n", x + width / 2, y + 15,
                         label(s.actions[r][i]));
    }
  }
  return svg + "</svg>\n";
}

}  // namespace fourmi
