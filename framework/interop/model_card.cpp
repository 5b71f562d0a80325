#include "framework/interop/model_card.h"

#include <set>

#include "framework/ledger/import_fact.h"
#include "framework/ledger/trace.h"

namespace fourmi::interop {

namespace fs = std::filesystem;

namespace {

/// A cell of a table: one line, no mark-up.
std::string cell(const std::string& text) {
  std::string result;
  for (const char c : text.substr(0, 200)) {
    if (c == '|' || c == '<' || c == '`' || c == '[' || c == ']') result += '\\';
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result.empty() ? "not given" : result;
}

/// As YAML takes it, whatever it is.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result + "\"";
}

struct Provenance {
  Trace trace;
  std::vector<ImportFact> imports;
  std::string problem;
};

Provenance provenance_of(const Checkpoint& checkpoint, const fs::path& path) {
  Provenance p;
  const std::string& head = checkpoint.manifest.state.ledger_head;
  if (head.empty() || path.empty()) {
    p.problem = "the checkpoint has no ledger";
    return p;
  }
  try {
    const LedgerFile ledger = read_ledger(path);
    p.trace = trace(ledger, head, path.filename().string());
    for (const LedgerEntry* e : ledger.lineage(head, path.filename().string()))
      if (e->type == ImportFact::type) p.imports.push_back(import_fact(*e, path.filename().string()));
  } catch (const Error& e) {
    p = {};
    p.problem = "the ledger could not be read";
  }
  return p;
}

}  // namespace

std::string model_card(const Checkpoint& checkpoint, const Recipe& recipe, const fs::path& ledger,
                       const std::string& dtype) {
  const Provenance p = provenance_of(checkpoint, ledger);
  std::set<std::string> licenses;
  for (const TracedSource& s : p.trace.sources)
    if (s.tokens > 0) licenses.insert(s.license);
  for (const ImportFact& i : p.imports) licenses.insert(i.license);
  std::string text = "---\nlibrary_name: transformers\ntags: [fourmi]\n";
  if (licenses.size() == 1 && !licenses.begin()->empty()) text += "license: " + quoted(*licenses.begin()) + "\n";
  text += fmt::format("---\n\n# {}\n\n", cell(recipe.run.name));
  text += fmt::format(
      "Exported by fourmi from the checkpoint of step {} of the run {}, after {} input tokens.\n\n"
      "| fact | value |\n|---|---|\n| model_type | {} |\n| weights | {} |\n| root digest of the checkpoint | {} |\n",
      checkpoint.manifest.state.step, cell(recipe.run.name), checkpoint.manifest.state.tokens, recipe.model.model_type,
      dtype, checkpoint.manifest.root);
  text += fmt::format("| ledger's head | {} |\n\n", cell(checkpoint.manifest.state.ledger_head));
  if (!p.problem.empty()) return text + fmt::format("What it was trained on is not recorded: {}.\n", p.problem);
  if (!p.imports.empty()) {
    text +=
        "## Weights that another program made\n\nWhat they were trained on is not recorded here.\n\n"
        "| from | licence, as their card says | stored as |\n|---|---|---|\n";
    for (const ImportFact& i : p.imports)
      text += fmt::format("| {} | {} | {} |\n", cell(fs::path(i.path).filename().string()), cell(i.license), i.dtype);
    text += "\n";
  }
  text += "## What it was trained on\n\n";
  if (p.trace.sources.empty()) return text + "Nothing since.\n";
  text += "| source | tokens | licence | from | SHA-256 |\n|---|---|---|---|---|\n";
  for (const TracedSource& s : p.trace.sources)
    text += fmt::format("| {} | {} | {} | {} | {} |\n", cell(s.name), s.tokens, cell(s.license), cell(s.source),
                        s.sha256.empty() ? "none" : s.sha256);
  return text;
}

}  // namespace fourmi::interop
