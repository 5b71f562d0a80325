#include "framework/recipe/scalar.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <vector>

namespace fourmi::recipe {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// A decimal number taken apart: value = (-1)^negative * digits * 10^exponent, digits without a point.
struct Decimal {
  bool negative = false;
  std::string digits;
  long exponent = 0;
};

/// [-+]? ( digits [. digits?] | . digits ) ( [eE] [-+]? digits )?, no leading zero before another digit.
std::optional<Decimal> take_apart(std::string_view text) {
  Decimal number;
  std::size_t at = 0;
  auto digit_here = [&] { return at < text.size() && is_digit(text[at]); };
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) number.negative = text[at++] == '-';
  const std::size_t first = at;
  while (digit_here()) number.digits += text[at++];
  if (at - first > 1 && text[first] == '0') return std::nullopt;
  if (at < text.size() && text[at] == '.') {
    ++at;
    while (digit_here()) {
      number.digits += text[at++];
      --number.exponent;
    }
  }
  if (number.digits.empty()) return std::nullopt;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    bool down = false;
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) down = text[at++] == '-';
    if (!digit_here()) return std::nullopt;
    long power = 0;
    while (digit_here()) power = std::min(power * 10 + (text[at++] - '0'), 1000000L);
    number.exponent += down ? -power : power;
  }
  if (at != text.size()) return std::nullopt;
  return number;
}

bool looks_numeric(std::string_view text) {
  std::string_view rest = text;
  if (!rest.empty() && (rest[0] == '-' || rest[0] == '+')) rest.remove_prefix(1);
  for (std::string_view word : {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"}) {
    if (rest == word) return true;
  }
  if (rest.empty() || !is_digit(rest[0])) return false;
  auto all = [&](std::size_t from, std::string_view allowed) {
    return rest.size() > from && rest.find_first_not_of(allowed, from) == std::string_view::npos;
  };
  if (rest.size() > 2 && rest[0] == '0' && (rest[1] == 'x' || rest[1] == 'X')) {
    return all(2, "0123456789abcdefABCDEF_");
  }
  if (rest.size() > 2 && rest[0] == '0' && (rest[1] == 'o' || rest[1] == 'O' || rest[1] == 'b' || rest[1] == 'B')) {
    return all(2, "01234567_");
  }
  if (rest[0] == '0' && all(1, "0123456789.eE_")) return true;
  return all(0, "0123456789_") && rest.find('_') != std::string_view::npos;
}

}  // namespace

Shape shape_of(std::string_view plain) {
  if (plain.empty() || plain == "~" || plain == "null" || plain == "Null" || plain == "NULL") return Shape::null;
  if (plain == "true" || plain == "false") return Shape::boolean;
  if (take_apart(plain)) return Shape::number;
  return looks_numeric(plain) ? Shape::trap : Shape::text;
}

std::optional<double> to_number(std::string_view text) {
  if (!take_apart(text)) return std::nullopt;
  if (text[0] == '+') text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {
    // from_chars says the same for too large and too small; the decimal exponent of the first digit tells which.
    const Decimal number = *take_apart(text);
    const std::size_t first = number.digits.find_first_not_of('0');
    if (first == std::string::npos) return 0.0;
    if (static_cast<long>(number.digits.size() - first) + number.exponent > 0) return std::nullopt;
    return number.negative ? -0.0 : 0.0;
  }
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<std::int64_t> to_whole(std::string_view text) {
  std::optional<Decimal> number = take_apart(text);
  if (!number) return std::nullopt;
  std::string& digits = number->digits;
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  if (digits.empty()) return 0;
  while (number->exponent < 0 && digits.back() == '0') {
    digits.pop_back();
    ++number->exponent;
  }
  if (number->exponent < 0 || number->exponent > 19) return std::nullopt;
  digits.append(static_cast<std::size_t>(number->exponent), '0');
  if (number->negative) digits.insert(digits.begin(), '-');
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc()) return std::nullopt;
  return value;
}

namespace {
struct TimeUnit {
  char letter;
  double seconds;
};
constexpr std::array<TimeUnit, 4> kTimeUnits{{{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}}};
}  // namespace

std::optional<double> to_seconds(std::string_view text) {
  if (text.size() < 2) return std::nullopt;
  for (const TimeUnit& unit : kTimeUnits) {
    if (text.back() != unit.letter) continue;
    const std::optional<double> count = to_number(text.substr(0, text.size() - 1));
    if (!count || !std::isfinite(*count * unit.seconds)) return std::nullopt;
    return *count * unit.seconds;
  }
  return std::nullopt;
}

std::string number_text(double value) {
  std::array<char, 64> buffer;
  const double size = std::fabs(value);
  const bool plain = size == 0 || (size >= 1e-5 && size < 1e16);  // 0.0003 rather than 3e-04
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                          plain ? std::chars_format::fixed : std::chars_format::scientific);
  return std::string(buffer.data(), end);
}

std::string seconds_text(double seconds) {
  for (const TimeUnit& unit : kTimeUnits) {
    const std::string count = number_text(seconds / unit.seconds);
    const bool whole = count.find_first_not_of("0123456789") == std::string::npos;
    if (whole && to_seconds(count + unit.letter) == seconds) return count + unit.letter;
  }
  return number_text(seconds) + "s";
}

std::string shown(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (out.size() >= 60 && (c & 0xC0) != 0x80) return out + "...";
    if (c == '\n') {
      out += "\\n";
    } else if (c < 0x20 || c == 0x7F) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  return out;
}

std::string quoted_if_needed(const std::string& text) {
  constexpr std::string_view kFirst = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/";
  constexpr std::string_view kRest = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_-.+";
  const bool plain = !text.empty() && kFirst.find(text[0]) != std::string_view::npos &&
                     text.find_first_not_of(kRest) == std::string::npos && shape_of(text) == Shape::text;
  if (plain) return text;
  std::string out = "\"";
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        next[j] = std::min(next[j], before[j - 2] + 1);
    }
    before.swap(row);
    row.swap(next);
  }
  return row[b.size()];
}

}  // namespace fourmi::recipe
