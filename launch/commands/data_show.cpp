#include "launch/commands/data_show.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "framework/data/loader.h"
#include "framework/tokenizer/begin_of_text.h"
#include "framework/tokenizer/choose.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

/// Rows of one sequence that belong together: one document's, all counted or all not. Of conversations a row counts if
/// its token is learned, of others if it has a target, which is the next token.
struct Stretch {
  bool opens = false;  ///< a document begins with it
  bool counted = true;
  bool padding = false;
  std::vector<std::int32_t> ids;
};

class Show {
 public:
  Show(const Recipe& recipe, std::int64_t num_samples)
      : recipe_(recipe),
        tokenizer_(make_tokenizer(recipe.data, recipe.model.vocab_size)),
        opening_(begin_of_text(recipe.data, *tokenizer_).value_or(tokenizer_->end_of_document())),
        loader_(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed, recipe.model.vocab_size),
        plan_(loader_.plan(loader_.start(), num_samples)) {}

  void print(bool colours) const {
    for (std::size_t s = 0; s < plan_.samples.size(); ++s) {
      const Batch batch = loader_.batch(plan_, static_cast<std::int64_t>(s), 1);
      std::cout << fmt::format("sample {}: source {}, epoch {}, window {}, {} of {} tokens are counted\n", s + 1,
                               name(plan_.samples[s]), plan_.samples[s].epoch + 1, plan_.samples[s].window,
                               num_counted(batch), batch.tokens.size());
      print_sequence(batch, plan_.samples[s], colours);
      std::cout << "\n\n";
    }
    std::cout << fmt::format("{:<20} {:>8} {:>14} {:>12} {:>8} {:>9} {:>14}\n", "source", "share", "tokens/epoch",
                             "sequences", "samples", "tokens", "share of these");
    for (std::int64_t i = 0; i < loader_.num_sources(); ++i) {
      const SourcePosition& shown = plan_.next.sources[static_cast<std::size_t>(i)];
      std::cout << fmt::format("{:<20} {:>8.4f} {:>14} {:>12} {:>8} {:>9} {:>14.4f}\n", shown.name, loader_.share(i),
                               loader_.tokens_per_epoch(i), loader_.samples_per_epoch(i), shown.samples, shown.tokens,
                               share_shown(shown));
    }
    for (const std::string& note : loader_.notes()) std::cerr << note << "\n";
  }

  void print_json() const {
    nlohmann::ordered_json samples = nlohmann::ordered_json::array(), sources = nlohmann::ordered_json::array();
    for (std::size_t s = 0; s < plan_.samples.size(); ++s) {
      const Batch batch = loader_.batch(plan_, static_cast<std::int64_t>(s), 1);
      nlohmann::ordered_json documents = nlohmann::ordered_json::array();
      std::vector<bool> mask;
      for (const Stretch& stretch : stretches(batch, plan_.samples[s])) {
        mask.insert(mask.end(), stretch.ids.size(), stretch.counted);
        documents.push_back({{"opens", stretch.opens},
                             {"counted", stretch.counted},
                             {"tokens", stretch.ids.size()},
                             {"text", text_of(stretch.ids, of_conversations(plan_.samples[s]), false)}});
      }
      samples.push_back({{"source", name(plan_.samples[s])},
                         {"epoch", plan_.samples[s].epoch},
                         {"window", plan_.samples[s].window},
                         {"tokens", batch.tokens},
                         {"targets", batch.targets},
                         {"counted", mask},
                         {"stretches", documents}});
    }
    for (std::int64_t i = 0; i < loader_.num_sources(); ++i) {
      const SourcePosition& shown = plan_.next.sources[static_cast<std::size_t>(i)];
      sources.push_back({{"name", shown.name},
                         {"share", loader_.share(i)},
                         {"tokens_per_epoch", loader_.tokens_per_epoch(i)},
                         {"samples_per_epoch", loader_.samples_per_epoch(i)},
                         {"samples_shown", shown.samples},
                         {"tokens_shown", shown.tokens},
                         {"share_shown", share_shown(shown)}});
    }
    const nlohmann::ordered_json all{{"samples", samples}, {"sources", sources}};
    std::cout << all.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
  }

 private:
  const std::string& name(const Sample& sample) const {
    return recipe_.data.train[static_cast<std::size_t>(sample.source)].name;
  }
  double share_shown(const SourcePosition& source) const {
    return static_cast<double>(source.tokens) / static_cast<double>(std::max<std::int64_t>(1, plan_.num_inputs));
  }
  static std::int64_t num_counted(const Batch& batch) {
    return std::count_if(batch.targets.begin(), batch.targets.end(), [](std::int32_t target) { return target >= 0; });
  }

