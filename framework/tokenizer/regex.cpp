#define PCRE2_CODE_UNIT_WIDTH 8
#include "framework/tokenizer/regex.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <new>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

constexpr std::size_t stack_at_first = 64 * 1024, stack_at_most = 16 * 1024 * 1024;

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Code {
  ~Code() { pcre2_code_free(code); }
  pcre2_code* code = nullptr;
  bool jit = false;
};

Regex::Regex(const std::string& pattern, const std::string& place) : code_(std::make_unique<Code>()) {
  const std::string ours = translate_pattern(pattern, place);
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(ours.data()), ours.size(), PCRE2_UTF | PCRE2_UCP, &error,
                              &offset, context.get());
  if (code_->code == nullptr)
    throw Error(
        ExitStatus::input, place,
        fmt::format("{} at character {} of {}, a regular expression was expected", message_of(error), offset, ours));
  std::uint32_t empty = 0;
  pcre2_pattern_info(code_->code, PCRE2_INFO_MATCHEMPTY, &empty);
  if (empty != 0)
    throw Error(ExitStatus::input, place,
                fmt::format("{} can match nothing at all, a pattern of at least one character was expected", pattern));
  code_->jit = pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE) == 0;  // else it is interpreted: slower, the same
}
Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

struct Matcher::State {
  State()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(stack_at_first, stack_at_most, nullptr)) {
    if (data == nullptr || context == nullptr) throw std::bad_alloc();
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~State() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  State(const State&) = delete;
  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;
};

Matcher::Matcher() : state_(std::make_unique<State>()) {}
Matcher::~Matcher() = default;
Matcher::Matcher(Matcher&&) noexcept = default;

bool Matcher::find(const Regex& regex, std::string_view text, std::size_t from, TextSpan& match) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int result = PCRE2_ERROR_JIT_STACKLIMIT;
  if (regex.code_->jit)
    result = pcre2_jit_match(regex.code_->code, subject, text.size(), from, 0, state_->data, state_->context);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT)  // the interpreter keeps its stack on the heap
    result = pcre2_match(regex.code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state_->data,
                         state_->context);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0)
    throw Error(ExitStatus::input, "pre-tokenizer",
                fmt::format("{} at byte {} of a text, a match was expected", message_of(result), from));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state_->data);
  match = {ends[0], ends[1]};
  FOURMI_CHECK(match.begin >= from && match.end > match.begin, "a match [{}, {}) from {}", match.begin, match.end,
               from);
  return true;
}

}  // namespace fourmi
