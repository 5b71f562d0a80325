#include "framework/interop/card_facts.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/runtime/error.h"

namespace fourmi::interop {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::int64_t most_searched_bytes = std::int64_t{64} << 20;

/// The last line of a log of steps ({"step":N,...) about this step, among its last 64 MiB.
json line_of_step(const fs::path& log, std::int64_t step) {
  std::error_code absent;
  const auto size = static_cast<std::int64_t>(fs::file_size(log, absent));
  if (absent) return {};
  std::ifstream in(log, std::ios::binary);
  in.seekg(std::max<std::int64_t>(0, size - most_searched_bytes));
  const std::string begin = fmt::format("{{\"step\":{},", step);
  std::string line, found;
  while (std::getline(in, line))
    if (line.starts_with(begin)) found = line;
  return json::parse(found, nullptr, false);
}

std::optional<double> number(const json& line, const char* key) {
  if (!line.is_object() || !line.value(key, json()).is_number()) return std::nullopt;
  return line[key].get<double>();
}

}  // namespace

CardFacts card_facts(const Checkpoint& checkpoint, const KnownLineage& lineage, const fs::path& run) {
  CardFacts facts;
  facts.trace = lineage.trace;
  facts.problem = lineage.problem;
  if (run.empty()) return facts;
  const std::int64_t step = checkpoint.manifest.state.step;
  facts.loss = number(line_of_step(run / "metrics.jsonl", step), "loss");
  const json held_out = line_of_step(run / "evaluations.jsonl", step);
  facts.held_out_loss = number(held_out, "loss");
  facts.bits_per_byte = number(held_out, "bits_per_byte");
  return facts;
}

std::string card_license(const std::string& spdx) {
  static const std::set<std::string> known{"apache-2.0",
                                           "mit",
                                           "bsd",
                                           "bsd-2-clause",
                                           "bsd-3-clause",
                                           "cc",
                                           "cc0-1.0",
                                           "cc-by-2.0",
                                           "cc-by-3.0",
                                           "cc-by-4.0",
                                           "cc-by-sa-3.0",
                                           "cc-by-sa-4.0",
                                           "cc-by-nc-4.0",
                                           "cc-by-nc-sa-4.0",
                                           "cc-by-nd-4.0",
                                           "cc-by-nc-nd-4.0",
                                           "gpl",
                                           "gpl-2.0",
                                           "gpl-3.0",
                                           "lgpl",
                                           "lgpl-2.1",
                                           "lgpl-3.0",
                                           "agpl-3.0",
                                           "mpl-2.0",
                                           "afl-3.0",
                                           "artistic-2.0",
                                           "ecl-2.0",
                                           "epl-2.0",
                                           "eupl-1.1",
                                           "gfdl",
                                           "isc",
                                           "ms-pl",
                                           "ncsa",
                                           "odbl",
                                           "ofl-1.1",
                                           "openrail",
                                           "osl-3.0",
                                           "pddl",
                                           "postgresql",
                                           "unlicense",
                                           "wtfpl",
                                           "zlib",
                                           "llama2",
                                           "llama3",
                                           "llama3.1",
                                           "llama3.2",
                                           "llama3.3",
                                           "gemma",
                                           "bigscience-openrail-m",
                                           "creativeml-openrail-m",
                                           "openrail++",
                                           "cdla-permissive-1.0",
                                           "cdla-permissive-2.0",
                                           "cdla-sharing-1.0",
                                           "bsl-1.0"};
  std::string word;
  for (const char c : spdx) word += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  for (const std::string_view ending : {"-only", "-or-later"})
    if (word.ends_with(ending)) word.erase(word.size() - ending.size());
  return known.contains(word) ? word : std::string();
}

}  // namespace fourmi::interop
