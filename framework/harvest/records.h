// What a harvest's log says, and what follows from it: the same rules for a log that is read and for one that is
// written.
//
//   reserve  before a request is sent: what it may cost at most
//   answer   it was answered; its cost by the answer's usage
//   release  it certainly cost nothing: it was never sent, or answered with an error status
//   lost     it may have cost all that was reserved: no answer came that could be read
//   verdict  whether an answer is kept
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "framework/harvest/money.h"

namespace fourmi::harvest {

/// One of the answers to a prompt.
struct Sample {
  std::int64_t answer_at = -1;  ///< offset in the log; -1: no answer yet
  int verdict = -1;             ///< -1: none yet; 0: not kept; 1: kept
  std::string digest;           ///< of what was answered
  std::string by;               ///< by which rule the verdict was given
};

class Records {
 public:
  /// Takes a record of the log. Throws Error(input) naming the offset where it contradicts those before.
  void apply(std::int64_t offset, const std::string& text, const std::string& log);

  const std::string& header() const { return header_; }  ///< empty: a new log
  Money spent() const { return spent_; }
  Money reserved() const { return reserved_; }
  std::int64_t next_request() const { return next_request_; }
  /// Requests without an outcome: under way, or lost by a kill.
  const std::map<std::int64_t, Money>& open() const { return open_; }
  std::int64_t answers() const { return answers_; }
  std::int64_t input_tokens() const { return input_tokens_; }
  std::int64_t output_tokens() const { return output_tokens_; }
  /// By prompt and number; nullptr: neither an answer nor a verdict.
  const Sample* find(const std::string& prompt, std::int64_t sample) const;

  // The records' texts.
  static std::string reserve(std::int64_t request, const std::string& prompt, std::int64_t sample, Money cost);
  static std::string release(std::int64_t request, const std::string& why);
  static std::string lost(std::int64_t request, const std::string& why);
  static std::string verdict(const std::string& prompt, std::int64_t sample, bool kept, const std::string& by,
                             const std::string& why);

 private:
  void take(std::int64_t offset, const nlohmann::json& record);
  Money close(std::int64_t request);

  std::string header_;
  Money spent_ = 0, reserved_ = 0;
  std::int64_t next_request_ = 0, answers_ = 0, input_tokens_ = 0, output_tokens_ = 0;
  std::map<std::int64_t, Money> open_;
  std::unordered_map<std::string, std::map<std::int64_t, Sample>> samples_;
};

}  // namespace fourmi::harvest
