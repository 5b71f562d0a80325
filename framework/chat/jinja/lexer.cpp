#include "framework/chat/jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string_view>

#include "framework/chat/jinja/value.h"
#include "framework/tokenizer/utf8.h"
#include "kernels/runtime/error.h"

namespace fourmi::jinja {
namespace {

class Lexer {
 public:
  Lexer(const std::string& text, const std::string& place) : place_(place) {
    // As Jinja reads a template: one kind of line end, and none at the very end.
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
      text_ += text[i] == '\r' ? '\n' : text[i];
    }
    if (text_.ends_with('\n')) text_.pop_back();
  }

  std::vector<Token> run() {
    while (at_ < text_.size()) {
      const std::size_t open = next_tag();
      const std::string_view tag = std::string_view(text_).substr(open, 2);
      std::string between = text_.substr(at_, open - at_);
      if (open < text_.size()) strip_before(between, open, tag != "{{");
      add(Token::Kind::text, between);
      advance(open);
      if (open == text_.size()) break;
      advance(at_ + 2);
      if (follows("-") || follows("+")) advance(at_ + 1);
      if (tag == "{#")
        comment();
      else if (tag == "{{")
        inside(Token::Kind::output_begin, Token::Kind::output_end, "}}");
      else
        inside(Token::Kind::tag_begin, Token::Kind::tag_end, "%}");
    }
    add(Token::Kind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ExitStatus::input, fmt::format("{}:{}", place_, line_), what);
  }
  bool follows(std::string_view what) const { return std::string_view(text_).substr(at_).starts_with(what); }
  void advance(std::size_t to) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    at_ = to;
  }
  void add(Token::Kind kind, std::string text) {
    if (kind == Token::Kind::text && text.empty()) return;
    tokens_.push_back({kind, std::move(text), line_});
  }

  std::size_t next_tag() const {
    for (std::size_t i = at_; i + 1 < text_.size(); ++i)
      if (text_[i] == '{' && (text_[i + 1] == '{' || text_[i + 1] == '%' || text_[i + 1] == '#')) return i;
    return text_.size();
  }

  /// The text before a tag at `open`: a minus takes all white space, a block takes what its line begins with.
  void strip_before(std::string& text, std::size_t open, bool block) {
    const char sign = open + 2 < text_.size() ? text_[open + 2] : ' ';
    if (sign == '-') {
      auto all = characters(text);
      while (!all.empty() && is_space(all.back())) {
        text.resize(text.size() - all.back().size());
        all.pop_back();
      }
    } else if (block && sign != '+') {
      const std::size_t line = text.rfind('\n') + 1;  // npos + 1 is 0
      if (line == 0 && !at_line_begin_) return;
      const auto all = characters(std::string_view(text).substr(line));
      if (std::all_of(all.begin(), all.end(), is_space)) text.resize(line);
    }
  }

  /// After a tag: a minus takes all white space, the end of a block one line end.
  void strip_after(bool minus, bool plus, bool block) {
    const std::size_t begin = at_;
    if (minus) {
      while (at_ < text_.size()) {
        const std::size_t length = std::max<std::size_t>(1, utf8::character(std::string_view(text_).substr(at_)));
        if (!is_space(std::string_view(text_).substr(at_, length))) break;
        advance(at_ + length);
      }
    } else if (block && !plus && follows("\n")) {
      advance(at_ + 1);
    }
    at_line_begin_ = at_ > begin && text_[at_ - 1] == '\n';
  }

  void comment() {
    const std::size_t end = text_.find("#}", at_);
    if (end == std::string::npos) refuse("a comment without #}, its end was expected");
    const char sign = end > at_ ? text_[end - 1] : ' ';
    advance(end + 2);
    strip_after(sign == '-', sign == '+', true);
  }

