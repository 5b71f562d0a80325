#include "framework/interop/model_card.h"

#include "framework/ledger/card.h"
#include "framework/model/counts.h"

namespace fourmi::interop {

namespace {

/// As YAML takes it, whatever it is.
std::string yaml_text(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result + "\"";
}

class Card {
 public:
  Card(const Checkpoint& checkpoint, const Recipe& recipe, const CardFacts& facts, const std::string& dtype)
      : state_(checkpoint.manifest.state),
        root_(checkpoint.manifest.root),
        recipe_(recipe),
        facts_(facts),
        dtype_(dtype),
        licenses_(facts.problem.empty() ? licenses_of(facts.trace) : std::nullopt) {}

  std::string text() {
    front_matter();
    heading();
    what_it_is();
    if (!facts_.problem.empty()) {
      text_ += fmt::format("What it was trained on is not recorded: {}.\n", facts_.problem);
      return text_;
    }
    text_ += card_section(facts_.trace);
    return text_;
  }

 private:
  void row(const std::string& fact, const std::string& value) { text_ += fmt::format("| {} | {} |\n", fact, value); }

  /// The folder or file that its weights came from, of fourmi's making or another program's; empty: none did.
  std::string base() const {
    const Trace& t = facts_.trace;
    if (!t.exports.empty()) return t.exports.back().name;
    return t.imports.empty() ? std::string() : name_of(t.imports.back());
  }

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
    if (!base().empty()) text_ += "base_model: " + yaml_text(base()) + "\n";
    text_ += "---\n\n";
  }

  void heading() {
    text_ += fmt::format("# {}\n\n", card_cell(recipe_.run.name));
    if (state_.step == 0 && !base().empty())
      text_ += fmt::format("The weights of {}, brought in and out by fourmi.\n\n", card_cell(base()));
    else
      text_ += fmt::format("{} by fourmi: the checkpoint of step {} of the run {}, after {} input tokens.\n\n",
                           base().empty() ? "Trained" : "Trained on from another model's weights", state_.step,
                           card_cell(recipe_.run.name), state_.tokens);
    text_ += card_notices(facts_.trace);
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
    if (facts_.trace.launch) {
      row("fourmi", fmt::format("{}, commit {}", card_cell(facts_.trace.launch->version),
                                card_cell(facts_.trace.launch->commit)));
      row("ranks of the last launch", std::to_string(facts_.trace.launch->ranks));
    }
    row("recipe", "recipe.yaml beside this page");
    row("root digest of the checkpoint", root_);
    row("ledger's head", card_cell(state_.ledger_head));
    text_ += "\n";
  }

  static std::string value(const std::optional<double>& x) { return x ? fmt::format("{:.4f}", *x) : "not recorded"; }

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
