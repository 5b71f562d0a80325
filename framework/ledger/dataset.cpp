#include "framework/ledger/dataset.h"

#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kernels/runtime/error.h"

namespace fourmi {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

struct Facts {
  std::int64_t bytes = -1, changed_ns = 0;
};

Facts facts_of(const fs::path& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) return {};
  return {facts.st_size, facts.st_mtim.tv_sec * 1000000000LL + facts.st_mtim.tv_nsec};
}

std::string text_at(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

std::int64_t whole_at(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number_integer() ? it->get<std::int64_t>() : -1;
}

fs::path beside(const fs::path& bin, const char* ending) {
  return fs::path(bin).replace_extension(ending);
}

std::string key_of(const DataSource& s) {
  return fmt::format("data.train.{}", s.name);
}

/// One of recipe and side files; Error(usage) if they say different things.
std::string agreed_term(const DataSource& s, const char* key, const std::string& recipe, const std::string& side,
                        const fs::path& file) {
  if (recipe.empty() || side.empty() || recipe == side) return recipe.empty() ? side : recipe;
  throw Error(ExitStatus::usage, key_of(s),
              fmt::format("found {} {}, expected {} as {} says", key, recipe, side, file.string()),
              fmt::format("Take `{}` out of the recipe, or tokenize again with the right one", key));
}

}  // namespace

DigestCache::DigestCache(std::string_view text) {
  const json j = json::parse(text, nullptr, false);
  if (!j.is_object()) return;
  for (const auto& [path, value] : j.items()) {
    if (!value.is_object()) continue;
    const Known known{whole_at(value, "bytes"), whole_at(value, "changed_ns"), text_at(value, "sha256")};
    if (known.bytes >= 0 && is_sha256(known.sha256)) known_[path] = known;
  }
}

FileDigest DigestCache::digest(const fs::path& path) {
  const std::string name = fs::absolute(path).lexically_normal().string();
  const Facts now = facts_of(path);
  const auto found = known_.find(name);
  if (found != known_.end() && found->second.bytes == now.bytes && found->second.changed_ns == now.changed_ns)
    return {found->second.bytes, found->second.sha256};
  const FileDigest digest = digest_file(path);
  known_[name] = {digest.bytes, now.changed_ns, digest.sha256};
  changed_ = true;
  return digest;
}

std::string DigestCache::text() const {
  json j = json::object();
  for (const auto& [path, k] : known_)
    j[path] = {{"bytes", k.bytes}, {"changed_ns", k.changed_ns}, {"sha256", k.sha256}};
  return j.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::optional<SideFile> read_side_file(const fs::path& bin) {
  const fs::path path = beside(bin, ".json");
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return std::nullopt;
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  const json j = json::parse(text.str(), nullptr, false);
  SideFile side;
  const auto fail = [&](const std::string& expected) {
    throw Error(ExitStatus::input, path.string(),
                fmt::format("found no {}, expected what fourmi tokenize writes", expected),
                "Tokenize again, or remove the file");
  };
  if (!j.is_object()) fail("JSON object");
  side.license = text_at(j, "license");
  side.source = text_at(j, "source");
  for (const char* ending : {"bin", "idx"}) {
    const auto entry = j.find(ending);
    if (entry == j.end() || !entry->is_object()) fail(fmt::format("entry `{}`", ending));
    const DataFile file{beside(bin, fmt::format(".{}", ending).c_str()).string(), whole_at(*entry, "bytes"),
                        text_at(*entry, "sha256")};
    if (file.bytes < 0 || !is_sha256(file.sha256)) fail(fmt::format("`bytes` and `sha256` in `{}`", ending));
    side.files.push_back(file);
  }
  return side;
}

SourceTerms terms_of(const SourceFiles& s) {
  SourceTerms terms{s.recipe.name, s.recipe.license, s.recipe.source, !s.recipe.sha256.empty(),
                    s.recipe.format == "synthetic"};
  bool all_have_side_files = may_have_side_file(s.recipe) && !s.files.empty();
  for (const fs::path& file : s.files) {
    const std::optional<SideFile> side = may_have_side_file(s.recipe) ? read_side_file(file) : std::nullopt;
    all_have_side_files = all_have_side_files && side;
    if (!side) continue;
    terms.license = agreed_term(s.recipe, "license", terms.license, side->license, beside(file, ".json"));
    terms.source = agreed_term(s.recipe, "source", terms.source, side->source, beside(file, ".json"));
  }
  terms.has_digest = terms.has_digest || all_have_side_files;
  return terms;
}

DatasetFact describe_source(const SourceFiles& s, DigestCache& cache) {
  const SourceTerms terms = terms_of(s);
  DatasetFact fact{s.recipe.name, s.recipe.format, terms.license, terms.source, {}, "", "tokenize"};
  for (const fs::path& file : s.files) {
    const std::optional<SideFile> side = may_have_side_file(s.recipe) ? read_side_file(file) : std::nullopt;
    if (side) {
      for (DataFile of : side->files) {
        const Facts now = facts_of(of.path);
        if (now.bytes != of.bytes)
          throw Error(ExitStatus::input, of.path,
                      fmt::format("found {} bytes, expected {} as {} says", now.bytes, of.bytes,
                                  beside(file, ".json").string()),
                      "Tokenize again: the files do not belong together");
        of.path = fs::absolute(of.path).lexically_normal().string();
        fact.files.push_back(std::move(of));
      }
      continue;
    }
    fact.digest_from = "reading";
    std::vector<fs::path> parts{file};
    if (s.recipe.format == "bin") parts.push_back(beside(file, ".idx"));
    for (const fs::path& part : parts) {
      const FileDigest digest = cache.digest(part);
      fact.files.push_back({fs::absolute(part).lexically_normal().string(), digest.bytes, digest.sha256});
    }
  }
  if (fact.files.empty()) fact.digest_from = "nothing";
  fact.sha256 = digest_of(fact.files);
  if (!s.recipe.sha256.empty()) {
    if (fact.sha256 != s.recipe.sha256)
      throw Error(ExitStatus::input, key_of(s.recipe),
                  fmt::format("found the SHA-256 {} of {}, expected {} as `sha256` says", fact.sha256,
                              s.files.size() == 1 ? s.files.front().string() : fmt::format("{} files", s.files.size()),
                              s.recipe.sha256),
                  "Bring the right data back, or take the new digest into the recipe");
    if (fact.digest_from == "reading") fact.digest_from = "recipe";
  }
  return fact;
}

}  // namespace fourmi
