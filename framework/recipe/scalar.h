// The spelling of single values: YAML 1.2's numbers without its traps, durations, and text that reads back as itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fourmi::recipe {

/// What an unquoted YAML 1.2 scalar is. `trap`: what YAML readers disagree about (010, 0o10, 0x1F, .inf, .nan, 1_000).
enum class Shape { null, boolean, number, trap, text };
Shape shape_of(std::string_view plain);

/// Decimal number as double; nullopt where the text is no number or too large. Numbers too small become 0.
std::optional<double> to_number(std::string_view text);

/// Decimal number that is whole, exactly: 5, 100e9, 1.5e3. nullopt where it is not whole or does not fit.
std::optional<std::int64_t> to_whole(std::string_view text);

/// "90s", "30m", "12h", "2d" in seconds; nullopt for anything else.
std::optional<double> to_seconds(std::string_view text);

/// Shortest text that reads back as the same value.
std::string number_text(double value);
std::string seconds_text(double seconds);

/// YAML for a text: as it is where that reads back as the same text, else in double quotes.
std::string quoted_if_needed(const std::string& text);

/// `text` cut to what fits in a message, control characters shown as escapes.
std::string shown(std::string_view text);

/// How many letters to insert, delete, replace or swap with their neighbour to make `b` of `a`.
std::size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace fourmi::recipe
