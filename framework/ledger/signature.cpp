#include "framework/ledger/signature.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "framework/ledger/entry.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<unsigned char>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;
using File = std::unique_ptr<std::FILE, decltype(&std::fclose)>;

constexpr std::size_t key_bytes = 32, signature_bytes = 64;

/// A key is used without asking anybody.
int no_pass_phrase(char*, int, int, void*) {
  return 0;
}

Key read_key(const fs::path& path, bool is_private) {
  const char* kind = is_private ? "private" : "public";
  const File file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (!file)
    throw Error(ExitStatus::input, path.string(),
                fmt::format("found no file, expected an Ed25519 {} key as PEM", kind));
  Key key(is_private ? PEM_read_PrivateKey(file.get(), nullptr, no_pass_phrase, nullptr)
                     : PEM_read_PUBKEY(file.get(), nullptr, no_pass_phrase, nullptr),
          &EVP_PKEY_free);
  if (!key || EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519)
    throw Error(ExitStatus::input, path.string(),
                fmt::format("found no Ed25519 {} key, expected one as PEM without a pass phrase", kind),
                is_private ? "Make one: openssl genpkey -algorithm ed25519"
                           : "Take it from the private one: openssl pkey -pubout");
  return key;
}

std::string hex(const Bytes& bytes) {
  std::string text;
  for (const unsigned char b : bytes) text += fmt::format("{:02x}", b);
  return text;
}

/// Nothing for what is no such text of so many bytes.
Bytes from_hex(const std::string& text, std::size_t bytes) {
  if (text.size() != 2 * bytes || text.find_first_not_of("0123456789abcdef") != std::string::npos) return {};
  Bytes out(bytes);
  for (std::size_t i = 0; i < bytes; ++i)
    out[i] = static_cast<unsigned char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  return out;
}

Bytes public_half(const Key& key) {
  Bytes half(key_bytes);
  std::size_t size = half.size();
  FOURMI_CHECK(EVP_PKEY_get_raw_public_key(key.get(), half.data(), &size) == 1 && size == key_bytes,
               "the public half of an Ed25519 key");
  return half;
}

/// A head alone could be a message of something else.
std::string message_of(std::string_view head) {
  return fmt::format("fourmi ledger head\n{}\n", head);
}

const unsigned char* data_of(const std::string& text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string text_of(std::string_view head, const Bytes& key, const Bytes& signature) {
  const nlohmann::json j{
      {"algorithm", "Ed25519"}, {"head", head}, {"public_key", hex(key)}, {"signature", hex(signature)}};
  return j.dump() + "\n";
}

}  // namespace

fs::path signature_path(const fs::path& ledger, std::string_view head) {
  return ledger.parent_path() / fmt::format("{}.{}.sig", ledger.stem().string(), short_digest(head));
}

std::string sign_head(std::string_view head, const fs::path& key_file) {
  const Key key = read_key(key_file, true);
  const DigestContext context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  const std::string message = message_of(head);
  Bytes signature(signature_bytes);
  std::size_t size = signature.size();
  const bool done = EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
                    EVP_DigestSign(context.get(), signature.data(), &size, data_of(message), message.size()) == 1;
  FOURMI_CHECK(done && size == signature_bytes, "an Ed25519 signature of {} bytes", size);
  return text_of(head, public_half(key), signature);
}

void verify_signature(std::string_view head, const std::string& text, const fs::path& public_key_file,
                      const std::string& place) {
  const Key key = read_key(public_key_file, false);
  const auto fail = [&](const std::string& found) {
    throw Error(
        ExitStatus::input, place,
        fmt::format("{}, expected one of {} by the key in {}", found, short_digest(head), public_key_file.string()),
        "Ask the signer; what is signed no longer changes");
  };
  const nlohmann::json j = nlohmann::json::parse(text, nullptr, false);
  const auto member = [&](const char* name) {
    return j.is_object() && j.contains(name) && j[name].is_string() ? j[name].get<std::string>() : std::string();
  };
  const Bytes signature = from_hex(member("signature"), signature_bytes), half = public_half(key);
  if (signature.empty()) fail("found no signature");
  if (from_hex(member("public_key"), key_bytes) != half) fail("found a signature by another key");
  if (text != text_of(head, half, signature)) fail("found a signature of something else");
  const DigestContext context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  const std::string message = message_of(head);
  if (EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1 ||
      EVP_DigestVerify(context.get(), signature.data(), signature.size(), data_of(message), message.size()) != 1)
    fail("found a signature that does not prove");
}

}  // namespace fourmi
