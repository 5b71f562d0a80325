// Binds a row of the field table to a member of the structs of recipe.h.
#pragma once

#include <type_traits>
#include <utility>

#include "framework/recipe/field.h"

namespace fourmi::recipe {

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

template <class T>
Value to_value(const T& member, const Field& field) {
  if constexpr (IsOptional<T>::value) {
    return member ? to_value(*member, field) : Value{};
  } else if constexpr (std::is_enum_v<T>) {
    return field.choices.at(static_cast<std::size_t>(member));
  } else if constexpr (std::is_same_v<T, bool>) {
    return field.type == Type::choice ? Value(field.choices.at(member ? 1 : 0)) : Value(member);
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<std::int64_t>(member);
  } else if constexpr (std::is_same_v<T, double>) {
    if (field.type == Type::duration) return Seconds{member};
    if (field.type == Type::whole) return static_cast<std::int64_t>(member);
    return member;
  } else {
    return member;
  }
}

template <class T>
void from_value(const Value& value, const Field& field, T& member) {
  if constexpr (IsOptional<T>::value) {
    if (std::holds_alternative<std::monostate>(value)) {
      member.reset();
    } else {
      from_value(value, field, member.emplace());
    }
  } else if constexpr (std::is_enum_v<T> || std::is_same_v<T, bool>) {
    if (const bool* flag = std::get_if<bool>(&value)) {
      member = static_cast<T>(*flag);
      return;
    }
    const std::string& word = std::get<std::string>(value);
    for (std::size_t i = 0; i < field.choices.size(); ++i) {
      if (field.choices[i] == word) member = static_cast<T>(i);
    }
  } else if constexpr (std::is_integral_v<T>) {
    const std::int64_t* whole = std::get_if<std::int64_t>(&value);
    member = whole ? static_cast<T>(*whole) : T{0};  // null is 0 where the table allows null
  } else if constexpr (std::is_same_v<T, double>) {
    if (const Seconds* seconds = std::get_if<Seconds>(&value)) {
      member = seconds->value;
    } else if (const std::int64_t* whole = std::get_if<std::int64_t>(&value)) {
      member = static_cast<double>(*whole);
    } else {
      member = std::get<double>(value);
    }
  } else {
    const T* given = std::get_if<T>(&value);
    member = given ? *given : T{};  // null is empty where the table allows null
  }
}

/// `member` is a callable (Recipe&, std::size_t index) -> T&.
template <class Member>
Field bind(Field field, Member member) {
  using T = std::remove_reference_t<decltype(member(std::declval<Recipe&>(), std::size_t{}))>;
  Field shape = field;  // types and choices only; captured by value, since the table moves
  shape.meaning.clear();
  field.get = [member, shape](const Recipe& recipe, std::size_t index) {
    return to_value<T>(member(const_cast<Recipe&>(recipe), index), shape);
  };
  field.set = [member, shape](Recipe& recipe, std::size_t index, const Value& value) {
    from_value<T>(value, shape, member(recipe, index));
  };
  return field;
}

}  // namespace fourmi::recipe

/// Access to a member of the recipe, for bind(): FOURMI_AT(run.seed), FOURMI_AT(data.train[index].weight).
#define FOURMI_AT(path)                                                   \
  [](::fourmi::Recipe & r, [[maybe_unused]] std::size_t index) -> auto& { \
    return r.path;                                                        \
  }
