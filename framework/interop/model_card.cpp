#include "framework/interop/model_card.h"

#include "framework/model/counts.h"

namespace fourmi::interop {

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
std::string yaml_text(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result + "\"";
}

std::string name_of(const ImportFact& import) {
  const std::filesystem::path path(import.path);
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

class Card {
 public:
  Card(const Checkpoint& checkpoint, const Recipe& recipe, const CardFacts& facts, const std::string& dtype)
      : state_(checkpoint.manifest.state),
        root_(checkpoint.manifest.root),
        recipe_(recipe),
        facts_(facts),
        dtype_(dtype),
        licenses_(licenses_of(facts)) {}

  std::string text() {
    front_matter();
    heading();
    what_it_is();
    if (!facts_.problem.empty()) {
      text_ += fmt::format("What it was trained on is not recorded: {}.\n", facts_.problem);
      return text_;
    }
    others_weights();
    runs();
    data();
    terms();
    return text_;
  }

 private:
  void row(const std::string& fact, const std::string& value) { text_ += fmt::format("| {} | {} |\n", fact, value); }

  void front_matter() {
    text_ = "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [fourmi]\n";
    if (licenses_ && !licenses_->empty()) {
      const std::string one = licenses_->size() == 1 ? card_license(licenses_->front()) : "";
      if (one.empty()) {
        std::string all;
        for (const std::string& l : *licenses_) all += (all.empty() ? "" : " AND ") + l;
        text_ += "license: other\nlicense_name: " + yaml_text(all) + "\n";
      } else {
        text_ += "license: " + yaml_text(one) + "\n";
      }
    }
    if (!facts_.imports.empty()) text_ += "base_model: " + yaml_text(name_of(facts_.imports.back())) + "\n";
    text_ += "---\n\n";
  }

  void heading() {
    text_ += fmt::format("# {}\n\n", cell(recipe_.run.name));
    if (state_.step == 0 && !facts_.imports.empty())
      text_ +=
          fmt::format("The weights of {}, brought in and out by fourmi.\n\n", cell(name_of(facts_.imports.back())));
    else
      text_ += fmt::format("{} by fourmi: the checkpoint of step {} of the run {}, after {} input tokens.\n\n",
                           facts_.imports.empty() ? "Trained" : "Trained on from another model's weights", state_.step,
                           cell(recipe_.run.name), state_.tokens);
  }

  void what_it_is() {
    text_ += "| fact | value |\n|---|---|\n";
    const ModelCounts counts = count_model(recipe_.model, ParameterTable(recipe_.model),
                                           std::max<std::int64_t>(1, recipe_.data.sequence_length));
    row("model_type", recipe_.model.model_type);
    row("parameters", fmt::format("{} ({} active)", counts.parameters_total, counts.parameters_active));
    row("weights", dtype_);
    if (state_.step > 0) {
      row("loss of the last step, nats", value(facts_.loss));
      row("held-out loss, nats", value(facts_.held_out_loss));
      if (facts_.bits_per_byte) row("held-out loss, bits a byte", value(facts_.bits_per_byte));
      row("tokens a sequence", std::to_string(recipe_.data.sequence_length));
    }
    if (facts_.launch) {
      row("fourmi", fmt::format("{}, commit {}", cell(facts_.launch->version), cell(facts_.launch->commit)));
      row("ranks of the last launch", std::to_string(facts_.launch->ranks));
    }
    row("recipe", "recipe.yaml beside this page");
    row("root digest of the checkpoint", root_);
    row("ledger's head", cell(state_.ledger_head));
    text_ += "\n";
  }

  static std::string value(const std::optional<double>& x) { return x ? fmt::format("{:.4f}", *x) : "not recorded"; }

  void others_weights() {
    if (facts_.imports.empty()) return;
    text_ +=
        "## Weights that another program made\n\nWhat they were trained on is not recorded here.\n\n"
        "| base model | licence, as its card says | stored as | SHA-256 of its one file |\n|---|---|---|---|\n";
    for (const ImportFact& i : facts_.imports)
      text_ += fmt::format("| {} | {} | {} | {} |\n", cell(name_of(i)), cell(i.license), cell(i.dtype),
                           i.sha256.empty() ? "not recorded" : cell(i.sha256));
    text_ += "\n";
  }

  void runs() {
    if (facts_.trace.runs.size() < 2) return;
    text_ += "## Runs that led to it\n\n| run | steps | tokens | launches |\n|---|---|---|---|\n";
    for (const TracedRun& r : facts_.trace.runs)
      text_ += fmt::format("| {} | {} | {} | {} |\n", cell(r.name), r.steps, r.tokens, r.launches);
    text_ += "\n";
  }

  void data() {
    text_ += "## What it was trained on\n\n";
    if (facts_.trace.sources.empty()) {
      text_ += facts_.imports.empty() ? "Nothing.\n\n" : "Nothing since.\n\n";
      return;
    }
    text_ += "| source | tokens | licence | from | SHA-256 |\n|---|---|---|---|---|\n";
    for (const TracedSource& s : facts_.trace.sources)
      text_ += fmt::format("| {} | {} | {} | {} | {} |\n", cell(s.name), s.tokens, cell(s.license), cell(s.source),
                           s.sha256.empty() ? "none" : s.sha256);
    text_ += fmt::format("\nTogether {} tokens.\n\n", facts_.trace.tokens);
  }

  void terms() {
    text_ += "## Licence\n\n";
    if (!licenses_) {
      text_ += "Of a part of what it was made from no licence is recorded.\n";
    } else if (licenses_->empty()) {
      text_ += "It was made from nothing that has one.\n";
    } else {
      text_ += "What it was made from stands under: ";
      for (std::size_t i = 0; i < licenses_->size(); ++i) text_ += (i ? ", " : "") + cell((*licenses_)[i]);
      text_ += ". Which terms follow for the weights is for you to judge.\n";
    }
  }

  const CheckpointState& state_;
  const std::string& root_;
  const Recipe& recipe_;
  const CardFacts& facts_;
  const std::string& dtype_;
  const std::optional<std::vector<std::string>> licenses_;
  std::string text_;
};

}  // namespace

std::string model_card(const Checkpoint& checkpoint, const Recipe& recipe, const CardFacts& facts,
                       const std::string& dtype) {
  return Card(checkpoint, recipe, facts, dtype).text();
}

}  // namespace fourmi::interop
