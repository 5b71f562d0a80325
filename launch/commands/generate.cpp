// fourmi generate MODEL --prompt TEXT: samples of text; or the answer to a conversation.
#include <algorithm>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "framework/model/decode.h"
#include "framework/model/sampling.h"
#include "framework/run/machine.h"
#include "framework/tokenizer/begin_of_text.h"
#include "framework/tokenizer/stream_decoder.h"
#include "launch/commands.h"
#include "launch/speaker.h"

namespace fourmi {

namespace {

struct Arguments {
  std::string model, prompt, messages, chat_template;
  bool chat = false;
  std::int64_t max_tokens = 200, threads = 0;
  Sampling sampling;
  bool json = false;
  bool converses() const { return chat || !messages.empty(); }
};

struct Written {
  std::vector<std::int32_t> tokens;  ///< with the prompt's
  bool stopped = false;              ///< the model ended its text
};

/// The prompt's tokens, and up to `max_tokens` more.
Written continue_text(InferenceModel& inference, const Speaker& speaker, const Arguments& a, const Stream& stream,
                      std::vector<std::int32_t> tokens) {
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
    const std::int32_t next = sample(logits, a.sampling, i, speaker.tokenizer->vocab_size());
    if (std::find(speaker.ends.begin(), speaker.ends.end(), next) != speaker.ends.end()) return {tokens, true};
    tokens.push_back(next);
  }
  return {tokens, false};
}

std::string read_file(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (in.bad() || text.empty())
    throw Error(ExitStatus::input, file, "no text was found, a JSON list of messages was expected");
  return text;
}

/// A list of messages, or an object with `messages`, `tools` and `chat_template_kwargs`, as `serve` takes them.
ChatRequest read_request(const std::string& file) {
  const std::string text = read_file(file);
  const auto json = nlohmann::ordered_json::parse(text, nullptr, false);
  if (json.is_array()) return {.messages = text};
  if (!json.is_object() || !json.contains("messages"))
    throw Error(ExitStatus::input, file, "no JSON list of messages was found, nor an object with one");
  ChatRequest c;
  for (const auto& [key, value] : json.items()) {
    std::string* to = key == "messages"               ? &c.messages
                      : key == "tools"                ? &c.tools
                      : key == "chat_template_kwargs" ? &c.variables
                                                      : nullptr;
    if (to == nullptr)
      throw Error(ExitStatus::input, file,
                  fmt::format("{} was found, messages, tools or chat_template_kwargs was expected", key));
    *to = value.dump();
  }
  return c;
}

TextPrompt prompt_tokens(const Speaker& speaker, const Arguments& a) {
  if (!a.converses()) return text_prompt(a.prompt, speaker.begin_of_text, *speaker.tokenizer);
  if (!speaker.chat)
    throw Error(ExitStatus::input, a.messages.empty() ? "--chat" : "--messages", speaker.no_chat + ", one was expected",
                "Name one by --chat-template, or leave this out: the text is then gone on with.");
  ChatRequest c;
  if (a.messages.empty())
    c.messages = nlohmann::json::array({{{"role", "user"}, {"content", a.prompt}}})
                     .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  else
    c = read_request(a.messages);
  return {.tokens = speaker.tokenizer->encode(chat_prompt(*speaker.chat, c, std::time(nullptr)))};
}

void generate(const Arguments& a) {
  auto group = make_self_group("world");
  ThreadPool pool(static_cast<int>(a.threads > 0 ? a.threads : usable_cores()));
  const Stream stream(pool);
  InferenceModel inference(*group, a.model, stream);
  for (const std::string& m : inference.messages()) std::cerr << "fourmi: warning: " << m << "\n";
  const Speaker speaker = make_speaker(inference, a.chat_template);
  const TextPrompt prompt = prompt_tokens(speaker, a);
  if (prompt.tokens.empty())
    throw Error(ExitStatus::input, "--chat-template", "an empty text was rendered, one to answer was expected");
  const Written written = continue_text(inference, speaker, a, stream, prompt.tokens);
  const auto answer = std::span(written.tokens).subspan(prompt.tokens.size());
  // A text that goes on keeps the space that it goes on with.
  const bool continues = !a.converses() && prompt.tokens.size() > prompt.num_opening;
  StreamDecoder decoder(*speaker.tokenizer, continues);
  std::string text = a.converses() ? "" : a.prompt;
  for (const std::int32_t t : answer) text += decoder.push(t);
  text += decoder.finish();
  if (!a.json) {
    std::cout << text << "\n";
    return;
  }
  nlohmann::ordered_json j;
  j["text"] = text;
  j["tokens"] = answer.size();
  j["prompt_tokens"] = prompt.tokens.size();
  j["finish_reason"] = written.stopped ? "stop" : "length";
  j["checkpoint"] = inference.checkpoint().string();
  j["step"] = inference.step();
  std::cout << j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
}

}  // namespace

void add_generate(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c = app.add_subcommand("generate", "samples text from a trained model, or answers a conversation");
  c->add_option("MODEL", a->model,
                "a run directory (its newest proven checkpoint), a checkpoint, a Hugging Face folder or a GGUF file")
      ->required();
  CLI::Option* prompt = c->add_option("--prompt", a->prompt, "what the text begins with; with --chat what a user says");
  CLI::Option* chat =
      c->add_flag("--chat", a->chat, "answer the prompt, through the model's chat template")->needs(prompt);
  c->add_option("--messages", a->messages,
                "answer a conversation: a JSON file with a list of messages, or with an object of `messages`, `tools` "
                "and `chat_template_kwargs`")
      ->excludes(prompt)
      ->excludes(chat);
  c->add_option("--chat-template", a->chat_template, "a file (Jinja) instead of the model's own template");
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
  c->add_option("--threads", a->threads, "of the CPU; else one a core")->check(CLI::PositiveNumber);
  c->add_flag("--json", a->json, "one JSON object");
  c->callback([a, &status] {
    generate(*a);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
