// fourmi gpu-check: everything that needs a GPU, verified and timed in one call that ends.
#include <errno.h>
#include <fmt/format.h>

#include <fstream>
#include <iostream>

#include "framework/run/host.h"
#include "launch/build_info.h"
#include "launch/commands.h"
#include "launch/gpu_check/table.h"

namespace fourmi {

namespace {

using namespace gpu_check;

struct Arguments {
  double minutes = 9;
  std::string json, part;
  std::vector<std::string> only;
  std::int64_t from = 0;
};

void write_json(const std::string& path, const Arguments& a, const std::vector<Row>& rows) {
  const BuildInfo& build = build_info();
  ordered_json all{{"fourmi", build.version}, {"commit", build.commit},     {"host", host_name()},
                   {"minutes", a.minutes},    {"all_fine", all_fine(rows)}, {"parts", rows_json(rows)}};
  std::ofstream file(path);
  file << all.dump(1, ' ', false, ordered_json::error_handler_t::replace) << "\n" << std::flush;
  if (!file)
    throw Error(ExitStatus::environment, path, "the figures could not be written, a file was expected",
                "Name another by --json");
}

/// The rows that a person looks at first: each product and memory-bound operation beside its ceiling.
void print_kernels(const Row& row) {
  if (!row.outcome.figures.contains("figures")) return;
  for (const ordered_json& f : row.outcome.figures["figures"]) {
    if (!f.contains("seconds")) continue;
    const bool product = f.contains("flops_per_second");
    std::cout << fmt::format("  {:<30} {:<34} {:>10.1f} us {:>8.1f} {:<8} {:>4.0f}% of the {}", f.value("name", ""),
                             f.value("shape", ""), f.value("seconds", 0.0) * 1e6,
                             f.value(product ? "flops_per_second" : "bytes_per_second", 0.0) * (product ? 1e-12 : 1e-9),
                             product ? "TFLOP/s" : "GB/s",
                             100 * f.value(product ? "share_of_matrix" : "share_of_copy", 0.0),
                             product ? "bf16 product" : "copy");
    if (f.contains("times_library"))
      std::cout << fmt::format(", {:.2f} times the library", f.value("times_library", 0.0));
    std::cout << "\n";
  }
}

ExitStatus check_all(const Arguments& a) {
  const Places places = find_places(program_invocation_name);
  const std::vector<Part> table = parts(places);
  require_names(table, a.only);
  require_gpu(places);
  if (!a.json.empty()) write_json(a.json, a, {});  // an unwritable file is found out now
  // Written after each part: what is known stays known.
  std::vector<Row> rows;
  run_parts(table, 60 * a.minutes, a.only, [&](const Row& row) {
    rows.push_back(row);
    std::cerr << row_text(row) << std::endl;
    if (!a.json.empty()) write_json(a.json, a, rows);
  });
  for (const Row& row : rows)
    if (row.name == "kernels") print_kernels(row);
  for (const Row& row : rows) std::cout << row_text(row) << "\n";
  return all_fine(rows) ? ExitStatus::ok : ExitStatus::bug;
}

}  // namespace

void add_gpu_check(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c = app.add_subcommand("gpu-check", "verifies and times on a GPU all that needs one, within a time");
  c->add_option("--minutes", a->minutes, "it ends within these")->check(CLI::Range(0.5, 600.0))->capture_default_str();
  c->add_option("--json", a->json, "a file for all figures, written after each part");
  std::string names;
  for (const Part& part : parts({}))
    names += fmt::format("\n  {}: {}, at most {:.0f} s", part.name, part.what, part.limit);
  c->add_option("--only", a->only, "some of the parts, with commas between:" + names)->delimiter(',');
  // Of the processes that this program starts.
  c->add_option("--part", a->part)->group("");
  c->add_option("--from", a->from)->group("");
  c->callback([a, &status] {
    status = ExitStatus::ok;
    a->part.empty() ? void(status = check_all(*a)) : measure_here(a->part, a->from);
  });
}

}  // namespace fourmi
