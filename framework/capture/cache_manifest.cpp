#include <nlohmann/json.hpp>

#include "framework/capture/cache.h"
#include "framework/digest/file_digest.h"
#include "framework/digest/sha256.h"
#include "framework/run/files.h"
#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

using nlohmann::json;
constexpr int cache_version = 1;
constexpr const char* again = "Bring the file back, or capture again (fourmi teacher capture)";

json as_json(const CachePart& p) {
  return {{"source", p.source}, {"windows", p.windows}, {"rows", p.rows},       {"bytes", p.bytes},
          {"file", p.file},     {"sha256", p.sha256},   {"offsets", p.offsets}, {"table_crc32", p.table_checksum}};
}

CachePart part_from(const json& j) {
  CachePart p;
  p.source = j.at("source"), p.windows = j.at("windows"), p.rows = j.at("rows"), p.bytes = j.at("bytes");
  p.file = j.at("file"), p.sha256 = j.at("sha256");
  p.offsets = j.at("offsets").get<std::array<std::int64_t, 5>>();
  p.table_checksum = j.at("table_crc32");
  if (p.windows < 1 || p.rows < 0 || p.file.find('/') != std::string::npos) throw std::out_of_range("a part");
  return p;
}

json content_of(const CacheManifest& m) {
  json parts = json::array();
  for (const CachePart& p : m.parts) parts.push_back(as_json(p));
  return {{"fourmi_logit_cache", cache_version}, {"header", json::parse(to_json(m.header))}, {"parts", parts}};
}

[[noreturn]] void damaged(const std::filesystem::path& path, const std::string& what) {
  throw Error(ExitStatus::input, path.string(), "found " + what + ", expected what a capture writes", again);
}

}  // namespace

std::string to_json(const CachePart& part) {
  return as_json(part).dump();
}

CachePart cache_part_from_json(const std::string& text, const std::string& place) {
  try {
    return part_from(json::parse(text));
  } catch (const std::exception& e) {
    damaged(place, fmt::format("no description of a part ({})", e.what()));
  }
}

std::int64_t CacheManifest::rows() const {
  std::int64_t sum = 0;
  for (const CachePart& p : parts) sum += p.rows;
  return sum;
}

std::int64_t CacheManifest::bytes() const {
  std::int64_t sum = 0;
  for (const CachePart& p : parts) sum += p.bytes;
  return sum;
}

std::string CacheManifest::root() const {
  return sha256(content_of(*this).dump());
}

std::filesystem::path cache_manifest_path(const std::filesystem::path& folder) {
  return folder / "capture.json";
}

CacheManifest read_cache_manifest(const std::filesystem::path& folder) {
  const std::filesystem::path path = cache_manifest_path(folder);
  const std::optional<std::string> text = files::read(path);
  if (!text)
    throw Error(ExitStatus::input, folder.string(), "found no whole cache there (no capture.json), expected one",
                "Capture it: fourmi teacher capture RECIPE, which also goes on with what was stopped");
  CacheManifest m;
  try {
    json j = json::parse(*text);
    const std::string root = j.at("root");
    j.erase("root");
    if (const int version = j.at("fourmi_logit_cache"); version > cache_version)
      throw Error(ExitStatus::input, path.string(),
                  fmt::format("found version {} of the format, expected at most {}", version, cache_version),
                  "Use a newer fourmi");
    m.header = capture_header_from_json(j.at("header").dump(), path.string());
    for (const json& p : j.at("parts")) {
      m.parts.push_back(part_from(p));
      if (m.parts.back().source < 0 || m.parts.back().source >= std::ssize(m.header.sources))
        throw std::out_of_range("a part's source");
    }
    if (m.root() != root) damaged(path, "another digest than its own");
  } catch (const json::exception& e) {
    damaged(path, fmt::format("no such text ({})", e.what()));
  } catch (const std::out_of_range& e) {
    damaged(path, e.what());
  }
  return m;
}

void prove_cache(const std::filesystem::path& folder, const std::string& root) {
  const CacheManifest m = read_cache_manifest(folder);
  if (m.root() != root)
    throw Error(ExitStatus::input, folder.string(),
                fmt::format("found a cache with root {}, expected {}, which was learned from", m.root(), root),
                "Bring that one back; one that was added to since has another root");
  for (const CachePart& part : m.parts) {
    const FileDigest now = digest_file(folder / part.file);
    if (now.sha256 != part.sha256 || now.bytes != part.bytes)
      throw Error(ExitStatus::input, (folder / part.file).string(),
                  fmt::format("found {} bytes with SHA-256 {}, expected {} with {}", now.bytes, now.sha256, part.bytes,
                              part.sha256),
                  again);
  }
}

void write_cache_manifest(const std::filesystem::path& folder, const CacheManifest& manifest) {
  json j = content_of(manifest);
  j["root"] = manifest.root();
  files::replace(cache_manifest_path(folder), j.dump(1) + "\n");
}

}  // namespace fourmi
