// An Ed25519 signature (RFC 8032) of a ledger's head, in a file of its own beside the ledger. The head names all that
// led to it by SHA-256, so whoever holds the public key knows that none of it was written anew.
//
//   openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out public.pem
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace fourmi {

/// "ledger.jsonl" and a head -> "ledger.0f3a9c2b51d7.sig" in the same folder.
std::filesystem::path signature_path(const std::filesystem::path& ledger, std::string_view head);

/// The signature's file as text: one JSON object with head, public key and signature, in hexadecimal digits.
/// `key_file`: a private key as PEM, without a pass phrase. Throws Error(input) naming the file for what is none.
std::string sign_head(std::string_view head, const std::filesystem::path& key_file);

/// Throws Error(input) naming the file unless `text` (of the file at `place`) is a signature of this head by the key
/// whose public half is in `public_key_file`, as PEM.
void verify_signature(std::string_view head, const std::string& text, const std::filesystem::path& public_key_file,
                      const std::string& place);

}  // namespace fourmi
