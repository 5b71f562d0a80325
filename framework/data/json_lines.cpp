#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "framework/data/text.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

/// The lines of one file, one after the other; what is wrong with one is named by file, line and column (from 1, in
/// bytes).
class LineReader {
 public:
  LineReader(const std::string& lines, std::size_t size, const std::string& field, const std::string& name,
             std::int64_t lines_before)
      : lines_(lines), size_(size), field_(field), name_(name), number_(lines_before) {}

  void read(Text& text) {
    for (std::size_t end = 0; begin_ < size_; begin_ = end + 1) {
      end = std::min(size_, lines_.find('\n', begin_));
      line_ = std::string_view(lines_).substr(begin_, end - begin_);
      ++number_;
      if (line_.find_first_not_of(" \t\r") != std::string_view::npos) add_document(text);
    }
  }

 private:
  void add_document(Text& text) {
    simdjson::dom::element line;
    // The bytes behind the line are readable (append_json_lines), which spares a copy.
    const simdjson::error_code flaw = parser_.parse(line_.data(), line_.size(), false).get(line);
    if (flaw != simdjson::SUCCESS) refuse_line(simdjson::error_message(flaw));
    simdjson::dom::object object;
    if (line.get(object) != simdjson::SUCCESS) fail(1, "no JSON object, an object was expected");
    std::optional<simdjson::dom::element> found;
    for (const simdjson::dom::key_value_pair pair : object) {
      if (pair.key != field_) continue;
      if (found) fail(1, fmt::format("the field \"{}\" twice, once was expected", field_));
      found = pair.value;
    }
    if (!found)
      fail(1, fmt::format("no field \"{}\", an object that has it was expected", field_),
           "Name the field that holds the text with `field`.");
    std::string_view document;
    if (found->get(document) != simdjson::SUCCESS)
      fail(1, fmt::format("a field \"{}\" that is no text, text was expected", field_));
    text.bytes += document;
    text.file_ends.push_back(static_cast<std::int64_t>(text.bytes.size()));
  }

  /// The fast parser does not say where; a slow one does.
  [[noreturn]] void refuse_line(const char* reason) const {
    if (const Utf8Flaws flaws = find_utf8_flaws(line_); flaws.count > 0)
      fail(static_cast<std::size_t>(flaws.first) + 1,
           fmt::format("bytes that are no UTF-8 (at byte {} of the decoded file), UTF-8 was expected",
                       static_cast<std::int64_t>(begin_) + flaws.first),
           "Convert the file, e.g. with iconv.");
    if (line_.starts_with("\xEF\xBB\xBF")) fail(1, "a byte order mark, a JSON object was expected");
    try {
      const nlohmann::json read = nlohmann::json::parse(line_);
    } catch (const nlohmann::json::parse_error& error) {
      fail(std::min(error.byte, line_.size() + 1), "no JSON here, a whole JSON object on one line was expected");
    } catch (const nlohmann::json::exception&) {
    }
    fail(1, fmt::format("a line that cannot be read ({}), a JSON object was expected", reason));
  }

  [[noreturn]] void fail(std::size_t column, std::string what, std::string remedy = {}) const {
    throw Error(ExitStatus::input, fmt::format("{}:{}:{}", name_, number_, column), std::move(what), std::move(remedy));
  }

  const std::string& lines_;
  const std::size_t size_;
  const std::string &field_, &name_;
  simdjson::dom::parser parser_;
  std::size_t begin_ = 0;
  std::int64_t number_;
  std::string_view line_;
};

}  // namespace

void append_json_lines(std::string lines, const std::string& field, const std::string& name, Text& text,
                       std::int64_t lines_before) {
  const std::size_t size = lines.size();
  lines.resize(size + simdjson::SIMDJSON_PADDING);
  LineReader(lines, size, field, name, lines_before).read(text);
}

}  // namespace fourmi
