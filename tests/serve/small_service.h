// A model of a few thousand numbers with letters for tokens, its batcher, and a server on a port of its own.
#pragma once

#include <httplib.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "framework/serve/batcher.h"
#include "framework/serve/service.h"
#include "tests/model/small_model.h"

namespace fourmi {

/// Each id is a letter but for the last one, which ends a document.
class Letters final : public Tokenizer {
 public:
  explicit Letters(std::int64_t vocab_size) : vocab_size_(vocab_size) {}
  std::string name() const override { return "letters"; }
  std::unique_ptr<Encoder> make_encoder() const override {
    struct One final : Encoder {
      void append(std::string_view text, std::vector<std::int32_t>& out) override {
        for (char c : text) out.push_back(c - 'a');
      }
    };
    return std::make_unique<One>();
  }
  std::string decode(std::span<const std::int32_t> tokens) const override {
    std::string text;
    for (std::int32_t t : tokens)
      if (t != end_of_document()) text.push_back(static_cast<char>('a' + t));
    return text;
  }
  std::int32_t end_of_document() const override { return static_cast<std::int32_t>(vocab_size_ - 1); }
  std::int64_t vocab_size() const override { return vocab_size_; }

 private:
  std::int64_t vocab_size_;
};

struct SmallWriter {
  explicit SmallWriter(std::int64_t texts = 4, std::int64_t max_tokens = 64, std::int64_t max_waiting = 100,
                       std::vector<std::int32_t> ends = {})
      : model(small_section(), Compute::fp32, Reproducibility::run, {8, 8}, 7, Model::Use::evaluation, {}, max_tokens),
        letters(model.section.vocab_size),
        arena({"cache", Arena::Mode::allocate, true}, 64 << 20),
        decoder(model.model, model.store,
                {.texts = texts, .max_tokens = max_tokens, .rows = texts + 8, .logit_rows = texts + 4}, arena),
        // The end of a document is never written: it would be at a place of chance.
        batcher(decoder, model.stream, {letters.vocab_size() - 1, std::move(ends)}, max_waiting) {}

  SmallModel model;
  Letters letters;
  Arena arena;
  Decoder decoder;
  Batcher batcher;
};

inline std::vector<WrittenToken> all_tokens(Writing& writing) {
  std::vector<WrittenToken> all;
  for (WrittenToken t; writing.next(t);) all.push_back(t);
  return all;
}

struct SmallService {
  explicit SmallService(ServiceOptions options = {}, SmallWriter* writer_ = nullptr, ChatPrompt chat_ = {})
      : own(writer_ ? nullptr : std::make_unique<SmallWriter>()),
        writer(writer_ ? *writer_ : *own),
        chat(std::move(chat_)) {
    options.port = 0;
    if (options.model.empty()) options.model = "small";
    if (!options.begin_of_text) options.begin_of_text = writer.letters.end_of_document();
    service = std::make_unique<Service>(options, writer.letters, writer.batcher, chat);
    port = service->bind();
    thread = std::thread([this] { service->run(); });
    for (int i = 0; i < 1000 && !client().Get("/health"); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ~SmallService() {
    service->stop();
    thread.join();
  }
  httplib::Client client() const {
    httplib::Client c("127.0.0.1", port);
    c.set_read_timeout(60);
    return c;
  }
  struct Answer {
    int status = 0;
    nlohmann::json json;
    std::string body;
  };
  Answer post(const std::string& path, const std::string& body, const httplib::Headers& headers = {}) const {
    auto c = client();
    const auto result = c.Post(path, headers, body, "application/json");
    if (!result) return {};
    return {result->status, nlohmann::json::parse(result->body, nullptr, false), result->body};
  }

  std::unique_ptr<SmallWriter> own;
  SmallWriter& writer;
  ChatPrompt chat;
  std::unique_ptr<Service> service;
  int port = 0;
  std::thread thread;
};

/// The events of a stream.
inline std::vector<std::string> events(const std::string& body) {
  std::vector<std::string> all;
  for (std::size_t at = 0; (at = body.find("data: ", at)) != std::string::npos;) {
    const std::size_t end = body.find("\n\n", at);
    all.push_back(body.substr(at + 6, end - at - 6));
    at = end;
  }
  return all;
}

}  // namespace fourmi
