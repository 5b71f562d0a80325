// What a rank of a pipeline holds: each parameter on one rank, but for the embedding's table and the routers' biases.
#include "framework/model/holding.h"

#include <gtest/gtest.h>

#include <map>

#include "framework/model/parameters.h"
#include "tests/model/small_families.h"

namespace fourmi {
namespace {

TEST(Holding, EveryParameterIsHeldOnceAndInTheTablesOrder) {
  for (const Family& family : small_families()) {
    const ModelSection& m = family.section;
    const ParameterTable whole(m);
    Holding first{.layers = {0}, .embedding = true}, last{.layers = {}, .head = true};
    for (std::int64_t l = 1; l < m.num_hidden_layers; ++l) last.layers.push_back(l);
    last.mtp = m.num_nextn_predict_layers > 0;
    first.embedding_is_shared = last.embedding_is_shared = last.has_embedding_table(m);
    std::map<std::string, int> holders;
    for (const Holding& h : {first, last}) {
      const ParameterTable table(m, h);
      std::size_t at = 0;
      for (const Parameter& p : table.all()) {
        ++holders[p.name];
        while (at < whole.all().size() && whole.all()[at].name != p.name) ++at;
        ASSERT_LT(at, whole.all().size()) << p.name << " is out of order";
        EXPECT_EQ(p.shape, whole.all()[at].shape);
        EXPECT_EQ(p.mtp, whole.all()[at].mtp) << p.name;
        EXPECT_EQ(p.stage_copies, p.name == "model.embed_tokens.weight" && last.embedding_is_shared) << p.name;
      }
    }
    for (const Parameter& p : whole.all()) {
      const bool twice =
          p.set == ParameterSet::router_bias || (p.name == "model.embed_tokens.weight" && first.embedding_is_shared);
      EXPECT_EQ(holders[p.name], twice ? 2 : 1) << family.name << ": " << p.name;
    }
  }
}

}  // namespace
}  // namespace fourmi
