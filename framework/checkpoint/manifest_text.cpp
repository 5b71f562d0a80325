// The manifest as text. It begins with `{"sha256": "<64 digits>",` and the digest is that of all bytes after this line,
// so that a flip anywhere, white space included, is found.
#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/checkpoint/manifest.h"
#include "framework/digest/sha256.h"
#include "kernels/numerics/digest.h"

namespace fourmi {

using nlohmann::json;

namespace {

// Version 2 knows boxes of some columns; what has none is still written as version 1, which every release reads.
constexpr int format_version = 2, version_without_columns = 1;
constexpr std::string_view head = "{\"sha256\": \"", head_end = "\",\n";

bool has_cut_columns(const TensorEntry& t) {
  return std::any_of(t.boxes.begin(), t.boxes.end(),
                     [&](const BoxEntry& b) { return !holds_whole_rows(b.part, t.shape); });
}

json to_json(const TensorEntry& t) {
  json shape = json::array(), boxes = json::array();
  for (int i = 0; i < t.shape.rank; ++i) shape.push_back(t.shape[i]);
  for (const BoxEntry& b : t.boxes) {
    boxes.push_back({{"file", b.file},
                     {"offset", b.offset},
                     {"first_row", b.part.first_row},
                     {"num_rows", b.part.num_rows},
                     {"digest", digest_text(b.digest)}});
    if (holds_whole_rows(b.part, t.shape)) continue;
    boxes.back()["first_column"] = b.part.first_column;
    boxes.back()["num_columns"] = b.part.num_columns;
  }
  return {{"name", t.name},
          {"alias", t.alias},
          {"dtype", name_of(t.dtype)},
          {"shape", shape},
          {"digest", digest_text(t.digest)},
          {"boxes", boxes}};
}

/// Reads values of a JSON object and says which one is wrong.
class Fields {
 public:
  Fields(const json& object, std::string where, const std::string& place)
      : object_(object), where_(std::move(where)), place_(place) {
    if (!object_.is_object()) fail("an object");
  }
  [[noreturn]] void fail(std::string_view expected) const {
    throw DamageError(place_, fmt::format("{} is not right, expected {}", where_, expected));
  }
  const json& any(const char* key) const {
    const auto it = object_.find(key);
    if (it == object_.end()) fail(fmt::format("a key {}", key));
    return *it;
  }
  std::int64_t integer(const char* key) const { return integer(any(key), key); }
  std::int64_t integer(const json& v, const char* key) const {
    const bool fits = v.is_number_integer() && (!v.is_number_unsigned() || v.get<std::uint64_t>() <= limit);
    if (!fits || v.get<std::int64_t>() < 0) fail(fmt::format("{} to be an integer from 0 to 2^63-1", key));
    return v.get<std::int64_t>();
  }
  std::string text(const char* key) const {
    const json& v = any(key);
    if (!v.is_string()) fail(fmt::format("{} to be a string", key));
    return v.get<std::string>();
  }
  uint128 digest(const char* key) const {
    const auto d = parse_digest(text(key));
    if (!d) fail(fmt::format("{} to be 32 hexadecimal digits", key));
    return *d;
  }
  const json& array(const char* key) const {
    const json& v = any(key);
    if (!v.is_array()) fail(fmt::format("{} to be an array", key));
    return v;
  }

