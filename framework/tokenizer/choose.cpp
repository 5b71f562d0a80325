#include "framework/tokenizer/choose.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <system_error>
#include <vector>

#include "framework/digest/file_digest.h"
#include "framework/digest/sha256.h"
#include "framework/tokenizer/bpe.h"
#include "framework/tokenizer/bytes.h"
#include "framework/tokenizer/definition.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t most_bytes = std::uintmax_t{1} << 30;

std::string read_file(const fs::path& file) {
  std::error_code failure;
  if (!fs::is_regular_file(file, failure) || fs::file_size(file, failure) > most_bytes || failure)
    throw Error(ExitStatus::input, file.string(), "no regular file of at most 1 GiB, a tokenizer.json was expected");
  std::ifstream in(file, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in.good() && !in.eof())
    throw Error(ExitStatus::input, file.string(), "a read error, a tokenizer.json was expected");
  if (bytes.empty())
    throw Error(ExitStatus::input, file.string(), "an empty or unreadable file, a tokenizer.json was expected");
  return bytes;
}

bool leads_to_file(const fs::path& path) {
  std::error_code failure;
  return fs::exists(path, failure) || fs::is_symlink(path, failure);
}

/// Where the tokenizer.json of `name` would be.
fs::path json_at(const std::string& name) {
  std::error_code failure;
  return fs::is_directory(name, failure) ? fs::path(name) / "tokenizer.json" : fs::path(name);
}

/// Its vocabulary is inside, and is written as a tokenizer.json on another floor (framework/interop/origin.h).
bool is_gguf(const fs::path& file) {
  std::error_code failure;
  char first[4] = {};
  if (fs::is_regular_file(file, failure)) std::ifstream(file, std::ios::binary).read(first, 4);
  return std::string_view(first, 4) == "GGUF";
}

fs::path copy_in(const fs::path& run) {
  return run / "tokenizer.json";
}

}  // namespace

fs::path tokenizer_json(const std::string& name, const std::string& place) {
  fs::path file = json_at(name);
  if (!leads_to_file(file))
    throw Error(
        ExitStatus::input, place,
        fmt::format("{} does not exist, bytes or a tokenizer.json or the folder of one was expected", file.string()));
  if (is_gguf(file))
    throw Error(ExitStatus::input, place,
                fmt::format("{} is a GGUF file, a tokenizer.json was expected", file.string()),
                "`fourmi import` writes its vocabulary as one; runs keep theirs beside their recipe");
  return file;
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& name, const std::string& place,
                                          const std::string& end_of_document, const std::string& key) {
  if (name == "bytes") {
    if (!end_of_document.empty())
      throw Error(ExitStatus::usage, key,
                  fmt::format("'{}' was found with the tokenizer bytes, none was expected", end_of_document));
    return std::make_unique<ByteTokenizer>();
  }
  const fs::path file = tokenizer_json(name, place);
  return std::make_unique<BpeTokenizer>(read_tokenizer_json(read_file(file), file.string()), end_of_document, key);
}

void pin_tokenizer(DataSection& data, const fs::path& run) {
  if (data.tokenizer == "bytes") return;
  struct Candidate {
    fs::path file;
    std::string sha256;
  };
  std::vector<Candidate> candidates;
  const auto add = [&](const fs::path& file) { candidates.push_back({file, digest_file(file).sha256}); };
  const bool own_copy = !run.empty() && leads_to_file(copy_in(run));
  const std::string named = data.tokenizer_file.empty() ? data.tokenizer : data.tokenizer_file;
  const fs::path file = json_at(named);
  if (!own_copy || (leads_to_file(file) && !is_gguf(file))) add(tokenizer_json(named, "data.tokenizer"));
  if (own_copy) add(copy_in(run));
  // Without a digest to look for, the file that the recipe names counts, and another than before is found by its key.
  const auto chosen = std::find_if(candidates.begin(), candidates.end(), [&](const Candidate& c) {
    return data.tokenizer_sha256.empty() || c.sha256 == data.tokenizer_sha256;
  });
  if (chosen == candidates.end())
    throw Error(ExitStatus::input, "data.tokenizer_sha256",
                fmt::format("{} has the SHA-256 {}, {} was expected", candidates[0].file.string(), candidates[0].sha256,
                            data.tokenizer_sha256),
                "Bring the tokenizer back that the recipe or the run was made with");
  data.tokenizer_sha256 = chosen->sha256;
  data.tokenizer_file = chosen->file.string();
  const BpeTokenizer tokenizer(read_tokenizer_json(read_file(chosen->file), chosen->file.string()),
                               data.end_of_document, "data.end_of_document");
  data.end_of_document = tokenizer.definition().contents[static_cast<std::size_t>(tokenizer.end_of_document())];
}

void keep_tokenizer(const DataSection& data, const fs::path& run) {
  if (data.tokenizer == "bytes") return;
  FOURMI_CHECK(!data.tokenizer_file.empty(), "a tokenizer to keep that is not pinned");
  const fs::path to = copy_in(run), aside = run / "tokenizer.json.tmp";
  std::error_code failure;
  if (fs::exists(to, failure) && digest_file(to).sha256 == data.tokenizer_sha256) return;
  fs::copy_file(data.tokenizer_file, aside, fs::copy_options::overwrite_existing, failure);
  if (!failure && digest_file(aside).sha256 != data.tokenizer_sha256)
    throw Error(ExitStatus::input, data.tokenizer_file,
                "it was changed while the program started, a file at rest was expected", "Start again.");
  if (!failure) fs::rename(aside, to, failure);
  if (failure)
    throw Error(ExitStatus::environment, to.string(),
                fmt::format("{}, room for a copy of the tokenizer was expected", failure.message()));
}

namespace {

std::unique_ptr<Tokenizer> load_pinned(const DataSection& data) {
  if (data.tokenizer_file.empty())
    return load_tokenizer(data.tokenizer, "data.tokenizer", data.end_of_document, "data.end_of_document");
  const std::string bytes = read_file(data.tokenizer_file);
  if (sha256(bytes) != data.tokenizer_sha256)
    throw Error(ExitStatus::input, data.tokenizer_file,
                "it was changed while the program started, a file at rest was expected", "Start again.");
  return std::make_unique<BpeTokenizer>(read_tokenizer_json(bytes, data.tokenizer_file), data.end_of_document,
                                        "data.end_of_document");
}

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const DataSection& data, std::int64_t model_vocab_size) {
  std::unique_ptr<Tokenizer> tokenizer = load_pinned(data);
  if (model_vocab_size < tokenizer->vocab_size())
    throw Error(ExitStatus::usage, "model.vocab_size",
                fmt::format("{} was found, at least {} (the ids of tokenizer '{}') was expected", model_vocab_size,
                            tokenizer->vocab_size(), data.tokenizer));
  return tokenizer;
}

}  // namespace fourmi
