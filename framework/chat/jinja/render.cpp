#include "framework/chat/jinja/render.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "framework/chat/jinja/operations.h"
#include "kernels/runtime/error.h"

namespace fourmi::jinja {
namespace {

using Scope = std::map<std::string, Value>;

constexpr std::int64_t most_work = 3'000'000;
constexpr int deepest = 400;

class Renderer {
 public:
  Renderer(const Dict& variables, std::time_t now, const std::string& place) : place_(place) {
    scopes_.emplace_back();
    globals(now);
    for (const auto& [name, value] : variables.entries) scopes_[0][name] = value;
    scopes_.emplace_back();
  }

  Rendered run(const Block& all) {
    block(all);
    out_.text = std::move(text_);
    return std::move(out_);
  }

 private:
  enum class Flow { on, leave, next };

  [[noreturn]] void refuse(int line, const std::string& cause) const {
    throw Error(ExitStatus::input, fmt::format("{}:{}", place_, line), cause);
  }
  /// Runs what throws causes.
  template <class Work>
  auto at(int line, Work&& work_to_do) const -> decltype(work_to_do()) {
    try {
      return work_to_do();
    } catch (const std::string& cause) {
      refuse(line, cause);
    }
  }
  void work(int line, std::size_t amount = 1) {
    work_ += static_cast<std::int64_t>(amount);
    if (work_ > most_work) refuse(line, "work without end");
  }
  struct Deeper {
    Deeper(Renderer& renderer, int line) : r(renderer) {
      if (++r.depth_ > deepest) {
        --r.depth_;
        r.refuse(line, fmt::format("more than {} things in each other", deepest));
      }
    }
    ~Deeper() { --r.depth_; }
    Deeper(const Deeper&) = delete;
    Renderer& r;
  };

