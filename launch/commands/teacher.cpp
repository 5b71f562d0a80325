// fourmi teacher harvest RECIPE: texts from a teacher behind an OpenAI-compatible endpoint.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "framework/harvest/harvest.h"
#include "framework/harvest/output.h"
#include "framework/interop/origin.h"
#include "framework/recipe/read.h"
#include "framework/run/signals.h"
#include "launch/commands.h"
#include "launch/commands/teacher_capture.h"

namespace fourmi {
namespace {

using harvest::End;

struct Arguments {
  std::string recipe;
  std::vector<std::string> overrides;
  bool json = false;
};

void say(const std::string& text) {
  std::cerr << "fourmi: " << text << std::endl;
}

std::string money(const harvest::Plan& plan, harvest::Money spent) {
  if (plan.prices.input_token == 0 && plan.prices.output_token == 0) return "";
  if (plan.budget == 0) return ", " + harvest::text_of(spent, plan.harvest.currency);
  return fmt::format(", {:.4f} of {}", harvest::in_currency(spent),
                     harvest::text_of(plan.budget, plan.harvest.currency));
}

std::string progress_line(const harvest::Plan& plan, const harvest::Progress& p) {
  return fmt::format("{} of {} prompts done, {} answers ({} kept), {} requests failed{}", p.prompts_done, p.prompts,
                     p.answers, p.kept, p.sent_again, money(plan, p.spent));
}

void report(const harvest::Plan& plan, const harvest::Summary& s, bool as_json) {
  const std::string file = harvest::messages_file(plan.harvest.output).string();
  const harvest::Progress& p = s.progress;
  if (as_json) {
    const nlohmann::ordered_json j{{"messages", file},
                                   {"complete", s.end == End::complete},
                                   {"lines", s.lines},
                                   {"prompts", p.prompts},
                                   {"prompts_done", p.prompts_done},
                                   {"answers", p.answers},
                                   {"failed_requests", p.sent_again},
                                   {"duplicate_prompts", s.duplicate_prompts},
                                   {"input_tokens", s.input_tokens},
                                   {"output_tokens", s.output_tokens},
                                   {"spent", harvest::in_currency(s.spent)},
                                   {"currency", plan.harvest.currency}};
    std::cout << j.dump() << "\n";
  } else {
    std::cout << fmt::format("{}: {} messages; {}\n", file, s.lines, progress_line(plan, p));
  }
  if (s.duplicate_prompts > 0)
    say(fmt::format("{} prompts stood there before and were asked once", s.duplicate_prompts));
  if (s.end == End::complete && s.lines == 0)
    say("warning: no answer was kept; look at distill.harvest.verify and sampling.max_tokens");
}

ExitStatus run(const Arguments& a) {
  const harvest::Plan plan = harvest::make_plan(load_recipe(a.recipe, a.overrides, 0, interop::origins()));
  if (!plan.endpoint.key.empty() && plan.endpoint.url.starts_with("http://") &&
      !harvest::host_of(plan.endpoint.url).starts_with("127.") &&
      !harvest::host_of(plan.endpoint.url).starts_with("localhost"))
    say("warning: the key goes to " + harvest::host_of(plan.endpoint.url) + " over http, where others can read it");
  const StopSignals signals;
  harvest::Watch watch;
  watch.stop = [] { return StopSignals::requested() != 0; };
  watch.progress = [&](const harvest::Progress& p) { say(progress_line(plan, p)); };
  watch.say = say;
  const harvest::Summary summary = harvest::run_harvest(plan, watch);
  report(plan, summary, a.json);
  switch (summary.end) {
    case End::complete:
      return ExitStatus::ok;
    case End::stopped:
      say("stopped on request; the same command goes on");
      return ExitStatus::stopped;
    case End::budget:
      say("the budget is spent: the next request could exceed it; a larger distill.harvest.budget.cost goes on");
      return ExitStatus::budget;
  }
  return ExitStatus::bug;
}

}  // namespace

void add_teacher(CLI::App& app, ExitStatus& status) {
  CLI::App* teacher = app.add_subcommand("teacher", "what a teacher gives a student to learn from");
  teacher->require_subcommand(1);
  auto a = std::make_shared<Arguments>();
  CLI::App* c = teacher->add_subcommand("harvest", "asks an OpenAI-compatible endpoint for texts, as the recipe says");
  c->add_option("RECIPE", a->recipe, "a file")->required();
  c->add_option("overrides", a->overrides, "section.key=value ...");
  c->add_flag("--json", a->json, "one JSON object says what was harvested");
  c->callback([a, &status] { status = run(*a); });
  add_teacher_capture(*teacher, status);
}

}  // namespace fourmi