 private:
  static constexpr std::uint64_t limit = std::numeric_limits<std::int64_t>::max();
  const json& object_;
  std::string where_;
  const std::string& place_;
};

/// Brackets nested deeper than any manifest of ours: the JSON library walks values recursively.
bool nested_too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > 64) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

bool is_rank_file_name(std::string_view name) {
  return name.size() >= 13 && name.size() <= 18 && name.starts_with("rank-") && name.ends_with(".h5") &&
         std::all_of(name.begin() + 5, name.end() - 3, [](char c) { return c >= '0' && c <= '9'; });
}

TensorEntry parse_tensor(const json& j, const std::string& place, const std::vector<FileEntry>& files) {
  const Fields outer(j, "a tensor's entry", place);
  TensorEntry t;
  t.name = outer.text("name");
  const Fields f(j, "tensor " + t.name, place);
  t.alias = f.text("alias");
  if (!is_dataset_name(t.name) || (!t.alias.empty() && !is_dataset_name(t.alias))) f.fail("dataset paths as names");
  const auto dtype = parse_dtype(f.text("dtype"));
  if (!dtype) f.fail("a known dtype");
  t.dtype = *dtype;
  t.digest = f.digest("digest");
  const json& shape = f.array("shape");
  if (shape.empty() || shape.size() > 5) f.fail("1 to 5 dims");
  for (const json& d : shape) t.shape.dims[static_cast<std::size_t>(t.shape.rank++)] = f.integer(d, "a dim");
  if (!checked_bytes(t.shape, t.dtype)) f.fail("a size below 2^63 bytes");
  uint128 sum = 0;
  for (const json& e : f.array("boxes")) {
    const Fields g(e, "a box of tensor " + t.name, place);
    BoxEntry b;
    b.file = g.integer("file");
    b.offset = g.integer("offset");
    b.part = {g.integer("first_row"), g.integer("num_rows"), 0, columns_of(t.shape)};
    if (e.contains("first_column") || e.contains("num_columns")) {  // else the rows are whole
      b.part.first_column = g.integer("first_column");
      b.part.num_columns = g.integer("num_columns");
    }
    b.digest = g.digest("digest");
    if (b.file >= static_cast<std::int64_t>(files.size())) g.fail("a file of the list");
    t.boxes.push_back(b);
    sum += b.digest;
  }
  if (const std::string problem = tiling_problem(t); !problem.empty()) f.fail("boxes that tile it, found " + problem);
  for (const BoxEntry& b : t.boxes) {
    const FileEntry& file = files[static_cast<std::size_t>(b.file)];
    if (b.offset > file.bytes || t.bytes_of(b.part) > file.bytes - b.offset) f.fail("boxes inside " + file.name);
  }
  if (sum != t.digest) f.fail("a digest that is the sum of its boxes'");
  return t;
}

void parse_into(Manifest& m, const json& j, const std::string& place) {
  const Fields top(j, "the manifest", place);
  m.root = top.text("root");
  m.state.step = top.integer("step");
  m.state.tokens = top.integer("tokens");
  m.state.recipe = top.text("recipe");
  if (!top.any("training").is_object() || !top.any("info").is_object()) top.fail("training and info to be objects");
  m.state.training = top.any("training").dump();
  m.state.info = top.any("info").dump();
  if (j.contains("ledger_head")) {  // checkpoints of the first version have none
    m.state.ledger_head = top.text("ledger_head");
    if (m.state.ledger_head.size() != 64 ||
        m.state.ledger_head.find_first_not_of("0123456789abcdef") != std::string::npos)
      top.fail("ledger_head to be 64 hexadecimal digits");
  }
  for (const json& e : top.array("files")) {
    const Fields f(e, "a file's entry", place);
    m.files.push_back({f.text("name"), f.integer("bytes"), f.text("sha256")});
    if (!is_rank_file_name(m.files.back().name)) f.fail("names like rank-00000.h5");
    if (m.files.size() > 1 && !(m.files[m.files.size() - 2].name < m.files.back().name)) f.fail("ascending names");
  }
  std::set<std::string> names;
  for (const json& e : top.array("tensors")) {
    m.tensors.push_back(parse_tensor(e, place, m.files));
    const TensorEntry& t = m.tensors.back();
    if (m.tensors.size() > 1 && !(m.tensors[m.tensors.size() - 2].name < t.name)) top.fail("ascending tensor names");
    if (!names.insert(t.name).second || (!t.alias.empty() && !names.insert(t.alias).second))
      top.fail("each name once, found twice: " + t.name);
  }
  if (root_digest(m.tensors, m.state) != m.root) top.fail("a root digest that fits the tensors and the state");
}

}  // namespace

std::string to_text(const Manifest& m) {
  json files = json::array();
  for (const FileEntry& f : m.files) files.push_back({{"name", f.name}, {"bytes", f.bytes}, {"sha256", f.sha256}});
  const bool columns = std::any_of(m.tensors.begin(), m.tensors.end(), has_cut_columns);
  const int version = columns ? format_version : version_without_columns;
  json j = {{"format", "fourmi checkpoint"},
            {"version", version},
            {"root", m.root},
            {"step", m.state.step},
            {"tokens", m.state.tokens},
            {"training", json::parse(m.state.training)},
            {"recipe", m.state.recipe},
            {"info", json::parse(m.state.info)},
            {"files", files}};
  if (!m.state.ledger_head.empty()) j["ledger_head"] = m.state.ledger_head;
  std::string body = j.dump(1);
  body = body.substr(2, body.size() - 4);  // without "{\n" and "\n}"
  body += ",\n \"tensors\": [";            // one a line: large models have many
  for (const TensorEntry& t : m.tensors) body += (&t == m.tensors.data() ? "\n  " : ",\n  ") + to_json(t).dump();
  body += "\n ]\n}\n";
  return std::string(head) + sha256(body) + std::string(head_end) + body;
}

Manifest parse_manifest(const std::string& text, const std::string& place) {
  const std::string_view all(text);
  const std::size_t digits = head.size(), body = digits + 64 + head_end.size();
  if (all.size() < body || !all.starts_with(head) || all.substr(digits + 64, head_end.size()) != head_end)
    throw DamageError(
        place, fmt::format("found {} bytes that do not begin with their SHA-256, expected a manifest", all.size()));
  if (sha256(all.substr(body)) != all.substr(digits, 64))
    throw DamageError(place, "the manifest's bytes do not have the SHA-256 that it carries, expected them unchanged");
  if (nested_too_deep(all)) throw DamageError(place, "brackets are nested deeper than 64, expected a manifest");
  const json j = json::parse(text, nullptr, false);
  const Fields top(j, "the manifest", place);
  if (top.text("format") != "fourmi checkpoint") top.fail("format to be \"fourmi checkpoint\"");
  const std::int64_t version = top.integer("version");
  if (version > format_version)
    throw Error(ExitStatus::input, place,
                fmt::format("the checkpoint's format is version {}, expected at most {}", version, format_version),
                "Use the newer fourmi that wrote it");
  Manifest m;
  parse_into(m, j, place);
  return m;
}

}  // namespace fourmi
