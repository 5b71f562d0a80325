#include "framework/ledger/card.h"

#include <fmt/format.h>

#include <filesystem>
#include <set>

#include "framework/ledger/policy.h"

namespace fourmi {

namespace {

std::string one_line(const std::string& text, std::size_t most) {
  std::string result;
  for (const char c : text.substr(0, most)) {
    if (c == '|' || c == '<' || c == '`' || c == '[' || c == ']') result += '\\';
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result;
}

std::string listed(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : "; ") + one_line(word, 200);
  return list;
}

std::string teachers_of(const Trace& t) {
  if (t.teachers.empty()) return {};
  std::string text =
      "## Whom it learned from\n\n| teacher | by | licence | its terms allow | they ask | root digest |\n"
      "|---|---|---|---|---|---|\n";
  for (const TeacherFact& f : t.teachers)
    text += fmt::format("| {} | {} | {} | {} | {} | {} |\n", card_cell(name_of(f)), card_cell(f.objective),
                        card_cell(f.license), card_cell(listed(f.allows)),
                        f.obligations.empty() ? "nothing" : card_cell(listed(f.obligations)),
                        f.root.empty() ? "none" : card_cell(f.root));
  text += "\n";
  for (const Obligations::Asked& asked : obligations_of(t.teachers).others)
    text += fmt::format("{} asks, and nothing here checks it: {}\n\n", card_cell(asked.teacher),
                        one_line(asked.text, 2000));
  return text;
}

std::string imports_of(const Trace& t) {
  if (t.imports.empty()) return {};
  std::string text =
      "## Weights that another program made\n\nWhat they were trained on is not recorded here.\n\n"
      "| base model | licence, as its card says | stored as | SHA-256 of its one file |\n|---|---|---|---|\n";
  for (const ImportFact& i : t.imports)
    text += fmt::format("| {} | {} | {} | {} |\n", card_cell(name_of(i)), card_cell(i.license), card_cell(i.dtype),
                        i.sha256.empty() ? "not recorded" : card_cell(i.sha256));
  return text + "\n";
}

std::string runs_of(const Trace& t) {
  if (t.runs.size() < 2) return {};
  std::string text = "## Runs that led to it\n\n| run | steps | tokens | launches |\n|---|---|---|---|\n";
  for (const TracedRun& r : t.runs)
    text += fmt::format("| {} | {} | {} | {} |\n", card_cell(r.name), r.steps, r.tokens, r.launches);
  return text + "\n";
}

std::string data_of(const Trace& t) {
  std::string text = "## What it was trained on\n\n";
  if (t.sources.empty()) return text + (t.imports.empty() ? "Nothing.\n\n" : "Nothing since.\n\n");
  text += "| source | tokens | licence | from | SHA-256 |\n|---|---|---|---|---|\n";
  for (const TracedSource& s : t.sources)
    text += fmt::format("| {} | {} | {} | {} | {} |\n", card_cell(s.name), s.tokens, card_cell(s.license),
                        card_cell(s.source), s.sha256.empty() ? "none" : s.sha256);
  return text + fmt::format("\nTogether {} tokens.\n\n", t.tokens);
}

std::string terms_of(const Trace& t) {
  std::string text = "## Licence\n\n";
  const auto licenses = licenses_of(t);
  if (!licenses) return text + "Of a part of what it was made from no licence is recorded.\n";
  if (licenses->empty()) return text + "It was made from nothing that has one.\n";
  text += "What it was made from stands under: ";
  for (std::size_t i = 0; i < licenses->size(); ++i) text += (i ? ", " : "") + card_cell((*licenses)[i]);
  return text + ". Which terms follow for the weights is for you to judge.\n";
}

}  // namespace

std::string card_section(const Trace& t) {
  return teachers_of(t) + imports_of(t) + runs_of(t) + data_of(t) + terms_of(t);
}

std::string card_notices(const Trace& t) {
  std::string text;
  for (const Obligations::Asked& asked : obligations_of(t.teachers).notices)
    text += one_line(asked.text, 2000) + "\n\n";
  return text;
}

std::optional<std::vector<std::string>> licenses_of(const Trace& t) {
  std::set<std::string> all;
  for (const TracedSource& s : t.sources)
    if (s.tokens > 0) all.insert(s.license);
  for (const ImportFact& i : t.imports) all.insert(i.license);
  for (const TeacherFact& f : t.teachers) all.insert(f.license);
  if (all.contains("")) return std::nullopt;
  return std::vector<std::string>(all.begin(), all.end());
}

std::string card_cell(const std::string& text) {
  const std::string line = one_line(text, 200);
  return line.empty() ? "not given" : line;
}

std::string name_of(const ImportFact& import) {
  const std::filesystem::path path(import.path);
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace fourmi
