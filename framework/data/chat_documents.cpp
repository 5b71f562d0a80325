#include "framework/data/chat_documents.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <set>

#include "framework/chat/conversation_text.h"
#include "framework/chat/token_mask.h"
#include "framework/tokenizer/bpe.h"
#include "framework/tokenizer/encoder_shelf.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

/// Noon of data.chat_date, so that every time zone writes that day.
std::time_t time_of(const std::string& date) {
  std::tm parts{};
  if (date.empty() || std::sscanf(date.c_str(), "%4d-%2d-%2d", &parts.tm_year, &parts.tm_mon, &parts.tm_mday) != 3)
    return 0;
  parts.tm_year -= 1900;
  parts.tm_mon -= 1;
  parts.tm_hour = 12;
  parts.tm_isdst = -1;
  return std::mktime(&parts);
}

struct Document {
  std::vector<std::int32_t> ids;
  std::vector<bool> loss;
  std::int64_t loss_bytes = 0;
  std::vector<std::string> unread;
};

/// Lines of one source to documents; any number of threads may use it.
class Reader {
 public:
  Reader(const LoadedSource& source, const DataSection& data, const Tokenizer& tokenizer, const std::string& place)
      : lines_(*source.chat), tokenizer_(tokenizer), place_(place), encoders_(tokenizer) {
    const DataSource& r = source.recipe;
    format_.prompt_completion = r.format == "prompt-completion";
    if (r.field != "text") format_.field = r.field;
    format_.columns = r.columns;
    if (!r.reasoning.empty())
      format_.reasoning = r.reasoning == "keep"   ? Reasoning::keep
                          : r.reasoning == "last" ? Reasoning::last
                                                  : Reasoning::drop;
    rules_.loss_on = r.loss_on == "all" ? LossOn::all : r.loss_on == "last" ? LossOn::last : LossOn::assistant;
    rules_.now = time_of(data.chat_date);
    rules_.dated = !data.chat_date.empty();
    plain_ = format_.prompt_completion && conversation(lines_.lines.front()).plain;
    if (!plain_) take_template(data);
    if (const auto* bpe = dynamic_cast<const BpeTokenizer*>(&tokenizer)) {
      for (const AddedToken& token : bpe->definition().added_tokens)
        if (token.special) special_.push_back(token.content);
      end_of_document_ = bpe->definition().contents[static_cast<std::size_t>(bpe->end_of_document())];
    }
    rules_.special_tokens = special_;
  }

  Document read(const ChatLines::Line& line) {
    const Conversation c = conversation(line);
    if (c.plain != plain_)
      refuse(c, {"prompt"},
             fmt::format("{} in a source that begins with {}, the same in every line was expected",
                         c.plain ? "texts" : "messages", plain_ ? "texts" : "messages"));
    Document document = encode(c, plain_ ? pair(c) : write_conversation(c, *chat_, rules_));
    if (std::find(document.loss.begin() + std::min<std::ptrdiff_t>(1, std::ssize(document.loss)), document.loss.end(),
                  true) == document.loss.end())
      refuse(c, {}, "nothing in the loss, at least one token behind the first was expected");
    document.unread = c.unread;
    return document;
  }
  bool plain() const { return plain_; }

 private:
  Conversation conversation(const ChatLines::Line& line) const {
    const std::string file = lines_.files[static_cast<std::size_t>(line.file)].string();
    return read_conversation(lines_.text(line), format_, {file, static_cast<std::size_t>(line.number)});
  }
  void take_template(const DataSection& data) {
    chat_ = find_chat_template(data);
    if (!chat_)
      throw Error(ExitStatus::input, place_,
                  fmt::format("conversations, but no chat template beside the tokenizer '{}'{}, one was expected",
                              data.tokenizer, data.model_from.empty() ? "" : " or the model " + data.model_from),
                  "Name one with data.chat_template: PATH (docs/chat.md).");
    for (const auto& [name, text] : chat_->special_tokens().entries)
      if (name == "eos_token" && text.text() != nullptr) special_.push_back(*text.text());
  }
  ConversationText pair(const Conversation& c) const {
    const std::string text = c.prompt + c.completion;
    return {text, {{rules_.loss_on == LossOn::all ? 0 : c.prompt.size(), text.size()}}};
  }
  Document encode(const Conversation& c, const ConversationText& written) {
    Document document;
    std::unique_ptr<Encoder> encoder = encoders_.take();
    encoder->append(written.text, document.ids);
    const auto mask = mask_tokens(written.text, document.ids, written.loss, tokenizer_, *encoder, end_of_document_);
    encoders_.give(std::move(encoder));
    if (!mask)
      refuse(c, {}, "a text that the tokenizer changes where the loss begins or ends, one that keeps it was expected",
             "Normalize the texts (Unicode NFC) before.");
    document.loss = *mask;
    for (const auto& [begin, end] : written.loss) document.loss_bytes += static_cast<std::int64_t>(end - begin);
    if (!plain_) return document;
    // Texts stand as any document does: behind the end of the one before, and their own end is learned.
    document.ids.insert(document.ids.begin(), tokenizer_.end_of_document());
    document.ids.push_back(tokenizer_.end_of_document());
    document.loss.insert(document.loss.begin(), false);
    document.loss.push_back(true);
    return document;
  }

  const ChatLines& lines_;
  const Tokenizer& tokenizer_;
  const std::string& place_;
  EncoderShelf encoders_;
  ConversationFormat format_;
  TurnRules rules_;
  bool plain_ = false;
  std::optional<ModelChat> chat_;
  std::vector<std::string> special_;
  std::string end_of_document_;
};