  bool of_conversations(const Sample& sample) const {
    const std::string& format = recipe_.data.train[static_cast<std::size_t>(sample.source)].format;
    return format == "messages" || format == "prompt-completion";
  }

  std::vector<Stretch> stretches(const Batch& batch, const Sample& sample) const {
    std::vector<Stretch> all;
    const bool conversations = of_conversations(sample);
    const auto real = static_cast<std::size_t>(loader_.num_inputs(sample));
    for (std::size_t row = 0; row < batch.tokens.size(); ++row) {
      const bool padding = row >= real;
      bool counted = batch.targets[row] >= 0;
      bool opens = counted && batch.tokens[row] == opening_;
      if (conversations) {
        opens = !padding && (row == 0 || (!recipe_.data.cross_document_attention && batch.positions[row] == 0));
        counted = !opens && row > 0 && batch.targets[row - 1] >= 0;
      }
      if (all.empty() || opens || counted != all.back().counted || padding != all.back().padding)
        all.push_back({opens, counted, padding, {}});
      all.back().ids.push_back(batch.tokens[row]);
    }
    return all;
  }

  /// Decoded; with `ends`, the end of a document as it is written; an id that is none of the tokenizer's as <id>. With
  /// `safe`, what a terminal might obey is spelled out.
  std::string text_of(const std::vector<std::int32_t>& ids, bool ends, bool safe) const {
    std::string text;
    for (auto at = ids.begin(); at != ids.end();) {
      const auto known = [&](std::int32_t id) {
        return id < tokenizer_->vocab_size() && !(ends && id == tokenizer_->end_of_document());
      };
      const auto end = std::find_if_not(at, ids.end(), known);
      text += tokenizer_->decode({at, end});
      at = end;
      if (at == ids.end()) break;
      text += *at < tokenizer_->vocab_size() ? recipe_.data.end_of_document : fmt::format("<{}>", *at);
      ++at;
    }
    return safe ? spelled_out(text) : text;
  }
  static std::string spelled_out(const std::string& text) {
    std::string out;
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      const bool plain = (byte >= 0x20 && byte != 0x7F) || c == '\n' || c == '\t';
      out += plain ? std::string(1, c) : fmt::format("\\x{:02x}", byte);
    }
    // Of what is no UTF-8 a terminal makes what it likes: then every byte above ASCII is spelled out.
    if (find_utf8_flaws(out).count == 0) return out;
    std::string ascii;
    for (const char c : out)
      ascii += static_cast<unsigned char>(c) < 0x80 ? std::string(1, c)
                                                    : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    return ascii;
  }

  void print_sequence(const Batch& batch, const Sample& sample, bool colours) const {
    constexpr int hues[] = {32, 36, 33, 35, 34, 31};  // one a source
    bool bright = false;                              // every other document
    for (const Stretch& stretch : stretches(batch, sample)) {
      if (stretch.opens) bright = !bright;
      if (!stretch.counted && of_conversations(sample) && !stretch.padding) {  // read, and not learned
        if (stretch.opens) std::cout << "<|document|>";
        std::cout << (colours ? "\033[2m" : "") << text_of(stretch.ids, of_conversations(sample), true)
                  << (colours ? "\033[0m" : "");
        continue;
      }
      if (!stretch.counted) {
        std::cout << (colours ? "\033[2m" : "") << "<|" << stretch.ids.size() << " not counted|>"
                  << (colours ? "\033[0m" : "");
        continue;
      }
      if (colours)
        std::cout << fmt::format("\033[{};{}m", bright ? 1 : 0,
                                 hues[static_cast<std::size_t>(sample.source) % std::size(hues)]);
      if (stretch.opens) std::cout << "<|document|>";
      // Without colours what is learned of a conversation is between marks.
      const bool marks = !colours && of_conversations(sample);
      std::cout << (marks ? "<|learned|>" : "") << text_of(stretch.ids, of_conversations(sample), true)
                << (marks ? "<|/learned|>" : "") << (colours ? "\033[0m" : "");
    }
  }

  const Recipe& recipe_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::int32_t opening_;  ///< of each document
  Loader loader_;
  StepPlan plan_;
};

}  // namespace

void show_data(const Recipe& recipe, std::int64_t num_samples, bool json, bool colours) {
  const Show show(recipe, num_samples);
  if (json)
    show.print_json();
  else
    show.print(colours || ::isatty(STDOUT_FILENO) != 0);
  std::cout.flush();
  if (!std::cout)
    throw Error(ExitStatus::environment, "standard output", "a write error, room for the samples was expected");
}

}  // namespace fourmi
