#include "framework/corpus/journal.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

using nlohmann::json;

json to_json(const CorpusCounts& c) {
  return json::array({c.documents, c.empty_documents, c.tokens, c.text_bytes, c.not_utf8, c.documents_cut});
}

CorpusCounts counts_of(const json& j) {
  return {j.at(0), j.at(1), j.at(2), j.at(3), j.at(4), j.at(5)};
}

/// Adds a commit's line, or changes nothing and throws.
void add_line(const std::string& line, CorpusProgress& p) {
  const json j = json::parse(line);
  CorpusProgress next{.input = j.at("input"),
                      .decoded = j.at("decoded"),
                      .lines = j.at("lines"),
                      .before = counts_of(j.at("before")),
                      .counts = counts_of(j.at("counts")),
                      .inputs = {},
                      .of_inputs = {},
                      .complete = j.at("complete")};
  for (const json& finished : j.at("finished")) {
    next.inputs.push_back({finished.at(0), finished.at(1)});
    next.of_inputs.push_back(counts_of(finished.at(2)));
  }
  if (p.inputs.size() + next.inputs.size() != next.input)
    throw json::other_error::create(500, "inputs are missing", &j);
  // What earlier lines tell of finished inputs is not told again.
  p.inputs.insert(p.inputs.end(), next.inputs.begin(), next.inputs.end());
  p.of_inputs.insert(p.of_inputs.end(), next.of_inputs.begin(), next.of_inputs.end());
  next.inputs.swap(p.inputs);
  next.of_inputs.swap(p.of_inputs);
  p = std::move(next);
}

}  // namespace

Journal::Journal(const std::filesystem::path& prefix, std::string header)
    : header_(std::move(header)), file_(prefix.string() + ".journal", std::nullopt) {
  const std::filesystem::path& path = file_.path();
  if (!file_.lock())
    throw Error(ExitStatus::environment, path.string(),
                "another process tokenizes to this prefix, a free one was expected",
                "Wait for it, or name another --out");
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const std::size_t first = text.find('\n');
  if (first == std::string::npos) return;
  if (text.substr(0, first) != header_) {
    is_another_ = true;
    return;
  }
  good_ = static_cast<std::int64_t>(first) + 1;
  CorpusProgress progress;
  for (std::size_t begin = first + 1, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    try {
      add_line(text.substr(begin, end - begin), progress);
    } catch (const json::exception&) {
      break;
    }
    found_ = true;
    good_ = static_cast<std::int64_t>(end) + 1;
  }
  told_ = progress.inputs.size();
  if (found_) progress_ = std::move(progress);
}

void Journal::begin() {
  file_.cut(good_);
  if (good_ > 0) return;
  file_.append(header_ + "\n");
  file_.sync();
  sync_folder_of(file_.path());
}

void Journal::commit(const CorpusProgress& p) {
  json finished = json::array();
  for (; told_ < p.inputs.size(); ++told_)
    finished.push_back({p.inputs[told_].bytes, p.inputs[told_].sha256, to_json(p.of_inputs[told_])});
  const json line{{"input", p.input},
                  {"decoded", p.decoded},
                  {"lines", p.lines},
                  {"before", to_json(p.before)},
                  {"counts", to_json(p.counts)},
                  {"complete", p.complete},
                  {"finished", finished}};
  file_.append(line.dump() + "\n");
  file_.sync();
}

void Journal::remove() {
  std::error_code failure;
  std::filesystem::remove(file_.path(), failure);
  if (failure) refuse_disk(file_.path(), "removing the file");
}

}  // namespace fourmi
