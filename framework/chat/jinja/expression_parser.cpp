#include "framework/chat/jinja/expression_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "kernels/runtime/error.h"

namespace fourmi::jinja {

void ExpressionParser::refuse(const std::string& what) const {
  throw Error(ExitStatus::input, fmt::format("{}:{}", place_, now().line), what);
}
std::string ExpressionParser::shown() const {
  if (now().kind == Token::Kind::tag_end || now().kind == Token::Kind::output_end) return "the end of the tag";
  return now().kind == Token::Kind::end ? "the end of the template" : "'" + now().text + "'";
}
void ExpressionParser::expect_symbol(const std::string& text) {
  if (!accept_symbol(text)) refuse(fmt::format("{}, '{}' was expected", shown(), text));
}
void ExpressionParser::expect(Token::Kind kind, const char* what) {
  if (now().kind != kind) refuse(fmt::format("{}, {} was expected", shown(), what));
  ++at_;
}
std::string ExpressionParser::name(const char* of) {
  static constexpr std::string_view reserved[] = {"if",  "else", "for",   "in",   "is",   "and",   "or",
                                                  "not", "true", "false", "none", "True", "False", "None"};
  if (now().kind != Token::Kind::name ||
      std::find(std::begin(reserved), std::end(reserved), now().text) != std::end(reserved))
    refuse(fmt::format("{}, a name of {} was expected", shown(), of));
  return take().text;
}

ExpressionPtr ExpressionParser::make(Kind kind) const {
  auto e = std::make_unique<Expression>();
  e->kind = kind;
  e->line = now().line;
  return e;
}
template <class... Children>
ExpressionPtr ExpressionParser::make_of(Kind kind, Children... children) const {
  ExpressionPtr e = make(kind);
  (e->children.push_back(std::move(children)), ...);
  return e;
}

ExpressionPtr ExpressionParser::tuple() {
  ExpressionPtr first = expression();
  if (!symbol(",")) return first;
  ExpressionPtr all = make_of(Kind::list, std::move(first));
  while (accept_symbol(",") && now().kind != Token::Kind::tag_end) all->children.push_back(expression());
  return all;
}

ExpressionPtr ExpressionParser::expression() {
  const Depth depth(*this);
  ExpressionPtr e = either();
  while (accept_word("if")) {
    ExpressionPtr condition = either();
    e = make_of(Kind::conditional, std::move(e), std::move(condition));
    e->children.push_back(accept_word("else") ? expression() : nullptr);
  }
  return e;
}
ExpressionPtr ExpressionParser::either() {
  ExpressionPtr e = both();
  while (accept_word("or")) e = make_of(Kind::either, std::move(e), both());
  return e;
}
ExpressionPtr ExpressionParser::both() {
  ExpressionPtr e = negation();
  while (accept_word("and")) e = make_of(Kind::both, std::move(e), negation());
  return e;
}
ExpressionPtr ExpressionParser::negation() {
  const Depth depth(*this);
  if (word("not")) {
    ++at_;
    return make_of(Kind::negation, negation());
  }
  return comparison();
}
ExpressionPtr ExpressionParser::comparison() {
  ExpressionPtr first = sum();
  ExpressionPtr all;
  while (true) {
    std::string op;
    for (const char* known : {"==", "!=", "<=", ">=", "<", ">"})
      if (op.empty() && accept_symbol(known)) op = known;
    if (op.empty() && accept_word("in")) op = "in";
    if (op.empty() && word("not") && ahead().text == "in") {
      at_ += 2;
      op = "not in";
    }
    if (op.empty()) return all ? std::move(all) : std::move(first);
    if (!all) all = make_of(Kind::comparison, std::move(first));
    all->texts.push_back(op);
    all->children.push_back(sum());
  }
}
template <class Next>
ExpressionPtr ExpressionParser::chain(std::initializer_list<const char*> operators, Next next) {
  ExpressionPtr e = next();
  while (true) {
    const char* found = nullptr;
    for (const char* op : operators)
      if (found == nullptr && accept_symbol(op)) found = op;
    if (found == nullptr) return e;
    e = make_of(Kind::arithmetic, std::move(e), next());
    e->text = found;
  }
}
ExpressionPtr ExpressionParser::sum() {
  return chain({"+", "-"}, [&] { return concatenation(); });
}
ExpressionPtr ExpressionParser::concatenation() {
  return chain({"~"}, [&] { return product(); });
}
ExpressionPtr ExpressionParser::product() {
  return chain({"*", "//", "/", "%"}, [&] { return chain({"**"}, [&] { return unary(true); }); });
}
ExpressionPtr ExpressionParser::unary(bool filters) {
  const Depth depth(*this);
  ExpressionPtr e;
  if (accept_symbol("-"))
    e = make_of(Kind::minus, unary(false));
  else if (accept_symbol("+"))
    e = unary(false);
  else
    e = primary();
  e = postfix(std::move(e));
  return filters ? filters_and_tests(std::move(e)) : std::move(e);
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr e) {
  while (true) {
    if (accept_symbol(".")) {
      e = make_of(Kind::attribute, std::move(e));
      if (now().kind != Token::Kind::name) refuse(fmt::format("{}, the name of a field was expected", shown()));
      e->text = take().text;
    } else if (symbol("[")) {
      e = subscript(std::move(e));
    } else if (symbol("(")) {
      e = make_of(Kind::call, std::move(e));
      arguments(*e);
    } else {
      return e;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr of) {
  ++at_;
  ExpressionPtr parts[3];
  int part = 0;
  while (!symbol("]")) {
    if (accept_symbol(":")) {
      if (++part > 2) refuse("a slice of more than three parts");
      continue;
    }
    if (parts[part]) refuse(fmt::format("{}, ] was expected", shown()));
    parts[part] = expression();
  }
  ++at_;
  if (part == 0 && !parts[0]) refuse("[] without what is looked for");
  ExpressionPtr e = make_of(part == 0 ? Kind::item : Kind::slice, std::move(of));
  for (int i = 0; i < (part == 0 ? 1 : 3); ++i) e->children.push_back(std::move(parts[i]));
  return e;
}

void ExpressionParser::arguments(Expression& e) {
  expect_symbol("(");
  while (!symbol(")")) {
    const bool named = now().kind == Token::Kind::name && ahead().text == "=" && ahead().kind == Token::Kind::symbol;
    if (named) {
      std::string key = take().text;
      ++at_;
      e.named.emplace_back(std::move(key), expression());
    } else {
      if (!e.named.empty()) refuse("an argument without a name after one with a name");
      e.children.push_back(expression());
    }
    if (!accept_symbol(",")) break;
  }
  expect_symbol(")");
}

ExpressionPtr ExpressionParser::filters_and_tests(ExpressionPtr e) {
  while (true) {
    if (accept_symbol("|")) {
      e = make_of(Kind::filter, std::move(e));
      e->text = name("a filter");
      if (symbol("(")) arguments(*e);
    } else if (accept_word("is")) {
      const bool negated = accept_word("not");
      e = make_of(Kind::test, std::move(e));
      e->negated = negated;
      if (now().kind != Token::Kind::name) refuse(fmt::format("{}, the name of a test was expected", shown()));
      e->text = take().text;
      const Token::Kind k = now().kind;
      if (symbol("("))
        arguments(*e);
      else if (k == Token::Kind::string || k == Token::Kind::integer || k == Token::Kind::real)
        e->children.push_back(postfix(primary()));
    } else if (symbol("(")) {
      e = make_of(Kind::call, std::move(e));
      arguments(*e);
    } else {
      return e;
    }
  }
}

ExpressionPtr ExpressionParser::primary() {
  ExpressionPtr e = make(Kind::literal);
  const Token token = now();
  switch (token.kind) {
    case Token::Kind::string: {
      std::string text;
      while (now().kind == Token::Kind::string) text += take().text;
      e->value = std::move(text);
      return e;
    }
    case Token::Kind::integer:
      e->value = static_cast<std::int64_t>(std::strtoll(take().text.c_str(), nullptr, 10));
      return e;
    case Token::Kind::real:
      e->value = std::strtod(take().text.c_str(), nullptr);
      return e;
    case Token::Kind::name:
      if (token.text == "true" || token.text == "True" || token.text == "false" || token.text == "False")
        e->value = (token.text[0] | 32) == 't';
      else if (token.text == "none" || token.text == "None")
        e->value = None{};
      else {
        e->kind = Kind::name;
        e->text = name("a variable");
        return e;
      }
      ++at_;
      return e;
    default:
      break;
  }
  if (accept_symbol("(")) {
    e = make(Kind::list);
    e->text = "(";
    bool comma = false;
    while (!symbol(")")) {
      e->children.push_back(expression());
      if (!accept_symbol(",")) break;
      comma = true;
    }
    expect_symbol(")");
    return e->children.size() == 1 && !comma ? std::move(e->children[0]) : std::move(e);
  }
  if (accept_symbol("[")) {
    e->kind = Kind::list;
    while (!symbol("]")) {
      e->children.push_back(expression());
      if (!accept_symbol(",")) break;
    }
    expect_symbol("]");
    return e;
  }
  if (accept_symbol("{")) {
    e->kind = Kind::dict;
    while (!symbol("}")) {
      e->children.push_back(expression());
      expect_symbol(":");
      e->children.push_back(expression());
      if (!accept_symbol(",")) break;
    }
    expect_symbol("}");
    return e;
  }
  refuse(fmt::format("{}, an expression was expected", shown()));
}

}  // namespace fourmi::jinja
