// What a recipe may leave to the model that `model.from` names: the architecture, where `model` has neither model_type
// nor config, and with `data.tokenizer: model` the tokenizer. How such a model is read is known on a higher floor
// (framework/interop/origin.h); this one says when it is asked, and what wins.
#pragma once

#include <functional>
#include <string>

namespace fourmi::recipe {

struct OriginModel {
  std::string text;
  std::string name;        ///< of the text, in messages
  bool is_recipe = false;  ///< the text is a recipe, whose section `model` counts; else a config.json
};

/// As keys of data; empty: not said.
struct OriginTokenizer {
  std::string tokenizer, tokenizer_sha256, end_of_document, begin_of_text;
};

/// Both are given model.from, which leads somewhere, and throw Error naming what is not right there.
struct Origins {
  std::function<OriginModel(const std::string& from)> model;
  std::function<OriginTokenizer(const std::string& from)> tokenizer;
};

}  // namespace fourmi::recipe