std::vector<std::size_t> lines_of(const ChatLines& lines, Side side, double share, const std::string& place) {
  std::vector<TextPiece> all;
  for (std::int64_t i = 0; i < std::ssize(lines.lines); ++i) all.push_back({i, i + 1});
  const Split split = split_documents(all, share, place);
  std::vector<std::size_t> chosen;
  for (const TextPiece& piece : side == Side::train ? split.train : split.held_out)
    chosen.push_back(static_cast<std::size_t>(piece.begin));
  return chosen;
}

/// Documents in the order of lines, whoever reads them.
class Collector {
 public:
  explicit Collector(const Tokenizer& tokenizer) : store_(std::make_shared<EncodedStore>(tokenizer.vocab_size())) {}

  void add(const Document& document) {
    const std::int64_t begin = store_->size();
    store_->append(document.ids);
    all_.pieces.push_back({begin, store_->size()});
    all_.loss.insert(all_.loss.end(), document.loss.begin(), document.loss.end());
    all_.num_loss_bytes += document.loss_bytes;
    unread_.insert(document.unread.begin(), document.unread.end());
    std::vector<std::int32_t> facts = document.ids;
    for (std::size_t i = 0; i < facts.size(); ++i) facts[i] = 2 * facts[i] + (document.loss[i] ? 1 : 0);
    all_.checksum = static_cast<std::uint32_t>(
        crc32_z(all_.checksum, reinterpret_cast<const Bytef*>(facts.data()), facts.size() * sizeof(std::int32_t)));
  }
  ChatDocuments finish(const DataSource& recipe, bool plain, const std::string& place, double seconds) {
    const std::int64_t documents = std::ssize(all_.pieces), tokens = store_->size();
    const auto learned = std::count(all_.loss.begin(), all_.loss.end(), true);
    if (recipe.loss_on != "all" && learned >= tokens - documents)
      throw Error(ExitStatus::input, place,
                  fmt::format("a share of 1 of {} tokens in the loss, a part of them was expected", tokens),
                  "If all is to be learned, say so: loss_on: all.");
    all_.note = fmt::format("{}: {} {} are {} tokens, {:.2f}% of them in the loss; rendered and encoded in {:.1f} s",
                            place, documents, plain ? "pairs" : "conversations", tokens,
                            100.0 * static_cast<double>(learned) / static_cast<double>(tokens), seconds);
    for (const std::string& field : unread_)
      all_.note += (field == *unread_.begin() ? "; fields that are not read: " : ", ") + field;
    all_.store = std::move(store_);
    return std::move(all_);
  }

 private:
  std::shared_ptr<EncodedStore> store_;
  ChatDocuments all_;
  std::set<std::string> unread_;
};

}  // namespace

std::optional<ModelChat> find_chat_template(const DataSection& data) {
  const fs::path tokenizer = data.tokenizer_file.empty() ? fs::path(data.tokenizer) : fs::path(data.tokenizer_file);
  std::error_code none;
  std::vector<fs::path> folders;
  if (!data.model_from.empty()) {
    // A model's folder as it was published; what an import keeps of one; a checkpoint of such a run.
    const fs::path from = data.model_from;
    folders.insert(folders.end(), {from, from / "huggingface", from.parent_path().parent_path() / "huggingface"});
  }
  if (data.tokenizer != "bytes") {
    folders.push_back(fs::is_directory(tokenizer, none) ? tokenizer : tokenizer.parent_path());
    folders.push_back(folders.back() / "huggingface");  // a run's own copies, where model.from leads nowhere any more
    folders.push_back(fs::is_directory(data.tokenizer, none) ? fs::path(data.tokenizer)
                                                             : fs::path(data.tokenizer).parent_path());
  }
  for (fs::path& folder : folders)
    if (folder.empty()) folder = ".";
  if (data.chat_template != "model") {
    const auto with_tokens = std::find_if(folders.begin(), folders.end(), [](const fs::path& folder) {
      return !read_special_tokens(folder).entries.empty();
    });
    return read_chat_template(data.chat_template, with_tokens != folders.end()
                                                      ? *with_tokens
                                                      : fs::absolute(data.chat_template).parent_path());
  }
  for (const fs::path& folder : folders)
    if (auto found = read_model_chat(folder)) return found;
  return std::nullopt;
}

ChatDocuments chat_documents_of(const LoadedSource& source, Side side, double share, const DataSection& data,
                                const Tokenizer& tokenizer, const std::string& place, ThreadPool* pool) {
  FOURMI_CHECK(source.chat != nullptr, "{} is no source of conversations", place);
  const auto start = std::chrono::steady_clock::now();
  const std::vector<std::size_t> chosen = lines_of(*source.chat, side, share, place);
  Reader reader(source, data, tokenizer, place);
  Collector collector(tokenizer);
  constexpr std::size_t portion = 512;
  for (std::size_t first = 0; first < chosen.size(); first += portion) {
    std::vector<Document> documents(std::min(portion, chosen.size() - first));
    // The first bad line is named, whoever finds another one before.
    std::vector<std::exception_ptr> failures(documents.size());
    const auto body = [&](std::int64_t begin, std::int64_t end) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) try {
          documents[i] = reader.read(source.chat->lines[chosen[first + i]]);
        } catch (...) {
          failures[i] = std::current_exception();
        }
    };
    pool != nullptr ? pool->parallel_for(std::ssize(documents), 1, body) : body(0, std::ssize(documents));
    for (std::size_t i = 0; i < documents.size(); ++i) {
      if (failures[i]) std::rethrow_exception(failures[i]);
      collector.add(documents[i]);
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return collector.finish(source.recipe, reader.plain(), side == Side::train ? place : place + " (held out)", seconds);
}

}  // namespace fourmi
