// A signed head: by the right key it proves, and nothing else does.
#include "framework/ledger/signature.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <nlohmann/json.hpp>

#include "tests/ledger/support.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using testing::Folder;
using testing::write_file;

/// A new pair of keys as PEM: NAME.pem and NAME.pub.
void make_keys(const Folder& folder, const std::string& name, const char* kind = "ED25519") {
  EVP_PKEY* key = EVP_PKEY_Q_keygen(nullptr, nullptr, kind);
  ASSERT_NE(key, nullptr);
  std::FILE* file = std::fopen((folder / (name + ".pem")).c_str(), "w");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
  file = std::fopen((folder / (name + ".pub")).c_str(), "w");
  PEM_write_PUBKEY(file, key);
  std::fclose(file);
  EVP_PKEY_free(key);
}

std::string problem(const std::string& head, const std::string& text, const fs::path& key) {
  try {
    verify_signature(head, text, key, "ledger.sig");
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::input);
    return e.what();
  }
  return "";
}

TEST(LedgerSignature, ProvesItsHeadByItsKeyAlone) {
  const Folder folder;
  make_keys(folder, "mine");
  make_keys(folder, "other");
  const std::string head = sha256("head"), text = sign_head(head, folder / "mine.pem");
  EXPECT_EQ(problem(head, text, folder / "mine.pub"), "");
  EXPECT_EQ(sign_head(head, folder / "mine.pem"), text);  // Ed25519 needs no chance
  EXPECT_NE(problem(sha256("another"), text, folder / "mine.pub"), "");
  EXPECT_NE(problem(head, text, folder / "other.pub").find("by another key"), std::string::npos);
  // Whoever puts the other key into the file has not its signature.
  nlohmann::json forged = nlohmann::json::parse(text);
  forged["public_key"] = nlohmann::json::parse(sign_head(head, folder / "other.pem"))["public_key"];
  EXPECT_NE(problem(head, forged.dump() + "\n", folder / "other.pub").find("does not prove"), std::string::npos);
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string bad = text;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    EXPECT_NE(problem(head, bad, folder / "mine.pub"), "") << "byte " << i;
  }
  EXPECT_EQ(signature_path("/runs/a/ledger.jsonl", head).string(), "/runs/a/ledger." + head.substr(0, 12) + ".sig");
}

TEST(LedgerSignature, KeysOfAnotherKindAreRefused) {
  const Folder folder;
  make_keys(folder, "short", "X25519");
  write_file(folder / "words", "no key\n");
  for (const char* key : {"short.pem", "words", "absent"})
    EXPECT_THROW(sign_head(sha256("head"), folder / key), Error) << key;
  for (const char* key : {"short.pub", "words", "absent"}) EXPECT_NE(problem("", "{}", folder / key), "") << key;
}

}  // namespace
}  // namespace fourmi
