// An endpoint over TLS, whose certificate the system does not know.
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tests/harvest/small_harvest.h"

namespace fourmi::testing {
namespace {

/// A certificate for 127.0.0.1 that signs itself, and its key.
void write_certificate(const std::filesystem::path& certificate, const std::filesystem::path& key) {
  const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> pair(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const std::unique_ptr<X509, void (*)(X509*)> x(X509_new(), X509_free);
  X509_set_version(x.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(x.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(x.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(x.get()), 3600);
  X509_set_pubkey(x.get(), pair.get());
  X509_NAME* name = X509_get_subject_name(x.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("127.0.0.1"), -1, -1, 0);
  X509_set_issuer_name(x.get(), name);
  X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "IP:127.0.0.1");
  X509_add_ext(x.get(), names, -1);
  X509_EXTENSION_free(names);
  ASSERT_GT(X509_sign(x.get(), pair.get(), EVP_sha256()), 0);
  const auto write = [](const std::filesystem::path& path, const auto& what) {
    const std::unique_ptr<BIO, int (*)(BIO*)> out(BIO_new_file(path.c_str(), "w"), BIO_free);
    ASSERT_TRUE(out && what(out.get()));
  };
  write(certificate, [&](BIO* out) { return PEM_write_bio_X509(out, x.get()) == 1; });
  write(key, [&](BIO* out) {
    return PEM_write_bio_PrivateKey(out, pair.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1;
  });
}

TEST_F(SmallHarvest, OverTlsWithACertificateThatTheRecipeNamesAndWithNoOther) {
  const std::string certificate = (temp.path() / "ca.pem").string(), key = (temp.path() / "ca.key").string();
  write_certificate(certificate, key);
  write_certificate(temp.path() / "other.pem", temp.path() / "other.key");
  FakeEndpoint secure(certificate, key);
  TeacherSection& t = recipe.distill.teacher;
  t.endpoint = secure.url();
  put_text(temp.path() / "key", "a-key-of-its-own");
  t.api_key_file = (temp.path() / "key").string();
  recipe.distill.harvest.retries = 1;
  for (const char* file : {"", "other.pem"}) {
    t.ca_file = *file ? (temp.path() / file).string() : "";
    const Error refused = failure();
    EXPECT_EQ(refused.status(), ExitStatus::environment);
    EXPECT_NE(std::string(refused.what()).find("a certificate that is not trusted"), std::string::npos)
        << refused.what();
  }
  EXPECT_EQ(secure.requests(), 0) << "neither prompt nor key goes to a server that nobody vouches for";
  t.ca_file = certificate;
  EXPECT_EQ(harvest_once().end, harvest::End::complete);
  EXPECT_EQ(secure.answered(), 12);
  for (const std::string& bad : {key, (temp.path() / "absent.pem").string()}) {
    t.ca_file = bad;
    EXPECT_EQ(failure().place(), "distill.teacher.ca_file");
    EXPECT_EQ(failure().status(), ExitStatus::input);
  }
}

}  // namespace
}  // namespace fourmi::testing
