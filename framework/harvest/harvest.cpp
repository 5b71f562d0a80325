#include "framework/harvest/harvest.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "framework/harvest/asking.h"
#include "framework/harvest/output.h"
#include "framework/run/files.h"
#include "kernels/runtime/error.h"

namespace fourmi::harvest {
namespace {

using nlohmann::json;

/// Answers of two teachers or two ways of sampling do not belong into one set.
void check_same(const Plan& plan, const std::string& header) {
  const json before = json::parse(header), now = json::parse(plan.header());
  for (const char* key : {"version", "teacher", "model", "sampling", "currency", "license", "terms"}) {
    if (before.value(key, json()) == now.at(key)) continue;
    throw Error(ExitStatus::usage, plan.harvest.output,
                fmt::format("the harvest there was begun with {} {}, {} was found in the recipe", key,
                            before.value(key, json()).dump(), now.at(key).dump()),
                "Name another distill.harvest.output, or take back the change");
  }
}

/// All that ask, until they have ended.
void ask_all(const Plan& plan, Work& work, const Log& log, const Watch& watch) {
  std::random_device device;
  std::atomic<std::int64_t> running{plan.harvest.concurrency};
  std::vector<std::jthread> threads;
  for (std::int64_t i = 0; i < plan.harvest.concurrency; ++i)
    threads.emplace_back([&, seed = (std::uint64_t{device()} << 32) | device()] {
      ask_until_done(plan, work, seed);
      --running;
    });
  bool stopped = false;
  auto said = std::chrono::steady_clock::now();
  while (running > 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (!stopped && watch.stop()) {
      stopped = true;
      work.stop();
      watch.say("no more is asked; answers under way are paid for and waited for, a second signal ends at once");
    }
    const auto now = std::chrono::steady_clock::now();
    if (now - said < watch.every) continue;
    said = now;
    write_state(plan, log, work.progress(), nullptr);
    watch.progress(work.progress());
  }
}

}  // namespace

Summary run_harvest(const Plan& plan, const Watch& watch) {
  const std::filesystem::path output = plan.harvest.output;
  files::make_folder(output / ".harvest");
  Records records;
  Log log(log_file(output), [&](std::int64_t offset, const std::string& text) {
    records.apply(offset, text, log_file(output).string());
  });
  if (log.cut_bytes() > 0)
    watch.say(fmt::format("{}: {} bytes of a record that was being written at a kill were cut off",
                          log_file(output).string(), log.cut_bytes()));
  if (records.header().empty()) {
    const std::string header = plan.header();
    records.apply(log.append(header), header, output.string());
  } else {
    check_same(plan, records.header());
  }
  if (!records.open().empty())
    watch.say(fmt::format("{} requests were under way at a kill: they are asked again, and count as spent",
                          records.open().size()));
  Work work(plan, log, records);
  if (!work.done()) {
    write_state(plan, log, work.progress(), nullptr);
    ask_all(plan, work, log, watch);
  }
  log.sync();
  work.rethrow_failure();

  Summary summary;
  summary.end = work.done() ? End::complete : work.out_of_budget() ? End::budget : End::stopped;
  const Written written = write_messages(plan, log, records);
  summary.progress = work.progress();
  write_state(plan, log, summary.progress, &written);
  summary.duplicate_prompts = plan.prompts.duplicates;
  summary.duplicate_answers = written.duplicates;
  summary.lines = written.lines;
  summary.input_tokens = records.input_tokens();
  summary.output_tokens = records.output_tokens();
  summary.syncs = log.num_syncs();
  summary.spent = records.spent();
  return summary;
}

}  // namespace fourmi::harvest
