// Routings drawn at random.
#pragma once

#include "kernels/numerics/mix.h"
#include "tests/dispatch/layer.h"

namespace fourmi::testing {

struct Draw {
  std::uint64_t state;
  std::int64_t operator()(std::int64_t below) {
    state = mix64(state);
    return static_cast<std::int64_t>(state % static_cast<std::uint64_t>(below));
  }
};

/// A routing among P ranks, of one of the kinds that have their own troubles: ranks without tokens, all to one rank,
/// one token in all, few ranks a token, several experts of one rank, or nothing special.
inline Layer draw_layer(Draw& draw, int P) {
  const int each = static_cast<int>(1 + draw(4)), E = P * each;
  Layer l{.E = E, .K = std::min<std::int64_t>(E, 1 + draw(6)), .D = 1 + draw(40), .tokens = {}};
  l.seed = static_cast<unsigned>(draw(1 << 30)), l.num_leaves = P;
  const std::int64_t kind = draw(6), most = kind == 2 ? 1 : 1 + draw(24);
  for (int r = 0; r < P; ++r) l.tokens.push_back(kind == 2 ? r == P / 2 : kind == 0 && draw(2) ? 0 : draw(most + 1));
  const std::int64_t K = l.K, one = draw(P), limit = 1 + draw(P);
  const Layer plain = l;
  if (kind == 1 || kind == 4)  // of one rank as many as it has, then of the next one
    l.choose = [=](int, std::int64_t t) {
      std::set<std::int32_t> chosen;
      for (std::int64_t i = 0; static_cast<std::int64_t>(chosen.size()) < K; ++i)
        chosen.insert(static_cast<std::int32_t>(((kind == 1 ? one : t + one) * each + i) % E));
      return std::vector<std::int32_t>(chosen.begin(), chosen.end());
    };
  if (kind == 3 && limit * each >= K)  // at most `limit` ranks
    l.choose = [=](int rank, std::int64_t t) {
      std::set<std::int32_t> chosen;
      for (std::int64_t i = 0; static_cast<std::int64_t>(chosen.size()) < K; ++i)
        chosen.insert(static_cast<std::int32_t>(plain.bits(rank, t, i, 9) % static_cast<std::uint64_t>(limit * each)));
      return std::vector<std::int32_t>(chosen.begin(), chosen.end());
    };
  return l;
}

}  // namespace fourmi::testing
