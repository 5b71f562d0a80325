// fourmi tokenize TOKENIZER INPUT... --out PREFIX: texts as token files; with --train INPUT... --out FILE: a vocabulary
// learnt from them.
#include "framework/corpus/tokenize.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/corpus/train.h"
#include "framework/data/text.h"
#include "framework/digest/file_digest.h"
#include "framework/recipe/license.h"
#include "framework/run/files.h"
#include "framework/run/machine.h"
#include "framework/tokenizer/choose.h"
#include "launch/commands.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct Arguments {
  std::vector<std::string> words;
  std::string out, end_of_document;
  TokenizeOptions corpus;
  TrainTokenizerOptions training;
  int threads = 0;
  bool train = false, without_end = false, json = false;
};

/// On a terminal only: one line that is written over.
class ProgressLine {
 public:
  void operator()(std::int64_t done, std::int64_t all) {
    const auto now = Clock::now();
    if (!terminal_ || all == 0 || now - last_ < std::chrono::milliseconds(200)) return;
    last_ = now;
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    std::cerr << fmt::format("\r{:3.0f}%  {:.1f} of {:.1f} MB  {:.1f} MB/s\033[K",
                             100.0 * static_cast<double>(done) / static_cast<double>(all),
                             static_cast<double>(done) / 1e6, static_cast<double>(all) / 1e6,
                             static_cast<double>(done) / 1e6 / seconds)
              << std::flush;
  }
  void clear() const {
    if (terminal_) std::cerr << "\r\033[K" << std::flush;
  }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

 private:
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  Clock::time_point begin_ = Clock::now(), last_{};
};

/// Files, folders and globs, in the order in which they are named; each file once.
std::vector<fs::path> inputs_of(const std::vector<std::string>& words, std::size_t first, const fs::path& out) {
  std::vector<fs::path> inputs;
  std::set<fs::path> seen;
  std::error_code failure;
  const fs::path result = fs::weakly_canonical(fs::absolute(out), failure);
  for (std::size_t i = first; i < words.size(); ++i) {
    const fs::path folder = fs::is_directory(words[i], failure) ? fs::canonical(words[i], failure) : fs::path();
    if (!folder.empty() &&
        std::mismatch(folder.begin(), folder.end(), result.begin(), result.end()).first == folder.end())
      throw Error(ExitStatus::usage, "--out",
                  fmt::format("{} lies in the input {}, a place outside of it was expected", out.string(), words[i]),
                  "A second call would take the first one's result for input");
    for (fs::path& file : find_files(words[i], "INPUT")) {
      if (!seen.insert(fs::absolute(file).lexically_normal()).second)
        throw Error(ExitStatus::usage, file.string(), "it was named twice, each input once was expected");
      inputs.push_back(std::move(file));
    }
  }
  if (inputs.empty())
    throw Error(ExitStatus::usage, "fourmi tokenize", "no INPUT was given, at least one file was expected");
  return inputs;
}

fs::path prefix_of(const std::string& out) {
  const fs::path prefix = out;
  std::error_code failure;
  const bool named = prefix.has_filename() && !fs::is_directory(prefix, failure);
  if (!named || prefix.extension() == ".bin" || prefix.extension() == ".idx")
    throw Error(ExitStatus::usage, "--out",
                fmt::format("found {}, expected a PREFIX: the files are PREFIX.bin, PREFIX.idx and PREFIX.json", out));
  return prefix;
}

void require_license(const std::string& license) {
  if (license.empty()) return;
  const LicenseProblem problem = check_license(license);
  if (!problem.found.empty())
    throw Error(ExitStatus::usage, "--license", problem.found + ", " + problem.expected, problem.remedy);
}

double per_second(std::int64_t bytes, double seconds) {
  return static_cast<double>(bytes) / 1e6 / std::max(seconds, 1e-9);
}

void train(Arguments& a) {
  fs::path out = a.out;
  if (out.extension() != ".json") out /= "tokenizer.json";
  if (fs::exists(out) && !a.corpus.overwrite)
    throw Error(ExitStatus::usage, out.string(), "it exists, a free name was expected",
                "Name another --out, or take --overwrite");
  TrainTokenizerOptions& t = a.training;
  t.inputs = inputs_of(a.words, 0, out);
  t.format = a.corpus.format;
  t.field = a.corpus.field;
  t.threads = a.corpus.threads;
  if (out.has_parent_path()) files::make_folder(out.parent_path());  // before the work, which is long
  ProgressLine line;
  t.progress = [&](std::int64_t done, std::int64_t all) { line(done, all); };
  const TrainedTokenizer trained = train_tokenizer(t);
  line.clear();
  files::replace(out, trained.json);
  const std::string digest = digest_file(out).sha256;
  if (a.json) {
    const nlohmann::ordered_json j{{"tokenizer", out.string()},        {"sha256", digest},
                                   {"vocab_size", trained.vocab_size}, {"merges", trained.merges},
                                   {"words", trained.words},           {"text_bytes", trained.text_bytes}};
    std::cout << j.dump(2) << "\n";
  } else {
    std::cout << fmt::format("{}: {} tokens learnt from {} different words in {:.1f} MB of text, {:.1f} MB/s\n",
                             out.string(), trained.vocab_size, trained.words,
                             static_cast<double>(trained.text_bytes) / 1e6,
                             per_second(trained.text_bytes, line.seconds()));
  }
  if (trained.vocab_size < t.learn.vocab_size)
    std::cerr << fmt::format(
        "fourmi: warning: the text gave {} of {} tokens; no pair of neighbours occurs {} times any more\n",
        trained.vocab_size, t.learn.vocab_size, t.learn.min_frequency);
}

