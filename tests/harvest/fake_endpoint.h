// An OpenAI-compatible server inside the test: answers as a script says, with faults, and counts what it saw.
#pragma once

#include <httplib.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

namespace fourmi::testing {

enum class Fault {
  none,
  too_many,   ///< 429 with Retry-After: 0
  broken,     ///< 500
  slow,       ///< an answer after `slow_ms`
  truncated,  ///< 200 with half of the JSON
  closed,     ///< the connection goes in the middle of the answer
  no_usage,   ///< an answer that says nothing of tokens
};

class FakeEndpoint {
 public:
  /// Of the n-th request (from 0) for a prompt: what goes wrong, and what is answered.
  std::function<Fault(const std::string& prompt, int n)> fault = [](const std::string&, int) { return Fault::none; };
  std::function<std::string(const std::string& prompt, int n)> answer = [](const std::string& prompt, int) {
    return "answer to " + prompt;
  };
  /// Comes before all else where it says something.
  std::function<bool(const httplib::Request&, httplib::Response&)> instead = [](const auto&, auto&) { return false; };
  int delay_ms = 0, slow_ms = 400;
  std::string finish_reason = "stop", reasoning;

  FakeEndpoint() : FakeEndpoint("http", std::make_unique<httplib::Server>()) {}
  /// Over TLS, with a certificate and its key in PEM files.
  FakeEndpoint(const std::string& certificate, const std::string& key)
      : FakeEndpoint("https", std::make_unique<httplib::SSLServer>(certificate.c_str(), key.c_str())) {}
  ~FakeEndpoint() {
    server_->stop();
    thread_.join();
  }

  std::string url() const { return scheme_ + "://127.0.0.1:" + std::to_string(port_) + "/v1"; }
  int requests() const { return requests_; }
  int answered() const { return answered_; }  ///< with a whole answer
  int most_at_once() const { return most_; }
  std::map<std::string, int> by_prompt() const {
    std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  FakeEndpoint(std::string scheme, std::unique_ptr<httplib::Server> server)
      : scheme_(std::move(scheme)), server_(std::move(server)) {
    server_->new_task_queue = [] { return new httplib::ThreadPool(24); };
    server_->set_keep_alive_timeout(1);
    server_->set_tcp_nodelay(true);
    server_->Post("/v1/chat/completions", [this](const httplib::Request& q, httplib::Response& r) { handle(q, r); });
    port_ = server_->bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_->listen_after_bind(); });
    while (!server_->is_running()) std::this_thread::yield();
  }
  void handle(const httplib::Request& q, httplib::Response& r) {
    const int now = ++at_once_;
    for (int seen = most_; seen < now && !most_.compare_exchange_weak(seen, now);) {
    }
    ++requests_;
    if (delay_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    if (!instead(q, r)) respond(q, r);
    --at_once_;
  }
  void respond(const httplib::Request& q, httplib::Response& r) {
    const nlohmann::json body = nlohmann::json::parse(q.body);
    const std::string prompt = body["messages"][0]["content"];
    int n = 0;
    {
      std::lock_guard lock(mutex_);
      n = count_[prompt]++;
    }
    const Fault what = fault(prompt, n);
    nlohmann::json message{{"role", "assistant"}, {"content", answer(prompt, n)}};
    if (!reasoning.empty()) message["reasoning_content"] = reasoning;
    nlohmann::json whole{{"id", "chat-" + std::to_string(requests_)},
                         {"model", body["model"]},
                         {"choices", {{{"index", 0}, {"message", message}, {"finish_reason", finish_reason}}}}};
    if (what != Fault::no_usage) whole["usage"] = {{"prompt_tokens", prompt.size()}, {"completion_tokens", 5}};
    const std::string text = whole.dump();
    switch (what) {
      case Fault::too_many:
        r.status = 429;
        r.set_header("Retry-After", "0");
        return r.set_content(R"({"error":{"message":"slower, please"}})", "application/json");
      case Fault::broken:
        r.status = 500;
        return r.set_content("oh", "text/plain");
      case Fault::truncated:
        return r.set_content(text.substr(0, text.size() / 2), "application/json");
      case Fault::closed:
        return r.set_content_provider(text.size(), "application/json",
                                      [text](std::size_t at, std::size_t, httplib::DataSink& sink) {
                                        if (at > 0) return false;
                                        sink.write(text.data(), text.size() / 2);
                                        return true;
                                      });
      case Fault::slow:
        std::this_thread::sleep_for(std::chrono::milliseconds(slow_ms));
        break;
      default:
        break;
    }
    ++answered_;
    r.set_content(text, "application/json");
  }

  std::string scheme_;
  std::unique_ptr<httplib::Server> server_;
  int port_ = 0;
  std::thread thread_;
  std::atomic<int> requests_{0}, answered_{0}, at_once_{0}, most_{0};
  mutable std::mutex mutex_;
  std::map<std::string, int> count_;
};

}  // namespace fourmi::testing
