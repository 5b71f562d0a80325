#include "framework/tokenizer/read_steps.h"

#include <cctype>
#include <optional>

namespace fourmi {
namespace {

using namespace tokenizer_json_at;

constexpr int deepest = 8;  ///< Sequences in Sequences

void go_deeper(const At& at, int depth) {
  if (depth >= deepest) at.refuse(fmt::format("at most {} Sequences in each other", deepest));
}

/// The text of `pattern`, or its regular expression.
struct Pattern {
  std::string text{};
  std::shared_ptr<const Regex> regex{};
};

Pattern read_pattern(const At& at) {
  at.only({"Regex", "String"});
  if (at.has("Regex")) return {{}, std::make_shared<const Regex>(at["Regex"].text(), at["Regex"].place())};
  if (at["String"].text().empty()) at["String"].refuse("at least one character");
  return {at["String"].text()};
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::ispunct(static_cast<unsigned char>(c))) out += '\\';
    out += c;
  }
  return out;
}

void normalizer_steps(const At& at, TokenizerDefinition& d, int depth) {
  using Kind = NormalizerStep::Kind;
  const std::string type = at.type();
  const auto form = [&](NormalForm f) {
    at.only({"type"});
    d.normalizer.push_back({.kind = Kind::form, .form = f});
  };
  if (type == "Sequence") {
    go_deeper(at, depth);
    at.only({"type", "normalizers"});
    for (std::size_t i = 0; i < at["normalizers"].array().size(); ++i)
      normalizer_steps(at["normalizers"][i], d, depth + 1);
  } else if (type == "NFC") {
    form(NormalForm::c);
  } else if (type == "NFD") {
    form(NormalForm::d);
  } else if (type == "NFKC") {
    form(NormalForm::kc);
  } else if (type == "NFKD") {
    form(NormalForm::kd);
  } else if (type == "Lowercase") {
    at.only({"type"});
    d.normalizer.push_back({.kind = Kind::lowercase});
  } else if (type == "Strip") {
    at.only({"type", "strip_left", "strip_right"});
    d.normalizer.push_back(
        {.kind = Kind::strip, .left = at["strip_left"].flag(true), .right = at["strip_right"].flag(true)});
  } else if (type == "Prepend") {
    at.only({"type", "prepend"});
    d.normalizer.push_back({.kind = Kind::prepend, .content = at["prepend"].text()});
  } else if (type == "Replace") {
    at.only({"type", "pattern", "content"});
    Pattern pattern = read_pattern(at["pattern"]);
    d.normalizer.push_back({.kind = Kind::replace,
                            .content = at["content"].text(),
                            .pattern = std::move(pattern.text),
                            .regex = std::move(pattern.regex)});
  } else {
    at.refuse("null, Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend or Replace");
  }
}

class PreTokenizerReader {
 public:
  explicit PreTokenizerReader(TokenizerDefinition& d) : d_(d) {}
  bool byte_level() const { return byte_level_; }

  void read(const At& at, int depth) {
    const std::string type = at.type();
    if (byte_level_) at.refuse("nothing after ByteLevel, which leaves bytes that no pattern fits");
    if (type == "Sequence") {
      go_deeper(at, depth);
      at.only({"type", "pretokenizers"});
      for (std::size_t i = 0; i < at["pretokenizers"].array().size(); ++i) read(at["pretokenizers"][i], depth + 1);
    } else if (type == "Split") {
      read_split(at);
    } else if (type == "Digits") {
      at.only({"type", "individual_digits"});
      add_split(R"(\p{N})", at["individual_digits"].flag(false) ? SplitBehavior::isolated : SplitBehavior::contiguous,
                at.place());
    } else if (type == "ByteLevel") {
      at.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
      if (at["add_prefix_space"].flag(true)) d_.pre_tokenizer.push_back({PreTokenizerStep::Kind::prefix_space});
      if (at["use_regex"].flag(true)) add_split(gpt2_pattern, SplitBehavior::isolated, at.place());
      byte_level_ = true;
    } else if (type == "Metaspace") {
      read_metaspace(at);
    } else {
      at.refuse("Sequence, Split, Digits, Metaspace or ByteLevel");
    }
  }

 private:
  void add_split(const std::string& pattern, SplitBehavior behavior, const std::string& place) {
    d_.pre_tokenizer.push_back(
        {PreTokenizerStep::Kind::split, std::make_shared<const Regex>(pattern, place), behavior});
  }

  void read_split(const At& at) {
    at.only({"type", "pattern", "behavior", "invert"});
    const std::string& name = at["behavior"].text();
    std::optional<SplitBehavior> behavior;
    if (name == "Isolated") behavior = SplitBehavior::isolated;
    if (name == "Contiguous") behavior = SplitBehavior::contiguous;
    if (name == "MergedWithPrevious") behavior = SplitBehavior::merged_with_previous;
    if (name == "MergedWithNext") behavior = SplitBehavior::merged_with_next;
    if (!behavior)
      at["behavior"].refuse("Isolated, Contiguous, MergedWithPrevious or MergedWithNext (Removed would lose text)");
    // What is a match makes no difference to Isolated and Contiguous.
    if (at["invert"].flag(false) && *behavior != SplitBehavior::isolated && *behavior != SplitBehavior::contiguous)
      at["invert"].refuse("false with " + name);
    Pattern pattern = read_pattern(at["pattern"]);
    if (!pattern.regex) return add_split(escaped(pattern.text), *behavior, at["pattern"]["String"].place());
    d_.pre_tokenizer.push_back({PreTokenizerStep::Kind::split, std::move(pattern.regex), *behavior});
  }

