// What a harvest does, ready to be done: from the recipe, with its inputs read.
#pragma once

#include <functional>
#include <string>

#include "framework/harvest/backoff.h"
#include "framework/harvest/endpoint.h"
#include "framework/harvest/money.h"
#include "framework/harvest/prompts.h"
#include "framework/recipe/recipe.h"

namespace fourmi::harvest {

struct Plan {
  TeacherSection teacher;
  HarvestSection harvest;
  EndpointOptions endpoint;
  Prompts prompts;
  Prices prices;
  Money budget = 0;          ///< 0: none
  std::string sampling;      ///< JSON object of what requests say about it
  std::string terms_sha256;  ///< empty: no saved copy
  std::string rule;          ///< digest of how answers are judged
  Backoff backoff;

  /// The log's first record; what another harvest may not differ in is all of it.
  std::string header() const;
  /// A request's body.
  std::string request(const Prompt& prompt) const;
  /// The most that a request can cost: a token is at least a byte; the template's own tokens are `overhead`.
  Money most_cost(const Prompt& prompt, std::int64_t overhead) const;
};

/// Reads key, prompts and terms. Throws Error(usage) where the recipe has no harvest or the terms do not allow one.
Plan make_plan(const Recipe& recipe);

}  // namespace fourmi::harvest