  void globals(std::time_t now) {
    Scope& g = scopes_[0];
    g["raise_exception"] = Callable([](Arguments& a) -> Value {
      Given given(a, "raise_exception");
      throw "the template refuses: " + to_text(given.need("message"));
    });
    g["strftime_now"] = Callable([now](Arguments& a) -> Value {
      Given given(a, "strftime_now");
      const std::string format = need_text(given.need("format"), "strftime_now");
      std::tm parts{};
      ::localtime_r(&now, &parts);
      std::array<char, 1024> out{};
      if (format.size() > 200) throw std::string("a longer format than 200 bytes");
      return std::string(out.data(), std::strftime(out.data(), out.size(), format.c_str(), &parts));
    });
    g["range"] = Callable([](Arguments& a) -> Value {
      Given given(a, "range");
      const std::int64_t first = need_integer(given.need("start"), "range");
      const Value second = given.take("stop"), third = given.take("step");
      given.end();
      const std::int64_t begin = second.undefined() ? 0 : first;
      const std::int64_t end = second.undefined() ? first : need_integer(second, "range");
      const std::int64_t by = third.undefined() ? 1 : need_integer(third, "range");
      if (by == 0) throw std::string("a range of step 0");
      List out;
      for (std::int64_t i = begin; by > 0 ? i < end : i > end;) {
        out.push_back(i);
        if (out.size() > 100'000) throw std::string("a range of more than 100000 numbers");
        if (__builtin_add_overflow(i, by, &i)) break;
      }
      return out;
    });
    const auto mapping = [](bool open) {
      return Callable([open](Arguments& a) -> Value {
        Dict out;
        out.open = open;
        if (!a.positional.empty()) {
          if (a.positional.size() > 1 || a.positional[0].dict() == nullptr) throw std::string("more than one mapping");
          out.entries = a.positional[0].dict()->entries;
        }
        for (const auto& [key, value] : a.named) out[key] = plain(value);
        return out;
      });
    };
    g["namespace"] = mapping(true);
    g["dict"] = mapping(false);
  }

  /// What may be kept in a namespace: nothing that could hold it in turn.
  static const Value& plain(const Value& value, int depth = 0) {
    if (depth > 100) throw std::string("lists in each other without end");
    if (value.dict() != nullptr) {
      if (value.dict()->open) throw std::string("a namespace inside of a value");
      for (const auto& [key, v] : value.dict()->entries) plain(v, depth + 1);
    } else if (value.list() != nullptr) {
      for (const Value& v : *value.list()) plain(v, depth + 1);
    } else if (value.callable() != nullptr) {
      throw std::string("a function inside of a value");
    }
    return value;
  }

  // Statements.

  Flow block(const Block& all) {
    for (const Statement& s : all)
      if (const Flow flow = statement(s); flow != Flow::on) return flow;
    return Flow::on;
  }

  void write(int line, const std::string& text) {
    work(line, 1 + text.size() / 64);
    text_ += text;
    if (text_.size() > longest_text) refuse(line, fmt::format("more than {} bytes of text", longest_text));
  }

  Flow statement(const Statement& s) {
    const Deeper deeper(*this, s.line);
    work(s.line);
    switch (s.kind) {
      case Statement::Kind::text:
        write(s.line, s.text);
        return Flow::on;
      case Statement::Kind::output:
        write(s.line, at(s.line, [&] { return to_text(evaluate(*s.expression)); }));
        return Flow::on;
      case Statement::Kind::loop:
        loop(s);
        return Flow::on;
      case Statement::Kind::branches:
        for (const Branch& branch : s.branches)
          if (!branch.condition || evaluate(*branch.condition).truth()) return block(branch.body);
        return Flow::on;
      case Statement::Kind::set:
        set(s);
        return Flow::on;
      case Statement::Kind::set_field: {
        const Value of = look_up(s.names[0]);
        if (of.dict() == nullptr || !of.dict()->open)
          refuse(s.line, fmt::format("a field set of {}, a namespace was expected", of.kind()));
        const Value value = evaluate(*s.expression);
        (*of.dict())[s.text] = at(s.line, [&] { return plain(value); });
        return Flow::on;
      }
      case Statement::Kind::macro:
        scopes_.back()[s.text] = Callable([this, &s](Arguments& a) { return call(s, a); });
        return Flow::on;
      case Statement::Kind::generation: {
        if (captures_ > 0)
          refuse(s.line, "generation inside of a macro or a set, where its place in the text is not known");
        const std::size_t begin = text_.size();
        const Flow flow = block(s.body);
        out_.generated.emplace_back(begin, text_.size());
        return flow;
      }
      case Statement::Kind::leave:
        return Flow::leave;
      case Statement::Kind::next:
        return Flow::next;
    }
    return Flow::on;
  }

  /// The text that `body` writes.
  std::string captured(const Block& body) {
    std::string before = std::exchange(text_, {});
    ++captures_;
    block(body);
    --captures_;
    return std::exchange(text_, std::move(before));
  }

  void assign(int line, const std::vector<std::string>& names, const Value& value) {
    if (names.size() == 1) {
      scopes_.back()[names[0]] = value;
      return;
    }
    const List parts = at(line, [&] { return iterate(value); });
    if (parts.size() != names.size()) refuse(line, fmt::format("{} values for {} names", parts.size(), names.size()));
    for (std::size_t i = 0; i < names.size(); ++i) scopes_.back()[names[i]] = parts[i];
  }

  void set(const Statement& s) {
    if (s.expression) return assign(s.line, s.names, evaluate(*s.expression));
    scopes_.emplace_back();
    std::string text = captured(s.body);
    scopes_.pop_back();
    scopes_.back()[s.names[0]] = std::move(text);
  }

  void loop(const Statement& s) {
    const Value over = evaluate(*s.expression);
    List all = at(s.line, [&] { return iterate(over); });
    if (s.condition) {
      List chosen;
      for (const Value& v : all) {
        scopes_.emplace_back();
        assign(s.line, s.names, v);
        if (evaluate(*s.condition).truth()) chosen.push_back(v);
        scopes_.pop_back();
      }
      all = std::move(chosen);
    }
    if (all.empty()) {
      scopes_.emplace_back();
      block(s.other);
      scopes_.pop_back();
      return;
    }
    const auto size = static_cast<std::int64_t>(all.size());
    for (std::int64_t i = 0; i < size; ++i) {
      work(s.line, 8);
      const auto n = static_cast<std::size_t>(i);
      scopes_.emplace_back();
      scopes_.back()["loop"] = Dict{{{"index", i + 1},
                                     {"index0", i},
                                     {"revindex", size - i},
                                     {"revindex0", size - i - 1},
                                     {"first", i == 0},
                                     {"last", i + 1 == size},
                                     {"length", size},
                                     {"previtem", i > 0 ? all[n - 1] : Value(Undefined{"loop.previtem"})},
                                     {"nextitem", i + 1 < size ? all[n + 1] : Value(Undefined{"loop.nextitem"})},
                                     {"cycle", Callable([i](Arguments& a) -> Value {
                                        if (a.positional.empty())
                                          throw std::string("cycle without anything to choose from");
                                        return a.positional[static_cast<std::size_t>(i) % a.positional.size()];
                                      })}},
                                    false};
      assign(s.line, s.names, all[n]);
      const Flow flow = block(s.body);
      scopes_.pop_back();
      if (flow == Flow::leave) break;
    }
  }

  Value call(const Statement& macro, Arguments& arguments) {
    const Deeper deeper(*this, macro.line);
    Given given(arguments, "the macro " + macro.text);
    // A macro sees the template's own variables and its arguments.
    std::vector<Scope> before = std::exchange(scopes_, {});
    scopes_.push_back(before[0]);
    scopes_.push_back(before[1]);
    scopes_.emplace_back();
    for (std::size_t i = 0; i < macro.names.size(); ++i) {
      Value value = given.take(macro.names[i]);
      if (value.undefined() && macro.defaults[i]) value = evaluate(*macro.defaults[i]);
      scopes_.back()[macro.names[i]] = value;
    }
    given.end();
    std::string text = captured(macro.body);
    scopes_ = std::move(before);
    return text;
  }

  // Expressions.

  Value look_up(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    return Undefined{name};
  }

  Value evaluate(const Expression& e) {
    const Deeper deeper(*this, e.line);
    using Kind = Expression::Kind;
    Value value = at(e.line, [&] { return evaluate_node(e); });
    const bool made = e.kind == Kind::list || e.kind == Kind::dict || e.kind == Kind::arithmetic ||
                      e.kind == Kind::call || e.kind == Kind::filter;
    if (made && (value.list() != nullptr || value.dict() != nullptr)) at(e.line, [&] { check_weight(value); });
    const std::size_t size = value.text() != nullptr           ? value.text()->size() / 64
                             : made && value.list() != nullptr ? value.list()->size()
                                                               : 0;
    work(e.line, 1 + size);
    return value;
  }

  Arguments arguments_of(const Expression& e) {
    Arguments out;
    for (std::size_t i = 1; i < e.children.size(); ++i) out.positional.push_back(evaluate(*e.children[i]));
    for (const auto& [name, value] : e.named) out.named.emplace_back(name, evaluate(*value));
    return out;
  }

  Value evaluate_node(const Expression& e) {
    using Kind = Expression::Kind;
    const auto child = [&](std::size_t i) { return e.children[i] ? evaluate(*e.children[i]) : Value(); };
    switch (e.kind) {
      case Kind::literal:
        return e.value;
      case Kind::name:
        return look_up(e.text);
      case Kind::list: {
        List out;
        for (const ExpressionPtr& c : e.children) out.push_back(evaluate(*c));
        out.tuple = e.text == "(";
        return out;
      }
      case Kind::dict: {
        Dict out;
        for (std::size_t i = 0; i < e.children.size(); i += 2)
          out[need_text(child(i), "a key of a mapping")] = child(i + 1);
        return out;
      }
      case Kind::attribute:
        return attribute(child(0), e.text);
      case Kind::item:
        return item(child(0), child(1));
      case Kind::slice:
        return slice(child(0), child(1), child(2), child(3));
      case Kind::call: {
        const Value function = child(0);
        if (function.undefined()) throw fmt::format("a call of '{}', which is undefined", function.missing().name);
        if (function.callable() == nullptr) throw fmt::format("a call of {}, a function was expected", function.kind());
        Arguments arguments = arguments_of(e);
        return (*function.callable())(arguments);
      }
      case Kind::filter: {
        const Value value = child(0);
        Arguments arguments = arguments_of(e);
        return filter(e.text, value, arguments);
      }
      case Kind::test: {
        const Value value = child(0);
        Arguments arguments = arguments_of(e);
        return test(e.text, value, arguments) != e.negated;
      }
      case Kind::both: {
        Value left = child(0);
        return left.truth() ? child(1) : left;
      }
      case Kind::either: {
        Value left = child(0);
        return left.truth() ? left : child(1);
      }
      case Kind::negation:
        return !child(0).truth();
      case Kind::minus:
        return arithmetic("-", 0, child(0));
      case Kind::arithmetic: {
        const Value left = child(0);
        return arithmetic(e.text, left, child(1));
      }
      case Kind::comparison: {
        Value left = child(0);
        for (std::size_t i = 0; i < e.texts.size(); ++i) {
          Value right = child(i + 1);
          if (!compare(e.texts[i], left, right)) return false;
          left = std::move(right);
        }
        return true;
      }
      case Kind::conditional:
        return child(1).truth() ? child(0) : child(2);
    }
    return {};
  }

  const std::string& place_;
  std::vector<Scope> scopes_;
  std::string text_;
  Rendered out_;
  std::int64_t work_ = 0;
  int depth_ = 0, captures_ = 0;
};

}  // namespace

Rendered render(const Block& block, const Dict& variables, std::time_t now, const std::string& place) {
  return Renderer(variables, now, place).run(block);
}

}  // namespace fourmi::jinja
