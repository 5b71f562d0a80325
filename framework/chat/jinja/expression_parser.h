// Expressions of a template. (What reads its tags derives from it: parser.cpp.)
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/chat/jinja/lexer.h"
#include "framework/chat/jinja/syntax.h"

namespace fourmi::jinja {

class ExpressionParser {
 public:
  ExpressionParser(const std::string& text, const std::string& place)
      : place_(place), tokens_(tokens_of(text, place)) {}

 protected:
  using Kind = Expression::Kind;
  static constexpr int deepest = 100;  ///< expressions and blocks in each other

  struct Depth {
    explicit Depth(ExpressionParser& parser) : p(parser) {
      if (++p.depth_ > deepest) p.refuse("more than " + std::to_string(deepest) + " things in each other");
    }
    ~Depth() { --p.depth_; }
    Depth(const Depth&) = delete;
    ExpressionParser& p;
  };

  [[noreturn]] void refuse(const std::string& what) const;
  const Token& now() const { return tokens_[at_ < tokens_.size() ? at_ : tokens_.size() - 1]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : tokens_.size() - 1]; }
  const Token& take() {
    const Token& token = now();
    ++at_;
    return token;
  }
  /// The token that comes now, for messages.
  std::string shown() const;
  bool symbol(std::string_view text) const { return now().kind == Token::Kind::symbol && now().text == text; }
  bool word(std::string_view text) const { return now().kind == Token::Kind::name && now().text == text; }
  bool accept_symbol(std::string_view text) { return symbol(text) && (++at_, true); }
  bool accept_word(std::string_view text) { return word(text) && (++at_, true); }
  void expect_symbol(const std::string& text);
  void expect(Token::Kind kind, const char* what);
  std::string name(const char* of);

  /// a, b, c is a list of three.
  ExpressionPtr tuple();
  ExpressionPtr expression();
  /// An expression that is no `a if b else c`.
  ExpressionPtr either();

  const std::string& place_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;

 private:
  ExpressionPtr make(Kind kind) const;
  template <class... Children>
  ExpressionPtr make_of(Kind kind, Children... children) const;
  template <class Next>
  ExpressionPtr chain(std::initializer_list<const char*> operators, Next next);
  ExpressionPtr both();
  ExpressionPtr negation();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr unary(bool filters);
  ExpressionPtr postfix(ExpressionPtr e);
  ExpressionPtr subscript(ExpressionPtr of);
  void arguments(Expression& e);
  ExpressionPtr filters_and_tests(ExpressionPtr e);
  ExpressionPtr primary();

  int depth_ = 0;
};

}  // namespace fourmi::jinja
