// What becomes of a text before it is cut into words: a chain of steps, each over the whole of it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "framework/tokenizer/nfc.h"
#include "framework/tokenizer/regex.h"

namespace fourmi {

struct NormalizerStep {
  enum class Kind {
    form,       ///< Unicode's normalization `form`
    lowercase,  ///< character by character, whatever stands beside it
    strip,      ///< white space goes from the `left` end, the `right` one
    prepend,    ///< `content` before a text that is not empty
    replace,    ///< `content` for each `pattern`, or each match of `regex`
  };
  Kind kind = Kind::form;
  NormalForm form = NormalForm::c;
  bool left = false, right = false;
  std::string content{}, pattern{};
  std::shared_ptr<const Regex> regex{};  ///< null: `pattern` counts
};
using Normalizer = std::vector<NormalizerStep>;

/// One thread's way through the steps.
class TextNormalizer {
 public:
  explicit TextNormalizer(const Normalizer& steps) : steps_(steps) {}
  /// The normal form of well-formed UTF-8; lives until the next call. `begins`: nothing of the same text stands before,
  /// else no step prepends.
  std::string_view apply(std::string_view text, bool begins = true);

 private:
  /// Puts what becomes of `text` into `out`; false: `text` stays as it is.
  bool step(const NormalizerStep& s, std::string_view text, bool begins, std::string& out);

  const Normalizer& steps_;
  std::string texts_[2];
  Matcher matcher_;
};

}  // namespace fourmi
