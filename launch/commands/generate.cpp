// fourmi generate MODEL --prompt TEXT: samples of text.
#include <iostream>
#include <nlohmann/json.hpp>

#include "framework/model/decode.h"
#include "framework/model/sampling.h"
#include "framework/tokenizer/choose.h"
#include "framework/train/inference.h"
#include "launch/commands.h"

namespace fourmi {

namespace {

struct Arguments {
  std::string model, prompt;
  std::int64_t max_tokens = 200;
  Sampling sampling;
  bool json = false;
};

/// The prompt's tokens, and up to `max_tokens` more.
std::vector<std::int32_t> continue_text(InferenceModel& inference, const Tokenizer& tokenizer, const Arguments& a,
                                        const Stream& stream, std::vector<std::int32_t> tokens) {
  const std::int64_t window = inference.recipe().data.sequence_length, at_once = std::min<std::int64_t>(window, 64);
  const DecoderSizes sizes{.max_tokens = window, .rows = at_once};
  Arena measure({"cache", Arena::Mode::measure}, 0);
  Decoder(inference.model(), inference.store(), sizes, measure);
  Arena arena({"cache"}, measure.peak());
  Decoder decoder(inference.model(), inference.store(), sizes, arena);
  auto last = [&](std::int64_t count) {
    return tokens.size() - std::min(tokens.size(), static_cast<std::size_t>(count));
  };
  std::size_t read = last(window);
  for (std::int64_t i = 0; i < a.max_tokens; ++i) {
    if (decoder.num_tokens() == window) {
      // The model knows positions up to its training window: go on from the second half of what is in the cache.
      decoder.clear();
      read = last(std::max<std::int64_t>(1, window / 2));
    }
    std::span<const double> logits;
    while (read < tokens.size()) {
      const auto part =
          std::span(tokens).subspan(read, std::min(tokens.size() - read, static_cast<std::size_t>(at_once)));
      read += part.size();
      const DecoderRun run{.tokens = part, .logits = read == tokens.size() ? 1 : 0};
      logits = decoder.step(stream, {&run, 1});
    }
    const std::int32_t next = sample(logits, a.sampling, i, tokenizer.vocab_size());
    if (next == tokenizer.end_of_document()) break;
    tokens.push_back(next);
  }
  return tokens;
}

void generate(const Arguments& a) {
  auto group = make_self_group("world");
  ThreadPool pool(1);
  const Stream stream(pool);
  InferenceModel inference(*group, a.model, stream);
  for (const std::string& m : inference.messages()) std::cerr << "fourmi: warning: " << m << "\n";
  const Recipe& r = inference.recipe();
  const auto tokenizer = make_tokenizer(r.data, r.model.vocab_size);
  std::vector<std::int32_t> prompt{tokenizer->end_of_document()};  // a text begins where another ended
  for (std::int32_t t : tokenizer->encode(a.prompt)) prompt.push_back(t);
  const std::vector<std::int32_t> tokens = continue_text(inference, *tokenizer, a, stream, prompt);
  const std::string text = a.prompt + tokenizer->decode(std::span(tokens).subspan(prompt.size()));
  if (!a.json) {
    std::cout << text << "\n";
    return;
  }
  nlohmann::ordered_json j;
  j["text"] = text;
  j["tokens"] = tokens.size() - prompt.size();
  j["checkpoint"] = inference.checkpoint().string();
  j["step"] = inference.step();
  std::cout << j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
}

}  // namespace

void add_generate(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c = app.add_subcommand("generate", "samples text from a trained model");
  c->add_option("MODEL", a->model, "a run directory (its newest proven checkpoint) or a checkpoint")->required();
  c->add_option("--prompt", a->prompt, "what the text begins with");
  c->add_option("--max-tokens", a->max_tokens, "how many tokens to write at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c->add_option("--temperature", a->sampling.temperature, "0: always the likeliest token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  c->add_option("--top-p", a->sampling.top_p, "choose among the likeliest tokens that hold this much probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  c->add_option("--seed", a->sampling.seed, "the same seed writes the same text")->capture_default_str();
  c->add_flag("--json", a->json, "one JSON object");
  c->callback([a, &status] {
    generate(*a);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
