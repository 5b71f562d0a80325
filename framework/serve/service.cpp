#include "framework/serve/service.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <random>
#include <thread>

#include "framework/serve/connection.h"
#include "framework/serve/connection_queue.h"
#include "framework/tokenizer/begin_of_text.h"
#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

constexpr std::size_t most_head_bytes = 64 << 10;
constexpr int backlog = 128;      // connections that nobody has accepted yet
constexpr int spare_threads = 8;  // that refuse what comes beyond max_clients

bool same_secret(const std::string& a, const std::string& b) {  // in a time that tells nothing of where they differ
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void answer_error(httplib::Response& response, const ApiError& e) {
  response.status = e.status;
  if (e.status == 429 || e.status == 503) response.set_header("Retry-After", "1");
  response.set_content(error_answer(e.status, e.what(), e.param), "application/json");
}

std::uint64_t any_seed() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

}  // namespace

/// Counts a client for as long as its request is answered.
class Client {
 public:
  explicit Client(std::atomic<int>& count) : count_(count) { ++count_; }
  ~Client() { --count_; }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

 private:
  std::atomic<int>& count_;
};

class Service::Http final : public httplib::Server {
 public:
  explicit Http(Service& service) : service_(service) {
    const ServiceOptions& o = service.options_;
    set_payload_max_length(o.max_body);
    set_socket_options([](socket_t s) {  // the library's would let two servers share a port
      const int again = 1;               // soon after one has ended
      ::setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &again, sizeof(again));
    });
    new_task_queue = [most = static_cast<std::size_t>(o.max_clients)] {
      return new ConnectionQueue(most + spare_threads, most);
    };
    set_pre_routing_handler([this](const httplib::Request& q, httplib::Response& r) { return check(q, r); });
    set_exception_handler([](const httplib::Request&, httplib::Response& r, std::exception_ptr error) {
      try {
        std::rethrow_exception(error);
      } catch (const ApiError& e) {
        answer_error(r, e);
      } catch (const std::exception& e) {
        answer_error(r, ApiError(500, e.what()));
      }
    });
    // `Unhandled`, or the library would cut and encode this answer as a request wants it that could not be read.
    set_error_handler(HandlerWithResponse([](const httplib::Request&, httplib::Response& r) {
      if (r.body.empty()) {
        answer_error(r, ApiError(r.status, fmt::format("status {}", r.status)));
        r.set_header("Content-Length", std::to_string(r.body.size()));
      }
      return HandlerResponse::Unhandled;
    }));
    Get("/health", [](const httplib::Request&, httplib::Response& r) { r.set_content("{}", "application/json"); });
    Get("/v1/models", [this](const httplib::Request&, httplib::Response& r) {
      r.set_content(model_list(service_.options_.model, service_.created_, service_.writer_.max_tokens()),
                    "application/json");
    });
    Post("/v1/completions", [this](const httplib::Request& q, httplib::Response& r) { answer(q, r, false); });
    Post("/v1/chat/completions", [this](const httplib::Request& q, httplib::Response& r) { answer(q, r, true); });
  }

  /// The thread that calls this listens.
  bool listen() {
    ::listen(svr_sock_, backlog);  // once more: the library's own 5 would leave out whoever comes with many others
    listener_ = std::this_thread::get_id();
    return listen_after_bind();
  }

  bool answer_one(httplib::Stream& connection) {
    bool closed = false;
    return process_request(connection, true, closed, [](httplib::Request& request) {
      request.headers.erase("Accept-Encoding");  // a stream's pieces would wait for each other
      request.headers.erase("Range");
      request.ranges.clear();  // read from it before: the library would cut the answer, and call it 206
    });
  }

 private:
  /// Before a body is read.
  HandlerResponse check(const httplib::Request& request, httplib::Response& response) {
    const std::string& key = service_.options_.api_key;
    try {
      if (!key.empty() && request.path != "/health" &&
          !same_secret(request.get_header_value("Authorization"), "Bearer " + key))
        throw ApiError(401, "the API key is missing or wrong");
      if (request.has_header("Content-Encoding")) throw ApiError(415, "a body as it is was expected, not encoded");
      if (request.method == "POST" && request.get_header_value("Content-Type").rfind("application/json", 0) != 0)
        throw ApiError(415, "Content-Type: application/json was expected");
    } catch (const ApiError& e) {
      answer_error(response, e);
      return HandlerResponse::Handled;
    }
    return HandlerResponse::Unhandled;
  }

  void answer(const httplib::Request& request, httplib::Response& response, bool chat) {
    if (request.body.size() > service_.options_.max_body)  // in chunks: the library counts only what is announced
      throw ApiError(413, fmt::format("a body of at most {} bytes was expected", service_.options_.max_body));
    auto client = std::make_shared<Client>(service_.num_clients_);
    if (service_.draining_) throw ApiError(503, "the server ends");
    if (service_.num_clients_ > service_.options_.max_clients)
      throw ApiError(429,
                     fmt::format("{} requests are being answered, as many as may be", service_.options_.max_clients));
    std::shared_ptr<Answering> answering = service_.begin(request.body, chat);
    if (!answering->request().stream) {
      response.set_content(answering->whole(), "application/json");
      return;
    }
    response.set_header("Cache-Control", "no-cache");
    response.set_chunked_content_provider("text/event-stream",
                                          [answering, client](std::size_t, httplib::DataSink& sink) {
                                            if (!sink.is_writable()) return false;  // nobody listens any more
                                            const std::string event = answering->next_event();
                                            if (event.empty())
                                              sink.done();
                                            else
                                              return sink.write(event.data(), event.size());
                                            return true;
                                          });
  }

  /// One request a connection.
  bool process_and_close_socket(socket_t socket) override {
    if (std::this_thread::get_id() == listener_) {  // no thread has room for it
      const std::string body = error_answer(503, "too many connections are open", "");
      refuse_connection(socket, fmt::format("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: "
                                            "close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                                            body.size(), body));
      return false;
    }
    Connection connection(socket, {.request = service_.options_.request_time,
                                   .write = service_.options_.write_time,
                                   .request_bytes = service_.options_.max_body + most_head_bytes});
    return answer_one(connection);
  }

  Service& service_;
  std::thread::id listener_;
};

Service::Service(const ServiceOptions& options, const Tokenizer& tokenizer, Writer& writer, const ChatPrompt& chat)
    : options_(options),
      tokenizer_(tokenizer),
      writer_(writer),
      chat_(chat),
      created_(std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
                   .count()),
      http_(std::make_unique<Http>(*this)) {}

Service::~Service() = default;

int Service::bind() {
  const int port = options_.port == 0 ? http_->bind_to_any_port(options_.host) : options_.port;
  if (port <= 0 || (options_.port != 0 && !http_->bind_to_port(options_.host, port)))
    throw Error(ExitStatus::environment, fmt::format("{}:{}", options_.host, options_.port),
                "cannot be listened on, an address of this machine and a port that nobody has were expected",
                "Choose another --port.");
  return port;
}

void Service::run() {
  if (!http_->listen())
    throw Error(ExitStatus::environment, fmt::format("{}:{}", options_.host, options_.port), "listening ended");
}

void Service::stop() {
  http_->stop();
}

bool Service::answer(httplib::Stream& connection) {
  return http_->answer_one(connection);
}

TextRequest Service::text_request(const ApiRequest& request, const Prompt& prompt) const {
  TextRequest r;
  if (prompt.is_text) {
    if (request.chat) {  // its template says what it begins with
      r.prompt = tokenizer_.encode(prompt.text);
    } else {
      TextPrompt text = text_prompt(prompt.text, options_.begin_of_text, tokenizer_);
      r.prompt = std::move(text.tokens);
      r.num_hidden = text.num_opening;
    }
  } else {
    r.prompt = prompt.tokens;
    for (std::int32_t t : r.prompt)
      if (t >= tokenizer_.vocab_size())
        throw ApiError(400, fmt::format("prompt: {} was found, ids are below {}", t, tokenizer_.vocab_size()),
                       "prompt");
  }
  const std::int64_t room = writer_.max_tokens() - std::ssize(r.prompt);
  r.max_tokens = request.chat && !request.has_max_tokens ? std::max<std::int64_t>(0, room) : request.max_tokens;
  if (r.prompt.empty() || r.max_tokens > room)
    throw ApiError(400,
                   fmt::format("a prompt of {} tokens and {} more were asked for, 1 to {} in all are possible",
                               r.prompt.size(), r.max_tokens, writer_.max_tokens()),
                   "max_tokens");
  r.sampling = request.sampling;
  if (!request.has_seed) r.sampling.seed = any_seed();
  r.num_likeliest = request.num_likeliest;
  r.score_prompt = request.echo && request.num_likeliest >= 0;
  return r;
}

std::string Service::prompt_of_chat(const ApiRequest& request) const {
  try {
    return chat_({request.messages, request.tools, request.variables});
  } catch (const Error& e) {                                               // what the template does not take of it
    const std::string place = e.place().substr(e.place().rfind('/') + 1);  // a template's file, without its folder
    const bool of_field = place == e.place();
    throw ApiError(400, fmt::format("{}: {}", place, e.cause()), of_field ? place : "messages");
  }
}

std::shared_ptr<Answering> Service::begin(const std::string& body, bool chat) {
  ApiRequest request = parse_api_request(body, chat);
  if (!request.model.empty() && request.model != options_.model)
    throw ApiError(404, fmt::format("model {} was asked for, {} is here", request.model.substr(0, 200), options_.model),
                   "model");
  if (chat) {
    if (!chat_) throw ApiError(400, "this model has no template for conversations; /v1/completions continues texts");
    request.prompts = {{.text = prompt_of_chat(request)}};
  }
  std::vector<TextRequest> texts;
  for (const Prompt& p : request.prompts) texts.push_back(text_request(request, p));
  std::vector<std::shared_ptr<Writing>> writings;
  for (TextRequest& t : texts) {
    writings.push_back(writer_.write(std::move(t)));
    if (writings.back()) continue;
    writings.pop_back();
    for (const auto& w : writings) w->cancel();
    throw ApiError(429, "too many texts are waiting");
  }
  const AnswerHead head{.id = fmt::format("{}-{}-{}", chat ? "chatcmpl" : "cmpl", created_, ++num_requests_),
                        .model = options_.model,
                        .created = created_,
                        .chat = chat};
  return std::make_shared<Answering>(head, std::move(request), std::move(writings), tokenizer_);
}

}  // namespace fourmi