void report(const Arguments& a, const Tokenizer& tokenizer, const TokenizeResult& r, double seconds) {
  const CorpusCounts& c = r.counts;
  const std::int64_t documents = c.documents - c.empty_documents;
  if (r.begun_anew)
    std::cerr << "fourmi: warning: " << a.out
              << ".journal was another command's, or of inputs that have changed: begun anew\n";
  if (c.empty_documents > 0)
    std::cerr << fmt::format("fourmi: warning: {} empty documents were left out\n", c.empty_documents);
  if (c.not_utf8 > 0)
    std::cerr << fmt::format("fourmi: warning: {} bytes are no UTF-8; they were kept as they are\n", c.not_utf8);
  if (c.documents_cut > 0)
    std::cerr << fmt::format(
        "fourmi: warning: the text of {} documents holds the end-of-document token: they end there\n", c.documents_cut);
  const double bytes_per_token =
      static_cast<double>(c.text_bytes) / static_cast<double>(std::max<std::int64_t>(1, c.tokens));
  if (a.json) {
    const nlohmann::ordered_json j{{"prefix", a.out},
                                   {"tokens", c.tokens},
                                   {"documents", documents},
                                   {"text_bytes", c.text_bytes},
                                   {"end_of_document", tokenizer.end_of_document()},
                                   {"resumed", r.resumed},
                                   {"seconds", seconds},
                                   {"megabytes_per_second", per_second(r.text_bytes_here, seconds)}};
    std::cout << j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
    return;
  }
  std::cout << fmt::format("{}.bin: {} tokens in {} documents, {:.2f} bytes a token, {:.1f} MB/s{}\n", a.out, c.tokens,
                           documents, bytes_per_token, per_second(r.text_bytes_here, seconds),
                           r.resumed ? " (on from where it ended)" : "");
}

void tokenize(Arguments& a) {
  if (a.words.size() < 2)
    throw Error(ExitStatus::usage, "fourmi tokenize",
                "one name was found, a tokenizer and at least one input were expected", "See fourmi tokenize --help");
  require_license(a.corpus.license);
  a.corpus.prefix = prefix_of(a.out);
  a.corpus.inputs = inputs_of(a.words, 1, a.out);
  const auto tokenizer = load_tokenizer(a.words[0], "TOKENIZER", a.end_of_document, "--end-of-document");
  if (a.words[0] != "bytes") a.corpus.tokenizer_sha256 = digest_file(tokenizer_json(a.words[0], "TOKENIZER")).sha256;
  a.corpus.end_documents = !a.without_end;
  if (a.corpus.prefix.has_parent_path()) files::make_folder(a.corpus.prefix.parent_path());
  ProgressLine line;
  a.corpus.progress = [&](std::int64_t done, std::int64_t all) { line(done, all); };
  const TokenizeResult result = tokenize_corpus(*tokenizer, a.corpus);
  line.clear();
  report(a, *tokenizer, result, line.seconds());
}

}  // namespace

void add_tokenize(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c =
      app.add_subcommand("tokenize", "texts as token files (.bin, .idx); --train: a vocabulary learnt from them");
  c->add_option(
       "TOKENIZER INPUT", a->words,
       "bytes, a tokenizer.json or its folder; then files, folders or globs: text or JSON lines, also .gz and .zst. "
       "With --train: inputs only")
      ->required();
  c->add_option("--out", a->out, "PREFIX of PREFIX.bin, .idx and .json; with --train: a tokenizer.json, or its folder")
      ->required();
  c->add_option("--format", a->corpus.format,
                "auto: .jsonl and .ndjson are JSON lines, all else is text, a document a file")
      ->check(CLI::IsMember({"auto", "text", "jsonl"}))
      ->capture_default_str();
  c->add_option("--field", a->corpus.field, "the key of a JSON line that holds the text")->capture_default_str();
  c->add_option("--threads", a->threads, "0: one a core; the result is the same")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  c->add_flag("--overwrite", a->corpus.overwrite, "replace what has the result's names");
  c->add_flag("--json", a->json, "one JSON object");
  c->add_option("--license", a->corpus.license,
                "terms of the text, as an SPDX identifier; for PREFIX.json and the ledger");
  c->add_option("--source", a->corpus.source, "where the text comes from, in words");
  c->add_option("--end-of-document", a->end_of_document, "the added token that ends a document, as it is written");
  c->add_flag("--no-end-of-document", a->without_end, "put no such token after a document");
  CLI::Option* train_flag = c->add_flag("--train", a->train, "learn a byte-level BPE vocabulary");
  LearnOptions& learn = a->training.learn;
  c->add_option("--vocab-size", learn.vocab_size, "with --train: special tokens, 256 bytes and merges together")
      ->needs(train_flag);
  c->add_option("--pattern", a->training.pattern, "with --train: how text is cut into words")
      ->check(CLI::IsMember({"gpt2", "cl100k", "qwen2", "deepseek-v3"}))
      ->capture_default_str()
      ->needs(train_flag);
  c->add_option("--special-token", learn.special_tokens, "with --train: the first ids; once for each")
      ->needs(train_flag)
      ->capture_default_str();
  c->add_option("--min-frequency", learn.min_frequency, "with --train: pairs that occur less often are not learnt")
      ->check(CLI::PositiveNumber)
      ->needs(train_flag)
      ->capture_default_str();
  c->callback([a, &status] {
    a->corpus.threads = a->threads > 0 ? a->threads : usable_cores();
    if (a->train && a->training.learn.vocab_size == 0)
      throw Error(ExitStatus::usage, "fourmi tokenize", "--train without --vocab-size, both were expected");
    a->train ? train(*a) : tokenize(*a);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
