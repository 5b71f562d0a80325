#include "framework/harvest/endpoint.h"

#include <fmt/format.h>
#include <httplib.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <pwd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>

#include "kernels/runtime/error.h"

namespace fourmi::harvest {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t most_answer_bytes = 64 << 20;
constexpr std::size_t least_secret = 6;  ///< shorter words are no secrets, and may stand in any text
constexpr std::chrono::seconds longest_wait{3600};

std::string_view without_scheme(std::string_view url) {
  const std::size_t end = url.find("://");
  return end == std::string_view::npos ? url : url.substr(end + 3);
}

void remove_secret(std::string& text, const std::string& key) {
  if (key.size() < least_secret) return;
  for (std::size_t at = 0; (at = text.find(key, at)) != std::string::npos;) text.replace(at, key.size(), "[key]");
}

}  // namespace

struct Endpoint::Client {
  EndpointOptions options;
  httplib::Client http;
  std::string path;

  explicit Client(const EndpointOptions& o)
      : options(o), http(o.url.substr(0, o.url.size() - without_scheme(o.url).size()) + host_of(o.url)) {
    const std::string_view rest = without_scheme(o.url);
    path = std::string(rest.substr(std::min(rest.find('/'), rest.size())));
    while (path.ends_with('/')) path.pop_back();
    path += "/chat/completions";
    http.set_keep_alive(true);
    http.set_follow_location(false);
    http.set_connection_timeout(std::min<std::chrono::milliseconds>(options.timeout, std::chrono::seconds(20)));
    http.set_write_timeout(options.timeout);
    http.set_tcp_nodelay(true);
    if (!options.ca_file.empty()) http.set_ca_cert_path(options.ca_file);
  }
};

Endpoint::Endpoint(const EndpointOptions& options) : client_(std::make_unique<Client>(options)) {}
Endpoint::~Endpoint() = default;

Reply Endpoint::ask(const std::string& body) {
  Client& c = *client_;
  const auto end = Clock::now() + c.options.timeout;
  c.http.set_read_timeout(c.options.timeout);
  httplib::Request request;
  request.method = "POST";
  request.path = c.path;
  request.headers = {{"Content-Type", "application/json"}, {"Accept", "application/json"}};
  if (!c.options.key.empty()) request.headers.emplace("Authorization", "Bearer " + c.options.key);
  request.body = body;
  std::string received;
  bool too_long = false, too_late = false;
  // The library's time-out is for each byte; a server that sends one now and then would hold this thread for ever.
  request.content_receiver = [&](const char* data, std::size_t size, std::uint64_t, std::uint64_t) {
    too_late = Clock::now() > end;
    too_long = received.size() + size > most_answer_bytes;
    if (too_late || too_long) return false;
    received.append(data, size);
    return true;
  };
  const httplib::Result result = c.http.send(request);
  Reply reply;
  if (!result) {
    const httplib::Error error = result.error();
    const bool never = error == httplib::Error::Connection || error == httplib::Error::ConnectionTimeout ||
                       error == httplib::Error::SSLConnection || error == httplib::Error::SSLServerVerification ||
                       error == httplib::Error::SSLLoadingCerts || error == httplib::Error::BindIPAddress;
    reply.kind = never ? Reply::Kind::unsent : Reply::Kind::lost;
    reply.problem = too_long                         ? "an answer of more than 64 MiB"
                    : too_late || Clock::now() > end ? "no answer in time"
                    : error == httplib::Error::SSLServerVerification
                        ? "a certificate that is not trusted"
                        : "a lost connection (" + httplib::to_string(error) + ")";
    return reply;
  }
  reply.status = result->status;
  reply.body = std::move(received);
  if (reply.body.empty()) reply.body = result->body;
  reply.request_id = result->get_header_value("x-request-id");
  remove_secret(reply.body, c.options.key);
  remove_secret(reply.request_id, c.options.key);
  reply.kind = reply.status == 200 ? Reply::Kind::answered : Reply::Kind::refused;
  if (reply.status != 200) reply.problem = fmt::format("status {}", reply.status);
  if (result->has_header("Retry-After")) reply.retry_after = parse_retry_after(result->get_header_value("Retry-After"));
  return reply;
}

std::string host_of(const std::string& url) {
  const std::string_view rest = without_scheme(url);
  return std::string(rest.substr(0, rest.find('/')));
}

std::string read_key(const std::string& file) {
  if (file.empty()) return "";
  std::string path = file;
  if (path.starts_with("~/")) {
    const passwd* user = ::getpwuid(::getuid());
    if (user == nullptr || user->pw_dir == nullptr)
      throw Error(ExitStatus::input, file, "this user has no home that is known, a path was expected");
    path = user->pw_dir + path.substr(1);
  }
  std::ifstream in(path);
  std::string key;
  if (!std::getline(in, key) || key.find_first_not_of(" \t\r") == std::string::npos)
    throw Error(ExitStatus::input, path, "no key was found, one on the first line was expected",
                "Write a key there, or leave out distill.teacher.api_key_file");
  key.erase(key.find_last_not_of(" \t\r") + 1);
  key.erase(0, key.find_first_not_of(" \t\r"));
  if (!std::all_of(key.begin(), key.end(), [](unsigned char c) { return c > 0x20 && c < 0x7F; }))
    throw Error(ExitStatus::input, path, "a key with a blank or a control character was found, one word was expected");
  return key;
}

void check_certificates(const std::string& file) {
  if (file.empty()) return;
  const std::unique_ptr<BIO, int (*)(BIO*)> in(BIO_new_file(file.c_str(), "r"), BIO_free);
  const std::unique_ptr<X509, void (*)(X509*)> first(
      in ? PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr) : nullptr, X509_free);
  ERR_clear_error();
  if (!first)
    throw Error(ExitStatus::input, "distill.teacher.ca_file",
                fmt::format("found no certificate in {}, expected at least one (PEM)", file),
                "Name the file of the authority that signed the endpoint's certificate");
}

std::optional<std::chrono::seconds> parse_retry_after(const std::string& text) {
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size()) {
    tm date{};
    const char* rest = ::strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date);
    if (rest == nullptr || *rest != '\0') return std::nullopt;
    seconds = ::timegm(&date) - ::time(nullptr);
  }
  return std::clamp(std::chrono::seconds(seconds), std::chrono::seconds(0), longest_wait);
}

}  // namespace fourmi::harvest
