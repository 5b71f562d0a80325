// fourmi serve MODEL: an OpenAI-compatible server for one model.
#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "framework/run/machine.h"
#include "framework/run/signals.h"
#include "framework/serve/batcher.h"
#include "framework/serve/service.h"
#include "framework/train/inference.h"
#include "launch/commands.h"
#include "launch/speaker.h"

namespace fourmi {

namespace {

struct Arguments {
  std::string model, key_file, chat_template;
  ServiceOptions service;
  std::int64_t texts = 16, context = 0, waiting = 256, threads = 0, grace = 30;
  bool json = false;
};

constexpr std::int64_t prompt_rows = 64;  // of prompts, that a step takes beside the texts that are being written

std::string read_key(const std::string& file) {
  if (file.empty()) return "";
  std::ifstream in(file);
  std::string key;
  if (!std::getline(in, key) || key.find_first_not_of(" \t\r") == std::string::npos)
    throw Error(ExitStatus::input, file, "no key was found, one on the first line was expected",
                "Write a key there, or leave out --api-key-file.");
  key.erase(key.find_last_not_of(" \t\r") + 1);
  key.erase(0, key.find_first_not_of(" \t\r"));
  return key;
}

std::string name_of(const std::string& model) {
  std::filesystem::path path = std::filesystem::weakly_canonical(model);
  return path.filename().empty() ? path.parent_path().filename().string() : path.filename().string();
}

DecoderSizes sizes_of(const Arguments& a, std::int64_t positions) {
  if (a.context > positions)
    throw Error(ExitStatus::usage, "--context",
                fmt::format("{} was found, the model knows {} positions", a.context, positions));
  return {.texts = a.texts,
          .max_tokens = a.context > 0 ? a.context : positions,
          .rows = a.texts + prompt_rows,
          .logit_rows = a.texts + prompt_rows / 4};
}

/// Answers until a signal comes and, for as long as --grace, those who were being answered then.
void answer(Service& service, const Batcher& batcher, std::int64_t grace) {
  using Clock = std::chrono::steady_clock;
  constexpr auto tick = std::chrono::milliseconds(50);
  std::exception_ptr failed;
  std::thread listening([&] {
    try {
      service.run();
    } catch (...) {
      failed = std::current_exception();
    }
  });
  while (!StopSignals::requested() && !failed && batcher.failure().empty()) std::this_thread::sleep_for(tick);
  service.drain();
  const auto end = Clock::now() + std::chrono::seconds(grace);
  if (batcher.failure().empty())
    while (service.num_clients() > 0 && Clock::now() < end) std::this_thread::sleep_for(tick);
  service.stop();
  listening.join();
  if (failed) std::rethrow_exception(failed);
  FOURMI_CHECK(batcher.failure().empty(), "{}", batcher.failure());
}

void serve(Arguments a) {
  a.service.api_key = read_key(a.key_file);
  auto group = make_self_group("world");
  ThreadPool pool(static_cast<int>(a.threads > 0 ? a.threads : usable_cores()));
  const Stream stream(pool);
  InferenceModel inference(*group, a.model, stream);
  for (const std::string& m : inference.messages()) std::cerr << "fourmi: warning: " << m << "\n";
  const Speaker speaker = make_speaker(inference, a.chat_template);
  const Tokenizer& tokenizer = *speaker.tokenizer;
  const DecoderSizes sizes = sizes_of(a, inference.recipe().data.sequence_length);
  Arena measure({"cache", Arena::Mode::measure}, 0);
  Decoder(inference.model(), inference.store(), sizes, measure);
  Arena arena({"cache"}, measure.peak());
  Decoder decoder(inference.model(), inference.store(), sizes, arena);
  if (a.service.model.empty()) a.service.model = name_of(a.model);

  const StopSignals signals;
  Batcher batcher(decoder, stream, {tokenizer.vocab_size(), speaker.ends}, a.waiting);
  ChatPrompt chat;
  if (speaker.chat) chat = [&](const ChatRequest& c) { return chat_prompt(*speaker.chat, c, std::time(nullptr)); };
  a.service.begin_of_text = speaker.begin_of_text;
  Service service(a.service, tokenizer, batcher, chat);
  const int port = service.bind();
  if (a.json) {
    nlohmann::ordered_json j;
    j["host"] = a.service.host;
    j["port"] = port;
    j["model"] = a.service.model;
    j["texts"] = sizes.texts;
    j["max_tokens"] = sizes.max_tokens;
    j["conversations"] = speaker.chat.has_value();
    std::cout << j.dump() << std::endl;
  } else {
    std::cout << fmt::format("{} answers on http://{}:{}/v1: {} texts at once, of {} tokens each", a.service.model,
                             a.service.host, port, sizes.texts, sizes.max_tokens)
              << (speaker.chat ? "" : "; no conversations: " + speaker.no_chat) << std::endl;
  }
  if (a.service.api_key.empty() && a.service.host != "127.0.0.1" && a.service.host != "localhost" &&
      a.service.host != "::1")
    std::cerr << "fourmi: warning: whoever reaches " << a.service.host
              << " may ask for texts: there is no --api-key-file\n";
  answer(service, batcher, a.grace);
  std::cerr << "fourmi: the server has ended\n";
}

}  // namespace

void add_serve(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  ServiceOptions& s = a->service;
  CLI::App* c = app.add_subcommand("serve", "answers requests for texts over HTTP, as OpenAI's interface has them");
  c->add_option("MODEL", a->model,
                "a run directory (its newest proven checkpoint), a checkpoint, a Hugging Face folder or a GGUF file")
      ->required();
  c->add_option("--host", s.host, "the address to listen on")->capture_default_str();
  c->add_option("--port", s.port, "0: one that is free")->check(CLI::Range(0, 65535))->capture_default_str();
  c->add_option("--api-key-file", a->key_file, "a file whose first line every request must bring as its key");
  c->add_option("--chat-template", a->chat_template, "a file (Jinja) instead of the model's own template");
  c->add_option("--name", s.model, "the model's name in answers; else its folder's");
  c->add_option("--texts", a->texts, "texts that are written at once")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  c->add_option("--context", a->context, "tokens of a prompt and what follows it; else all positions of the model")
      ->check(CLI::PositiveNumber);
  c->add_option("--threads", a->threads, "of the CPU; else one a core")->check(CLI::PositiveNumber);
  c->add_option("--max-waiting", a->waiting, "texts that may wait for their turn")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c->add_option("--max-clients", s.max_clients, "requests at once; others are told to come again")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  c->add_option("--max-body", s.max_body, "bytes of a request")->check(CLI::PositiveNumber)->capture_default_str();
  c->add_option("--grace", a->grace, "seconds in which answers under way may end when a signal asks to stop")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  c->add_flag("--json", a->json, "one JSON object says where it listens");
  c->callback([a, &status] {
    serve(*a);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