  void inside(Token::Kind begin, Token::Kind end, std::string_view close) {
    add(begin, "");
    std::vector<char> open;  // a }} inside of { } is no end
    while (true) {
      while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) advance(at_ + 1);
      if (at_ == text_.size()) refuse(fmt::format("a tag without its end, {} was expected", close));
      const std::string_view rest = std::string_view(text_).substr(at_);
      const bool minus = rest[0] == '-' && rest.substr(1).starts_with(close);
      const bool plus = rest[0] == '+' && rest.substr(1).starts_with(close);
      if (open.empty() && (minus || plus || follows(close))) {
        advance(at_ + close.size() + (minus || plus ? 1 : 0));
        add(end, "");
        return strip_after(minus, plus, close == "%}");
      }
      word(open);
    }
  }

  void word(std::vector<char>& open) {
    const auto c = static_cast<unsigned char>(text_[at_]);
    if (std::isalpha(c) || c == '_') {
      std::size_t to = at_;
      while (to < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[to])) || text_[to] == '_')) ++to;
      take(Token::Kind::name, to);
    } else if (std::isdigit(c)) {
      number();
    } else if (c == '"' || c == '\'') {
      string(static_cast<char>(c));
    } else {
      for (const std::string_view symbol : {"**", "//", "==", "!=", "<=", ">="})
        if (follows(symbol)) return take(Token::Kind::symbol, at_ + 2);
      if (std::string_view("()[]{}.,:|=+-*/%~<>").find(static_cast<char>(c)) == std::string_view::npos)
        refuse(fmt::format("the character {}, an expression was expected", text_.substr(at_, 1)));
      if (c == '(' || c == '[' || c == '{') open.push_back(static_cast<char>(c));
      if (c == ')' || c == ']' || c == '}') {
        if (open.empty()) refuse(fmt::format("{} that closes nothing", static_cast<char>(c)));
        open.pop_back();
      }
      take(Token::Kind::symbol, at_ + 1);
    }
  }
  void take(Token::Kind kind, std::size_t to) {
    add(kind, text_.substr(at_, to - at_));
    advance(to);
  }

  void number() {
    std::size_t to = at_;
    const auto digits = [&] {
      while (to < text_.size() && std::isdigit(static_cast<unsigned char>(text_[to]))) ++to;
    };
    digits();
    Token::Kind kind = Token::Kind::integer;
    if (to + 1 < text_.size() && text_[to] == '.' && std::isdigit(static_cast<unsigned char>(text_[to + 1]))) {
      kind = Token::Kind::real;
      ++to;
      digits();
    }
    std::size_t exponent = to;
    if (exponent < text_.size() && (text_[exponent] | 32) == 'e') {
      ++exponent;
      if (exponent < text_.size() && (text_[exponent] == '+' || text_[exponent] == '-')) ++exponent;
      if (exponent < text_.size() && std::isdigit(static_cast<unsigned char>(text_[exponent]))) {
        kind = Token::Kind::real;
        to = exponent;
        digits();
      }
    }
    if (to - at_ > 18) refuse("a number of more than 18 digits");
    take(kind, to);
  }

  void string(char quote) {
    std::string out;
    std::size_t to = at_ + 1;
    for (; to < text_.size() && text_[to] != quote; ++to) {
      if (text_[to] != '\\') {
        out += text_[to];
        continue;
      }
      if (++to == text_.size()) break;
      constexpr std::string_view letters = "ntr\\'\"bfv0a\n", meant = std::string_view("\n\t\r\\'\"\b\f\v\0\a", 11);
      const std::size_t found = letters.find(text_[to]);
      if (text_[to] == '\n') continue;  // the line goes on
      if (found != std::string_view::npos) {
        out += meant[found];
      } else if (text_[to] == 'u' || text_[to] == 'x') {
        const std::size_t count = text_[to] == 'u' ? 4 : 2;
        char32_t code = 0;
        for (std::size_t i = 1; i <= count; ++i) {
          const char h = to + i < text_.size() ? text_[to + i] : 'z';
          if (!std::isxdigit(static_cast<unsigned char>(h))) refuse("an escape without its hexadecimal digits");
          code = code * 16 +
                 static_cast<char32_t>(std::isdigit(static_cast<unsigned char>(h)) ? h - '0' : (h | 32) - 'a' + 10);
        }
        if (code >= 0xd800 && code < 0xe000) refuse("half of a surrogate pair, a character was expected");
        utf8::append(out, code);
        to += count;
      } else {
        out.append(1, '\\').append(1, text_[to]);
      }
    }
    if (to >= text_.size()) refuse("a text without its closing quote");
    add(Token::Kind::string, std::move(out));
    advance(to + 1);
  }

  std::string text_;
  const std::string& place_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool at_line_begin_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokens_of(const std::string& text, const std::string& place) {
  return Lexer(text, place).run();
}

}  // namespace fourmi::jinja
