#include "framework/capture/header.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "framework/data/chat_documents.h"
#include "framework/digest/sha256.h"

namespace fourmi {

namespace {

using nlohmann::json;

bool has_conversations(const Recipe& r) {
  return std::any_of(r.data.train.begin(), r.data.train.end(),
                     [](const DataSource& s) { return s.format == "messages" || s.format == "prompt-completion"; });
}

std::string or_none(const std::string& text) {
  return text.empty() ? "none" : text;
}

class Comparison {
 public:
  Comparison(const CaptureHeader& cache, std::string place) : cache_(cache), place_(std::move(place)) {}

  /// `key`: of the recipe.
  template <class T>
  void same(const char* key, const T& of_cache, const T& wanted) const {
    if (of_cache == wanted) return;
    std::string text;
    if constexpr (std::is_same_v<T, std::string>)
      text = fmt::format("found a cache made with {} {}, expected {} as the recipe says", key, or_none(of_cache),
                         or_none(wanted));
    else
      text = fmt::format("found a cache made with {} {}, expected {} as the recipe says", key, of_cache, wanted);
    throw Error(ExitStatus::input, place_, text,
                fmt::format("Capture again (fourmi teacher capture), or set {} back", key));
  }

 private:
  const CaptureHeader& cache_;
  std::string place_;
};

/// The tokens, whatever file they came from.
std::string tokens_of(const CaptureHeader& h) {
  return h.tokenizer_sha256.empty() ? "bytes" : h.tokenizer_sha256;
}

}  // namespace

CaptureHeader header_of(const Recipe& r, const Loader& loader) {
  CaptureHeader h;
  const bool sampled = r.distill.samples.has_value();
  h.format.kind = sampled ? CacheFormat::Kind::sampled : CacheFormat::Kind::top_k;
  h.format.entries = sampled ? *r.distill.samples : r.distill.top_k.value_or(default_top_k);
  h.format.vocab_size = r.model.vocab_size;
  if (const auto& section = r.distill.teacher.section)
    h.format.vocab_size = std::min(h.format.vocab_size, section->vocab_size);
  h.temperature = r.distill.temperature;
  h.tokenizer_sha256 = r.data.tokenizer == "bytes" ? "" : r.data.tokenizer_sha256;
  h.end_of_document = r.data.end_of_document, h.begin_of_text = r.data.begin_of_text;
  if (has_conversations(r))
    if (const auto chat = find_chat_template(r.data)) h.chat_template_sha256 = sha256(chat->chat().text());
  h.sequence_length = r.data.sequence_length;
  h.packing = r.data.packing, h.cross_document_attention = r.data.cross_document_attention;
  h.holdout = r.data.holdout;
  h.seed = r.run.seed;
  const Position start = loader.start();
  for (std::size_t i = 0; i < start.sources.size(); ++i) {
    const SourcePosition& s = start.sources[i];
    h.sources.push_back({s.name, s.bytes, s.checksum, loader.tokens_per_epoch(static_cast<std::int64_t>(i))});
  }
  return h;
}

void refuse_other(const CaptureHeader& cache, const CaptureHeader& wanted, const std::string& teacher_root,
                  const std::string& place) {
  const Comparison c(cache, place);
  c.same("distill.temperature", cache.temperature, wanted.temperature);
  c.same(cache.format.kind == CacheFormat::Kind::top_k ? "distill.top_k" : "distill.samples",
         fmt::format("{} ({})", cache.format.entries, name_of(cache.format.kind)),
         fmt::format("{} ({})", wanted.format.entries, name_of(wanted.format.kind)));
  c.same("data.tokenizer", tokens_of(cache), tokens_of(wanted));
  c.same("data.end_of_document", cache.end_of_document, wanted.end_of_document);
  c.same("data.begin_of_text", cache.begin_of_text, wanted.begin_of_text);
  c.same("data.chat_template", cache.chat_template_sha256, wanted.chat_template_sha256);
  c.same("data.sequence_length", cache.sequence_length, wanted.sequence_length);
  c.same("data.packing", cache.packing, wanted.packing);
  c.same("data.cross_document_attention", cache.cross_document_attention, wanted.cross_document_attention);
  c.same("data.validation.holdout", cache.holdout, wanted.holdout);
  if (!teacher_root.empty()) c.same("distill.teacher.from", cache.teacher.root, teacher_root);
  match_sources(cache, wanted, place);
}

std::vector<std::size_t> match_sources(const CaptureHeader& cache, const CaptureHeader& wanted,
                                       const std::string& place) {
  std::vector<std::size_t> found;
  for (const CapturedSource& s : wanted.sources) {
    const auto same = std::find_if(cache.sources.begin(), cache.sources.end(), [&](const CapturedSource& c) {
      // What is made up is made of its name.
      return c.bytes == s.bytes && c.checksum == s.checksum && c.tokens == s.tokens &&
             (s.bytes > 0 || c.name == s.name);
    });
    if (same == cache.sources.end()) {
      std::string there = "nothing of that name";
      for (const CapturedSource& c : cache.sources)
        if (c.name == s.name) there = fmt::format("{} bytes, CRC-32 {:08x}, {} tokens", c.bytes, c.checksum, c.tokens);
      throw Error(
          ExitStatus::input, place,
          fmt::format("found a cache that has of the source `{}` {}, expected {} bytes, CRC-32 {:08x}, {} tokens",
                      s.name, there, s.bytes, s.checksum, s.tokens),
          "Bring the data back, or capture again (fourmi teacher capture)");
    }
    found.push_back(static_cast<std::size_t>(same - cache.sources.begin()));
  }
  return found;
}

std::string to_json(const CaptureHeader& h) {
  json sources = json::array();
  for (const CapturedSource& s : h.sources)
    sources.push_back({{"name", s.name}, {"bytes", s.bytes}, {"crc32", s.checksum}, {"tokens", s.tokens}});
  const json j{{"kind", name_of(h.format.kind)},
               {"entries", h.format.entries},
               {"vocab_size", h.format.vocab_size},
               {"temperature", h.temperature},
               {"teacher", json::parse(to_payload(h.teacher))},
               {"tokenizer_sha256", h.tokenizer_sha256},
               {"end_of_document", h.end_of_document},
               {"begin_of_text", h.begin_of_text},
               {"chat_template_sha256", h.chat_template_sha256},
               {"sequence_length", h.sequence_length},
               {"packing", h.packing},
               {"cross_document_attention", h.cross_document_attention},
               {"holdout", h.holdout},
               {"seed", h.seed},
               {"sources", sources}};
  return j.dump();
}

CaptureHeader capture_header_from_json(const std::string& text, const std::string& place) {
  try {
    const json j = json::parse(text);
    CaptureHeader h;
    h.format.kind = j.at("kind") == "top-k" ? CacheFormat::Kind::top_k : CacheFormat::Kind::sampled;
    if (j.at("kind") != name_of(h.format.kind)) throw std::out_of_range("kind");
    h.format.entries = j.at("entries"), h.format.vocab_size = j.at("vocab_size");
    if (h.format.entries < 1 || h.format.entries > most_cache_entries || h.format.vocab_size < 1 ||
        h.format.vocab_size > std::int64_t{1} << 24)
      throw std::out_of_range("entries or vocab_size");
    h.temperature = j.at("temperature");
    h.teacher = teacher_fact(make_entry(nullptr, TeacherFact::type, j.at("teacher").dump(), ""), place);
    h.tokenizer_sha256 = j.at("tokenizer_sha256");
    h.end_of_document = j.at("end_of_document"), h.begin_of_text = j.at("begin_of_text");
    h.chat_template_sha256 = j.at("chat_template_sha256");
    h.sequence_length = j.at("sequence_length");
    h.packing = j.at("packing"), h.cross_document_attention = j.at("cross_document_attention");
    h.holdout = j.at("holdout");
    h.seed = j.at("seed");
    for (const json& s : j.at("sources"))
      h.sources.push_back({s.at("name"), s.at("bytes"), s.at("crc32"), s.at("tokens")});
    return h;
  } catch (const std::exception& e) {
    if (dynamic_cast<const Error*>(&e)) throw;
    throw Error(ExitStatus::input, place, fmt::format("found what is no description of a cache ({})", e.what()),
                "Capture again (fourmi teacher capture)");
  }
}

}  // namespace fourmi
