// A template as a tree, each node with the line it stands in.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "framework/chat/jinja/value.h"

namespace fourmi::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    literal,      ///< value
    name,         ///< text
    list,         ///< children (a tuple too)
    dict,         ///< children: key, value, key, value ...
    attribute,    ///< children[0].text
    item,         ///< children[0][children[1]]
    slice,        ///< children[0][begin:end:step], null where absent
    call,         ///< children[0](children[1 ...], named)
    filter,       ///< children[0] | text(children[1 ...], named)
    test,         ///< children[0] is text(children[1 ...]); negated: is not
    both,         ///< a and b
    either,       ///< a or b
    negation,     ///< not a
    minus,        ///< -a
    arithmetic,   ///< text: + - * / // % ** ~
    comparison,   ///< children[0] texts[0] children[1] texts[1] ...
    conditional,  ///< children[0] if children[1] else children[2] (null: undefined)
  };
  Kind kind = Kind::literal;
  int line = 0;
  Value value{};
  std::string text{};
  std::vector<std::string> texts{};
  std::vector<ExpressionPtr> children{};
  std::vector<std::pair<std::string, ExpressionPtr>> named{};
  bool negated = false;
};

struct Statement;
using Block = std::vector<Statement>;

struct Branch {
  ExpressionPtr condition{};  ///< null: else
  Block body;
};

struct Statement {
  enum class Kind {
    text,        ///< text
    output,      ///< expression
    loop,        ///< for names in expression if condition: body, else: other
    branches,    ///< if, elif, else
    set,         ///< names = expression; or names[0] = body
    set_field,   ///< names[0].text = expression
    macro,       ///< text(names = defaults): body
    generation,  ///< body: what the assistant writes
    leave,       ///< break
    next,        ///< continue
  };
  Kind kind = Kind::text;
  int line = 0;
  std::string text{};
  ExpressionPtr expression{}, condition{};
  std::vector<std::string> names{};
  std::vector<ExpressionPtr> defaults{};  ///< of a macro's names; null: none
  std::vector<Branch> branches{};
  Block body{}, other{};
};

/// Throws Error(input) at `place:line` naming what is not built.
Block parse(const std::string& text, const std::string& place);

}  // namespace fourmi::jinja
