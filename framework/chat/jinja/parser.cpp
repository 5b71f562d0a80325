#include <fmt/format.h>

#include <algorithm>

#include "framework/chat/jinja/expression_parser.h"

namespace fourmi::jinja {
namespace {

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Block run() {
    Block all = block({});
    if (now().kind != Token::Kind::end) refuse("the tag " + ahead().text + " that ends nothing");
    return all;
  }

 private:
  /// Up to a tag that begins with one of `ends`, of which the name is not taken.
  Block block(std::initializer_list<std::string_view> ends) {
    const Depth depth(*this);
    Block all;
    while (now().kind != Token::Kind::end) {
      if (now().kind == Token::Kind::text) {
        Statement s;
        s.line = now().line;
        s.text = take().text;
        all.push_back(std::move(s));
      } else if (now().kind == Token::Kind::output_begin) {
        Statement s;
        s.kind = Statement::Kind::output;
        s.line = take().line;
        s.expression = expression();
        expect(Token::Kind::output_end, "}}");
        all.push_back(std::move(s));
      } else {
        const Token& tag = ahead();
        if (std::find(ends.begin(), ends.end(), tag.text) != ends.end() && tag.kind == Token::Kind::name) return all;
        if (tag.text.starts_with("end") || tag.text == "else" || tag.text == "elif") {
          if (ends.size() > 0) refuse(fmt::format("the tag {}, {} was expected", tag.text, *(ends.end() - 1)));
          return all;
        }
        ++at_;
        all.push_back(statement());
      }
    }
    if (ends.size() > 0) refuse(fmt::format("the end of the template, the tag {} was expected", *(ends.end() - 1)));
    return all;
  }
  void end_tag() { expect(Token::Kind::tag_end, "%}"); }
  /// {% end... %}
  void close() {
    expect(Token::Kind::tag_begin, "a tag");
    ++at_;
    end_tag();
  }

  Statement statement() {
    Statement s;
    s.line = now().line;
    const std::string tag = now().kind == Token::Kind::name ? take().text : shown();
    if (tag == "for") {
      loop(s);
    } else if (tag == "if") {
      branches(s);
    } else if (tag == "set") {
      set(s);
    } else if (tag == "macro") {
      macro(s);
    } else if (tag == "generation") {
      s.kind = Statement::Kind::generation;
      end_tag();
      s.body = block({"endgeneration"});
      close();
    } else if (tag == "break" || tag == "continue") {
      if (loops_ == 0) refuse(tag + " outside of a loop");
      s.kind = tag == "break" ? Statement::Kind::leave : Statement::Kind::next;
      end_tag();
    } else {
      refuse(fmt::format("the tag {}, for, if, set, macro, generation, break or continue was expected", tag));
    }
    return s;
  }

  void loop(Statement& s) {
    s.kind = Statement::Kind::loop;
    const bool bracket = accept_symbol("(");
    do s.names.push_back(name("a loop's variable"));
    while (accept_symbol(","));
    if (bracket) expect_symbol(")");
    if (!accept_word("in")) refuse(fmt::format("{}, in was expected", shown()));
    s.expression = either();  // no `a if b else c`: the if is the loop's
    if (accept_word("if")) s.condition = expression();
    if (word("recursive")) refuse("a recursive loop, one without was expected");
    end_tag();
    ++loops_;
    s.body = block({"else", "endfor"});
    --loops_;
    if (ahead().text == "else") {
      close();
      s.other = block({"endfor"});
    }
    close();
  }

  void branches(Statement& s) {
    s.kind = Statement::Kind::branches;
    while (true) {
      Branch branch;
      branch.condition = expression();
      end_tag();
      branch.body = block({"elif", "else", "endif"});
      s.branches.push_back(std::move(branch));
      const std::string tag = ahead().text;
      if (tag != "elif") {
        close();
        if (tag == "endif") return;
        s.branches.push_back({nullptr, block({"endif"})});
        return close();
      }
      at_ += 2;
    }
  }

  void set(Statement& s) {
    s.kind = Statement::Kind::set;
    s.names.push_back(name("a variable"));
    if (accept_symbol(".")) {
      s.kind = Statement::Kind::set_field;
      s.text = name("a field");
    } else {
      while (accept_symbol(",")) s.names.push_back(name("a variable"));
    }
    if (accept_symbol("=")) {
      s.expression = tuple();
      return end_tag();
    }
    if (s.kind == Statement::Kind::set_field || s.names.size() > 1 || now().kind != Token::Kind::tag_end)
      refuse(fmt::format("{}, = was expected", shown()));
    end_tag();
    s.body = block({"endset"});
    close();
  }

  void macro(Statement& s) {
    s.kind = Statement::Kind::macro;
    s.text = name("a macro");
    expect_symbol("(");
    while (!symbol(")")) {
      s.names.push_back(name("an argument"));
      s.defaults.push_back(accept_symbol("=") ? expression() : nullptr);
      if (!accept_symbol(",")) break;
    }
    expect_symbol(")");
    end_tag();
    const int loops = std::exchange(loops_, 0);
    s.body = block({"endmacro"});
    loops_ = loops;
    close();
  }

  int loops_ = 0;
};

}  // namespace

Block parse(const std::string& text, const std::string& place) {
  return Parser(text, place).run();
}

}  // namespace fourmi::jinja