  void read_metaspace(const At& at) {
    at.only({"type", "replacement", "prepend_scheme", "split", "add_prefix_space"});
    PreTokenizerStep step{PreTokenizerStep::Kind::metaspace};
    step.replacement = at["replacement"].text();
    if (utf8::character(step.replacement) != step.replacement.size() || step.replacement.empty())
      at["replacement"].refuse("one character");
    using Prepend = PreTokenizerStep::Prepend;
    // The older spelling is true or false.
    const std::string scheme = at["prepend_scheme"].absent() ? (at["add_prefix_space"].flag(true) ? "always" : "never")
                                                             : at["prepend_scheme"].text();
    if (scheme != "always" && scheme != "first" && scheme != "never")
      at["prepend_scheme"].refuse("always, first or never");
    step.prepend = scheme == "always" ? Prepend::always : scheme == "first" ? Prepend::first : Prepend::never;
    step.cuts = at["split"].flag(true);
    for (const NormalizerStep& s : d_.normalizer)
      if (step.prepend == Prepend::first &&
          (s.kind == NormalizerStep::Kind::strip || s.kind == NormalizerStep::Kind::replace))
        at["prepend_scheme"].refuse(
            "always or never beside a normalizer Strip or Replace, which may take a text's "
            "beginning away");
    d_.pre_tokenizer.push_back(std::move(step));
  }

  TokenizerDefinition& d_;
  bool byte_level_ = false;
};

void replace_all(std::string& text, const std::string& pattern, const std::string& with) {
  for (std::size_t at = 0; (at = text.find(pattern, at)) != std::string::npos; at += with.size())
    text.replace(at, pattern.size(), with);
}

/// A vocabulary of characters: what its tokens become, in the order of the steps.
class DecoderReader {
 public:
  explicit DecoderReader(TokenizerDefinition& d) : d_(d) {}

  void read(const At& at, int depth) {
    const std::string type = at.type();
    if (type == "Sequence") {
      go_deeper(at, depth);
      at.only({"type", "decoders"});
      for (std::size_t i = 0; i < at["decoders"].array().size(); ++i) read(at["decoders"][i], depth + 1);
    } else if (type == "Replace") {
      at.only({"type", "pattern", "content"});
      if (fused_) at.refuse("nothing but Strip after Fuse");
      const Pattern pattern = read_pattern(at["pattern"]);
      if (pattern.regex) at["pattern"].refuse("a String");
      for (std::string& text : d_.contents) replace_all(text, pattern.text, at["content"].text());
    } else if (type == "ByteFallback") {
      at.only({"type"});
      if (bytes_ || fused_) at.refuse("ByteFallback once, before Fuse");
      for (std::string& text : d_.contents)
        if (const int byte = byte_of_fallback(text); byte >= 0) text.assign(1, static_cast<char>(byte));
      bytes_ = true;
    } else if (type == "Fuse") {
      at.only({"type"});
      fused_ = true;
    } else if (type == "Strip") {
      at.only({"type", "content", "start", "stop"});
      const bool first_space = at["content"].text() == " " && at["start"].id() <= 1 && at["stop"].id() == 0;
      if (!fused_ || !first_space) at.refuse("one \" \" at the start, after Fuse");
      d_.strip_first_space = d_.strip_first_space || at["start"].id() == 1;
    } else if (type == "Metaspace") {
      at.only({"type", "replacement", "prepend_scheme", "split", "add_prefix_space"});
      for (std::string& text : d_.contents) replace_all(text, at["replacement"].text(), " ");
      const bool never =
          at["prepend_scheme"].absent() ? !at["add_prefix_space"].flag(true) : at["prepend_scheme"].text() == "never";
      d_.strip_first_space = !never;
    } else {
      at.refuse("Sequence, Replace, ByteFallback, Fuse, Strip or Metaspace");
    }
  }
  bool bytes() const { return bytes_; }

 private:
  TokenizerDefinition& d_;
  bool bytes_ = false, fused_ = false;
};

void byte_level_decoder(const At& at, int depth) {
  if (at.absent() || at.type() == "ByteLevel") return;
  if (at.type() != "Sequence") at.refuse("ByteLevel, alone or in a Sequence");
  go_deeper(at, depth);
  for (std::size_t i = 0; i < at["decoders"].array().size(); ++i) byte_level_decoder(at["decoders"][i], depth + 1);
}

}  // namespace

int byte_of_fallback(std::string_view written) {
  if (written.size() != 6 || !written.starts_with("<0x") || written[5] != '>') return -1;
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  const int high = digit(written[3]), low = digit(written[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

void read_normalizer(const At& at, TokenizerDefinition& d) {
  if (!at.absent()) normalizer_steps(at, d, 0);
}

bool read_pre_tokenizer(const At& at, TokenizerDefinition& d) {
  PreTokenizerReader reader(d);
  if (!at.absent()) reader.read(at, 0);
  return reader.byte_level();
}

void read_decoder(const At& at, TokenizerDefinition& d) {
  if (d.alphabet == Alphabet::bytes) return byte_level_decoder(at, 0);
  DecoderReader reader(d);
  reader.read(at, 0);
  if (!reader.bytes()) at.refuse("a ByteFallback among the decoders: bytes would be decoded as they are written");
}

}  // namespace fourmi
