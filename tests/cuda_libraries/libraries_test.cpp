// NVIDIA's libraries as this machine has them: what can be said of them without a card.
#include "kernels/cuda/library/libraries.h"

#include <gtest/gtest.h>

#include "kernels/cuda/library/system_linker.h"

namespace fourmi::cuda::library {
namespace {

template <class Table>
void expect_found() {
  const SystemLinker linker;
  const Library<Table> library(linker);
  void* const opened = linker.open(Table::wanted.soname);
  if (!opened) GTEST_SKIP() << library.text();
  EXPECT_NE(library.get(), nullptr) << library.text();
  EXPECT_NE(library.text().find('.'), std::string::npos);
}

TEST(CudaLibraries, CublasLtHasWhatIsUsed) {
  expect_found<CublasLt>();
}
TEST(CudaLibraries, CudnnIsNewEnough) {
  expect_found<Cudnn>();
}

TEST(CudaLibraries, FactsAreALineEach) {
  const auto facts = library_facts();
  ASSERT_EQ(facts.size(), 2u);
  for (const std::string& fact : facts) {
    EXPECT_NE(fact.find("compute"), std::string::npos) << fact;
    EXPECT_EQ(fact.find('\n'), std::string::npos) << fact;
  }
}

TEST(CudaLibraries, CudnnLowersEveryGraphThatItIsAskedFor) {
  if (const std::string missing = attention_plans_missing(); !missing.empty()) GTEST_SKIP() << missing;
  const SystemLinker linker;
  if (!Library<Cudnn>(linker).get()) GTEST_SKIP() << Library<Cudnn>(linker).text();
  AttentionGraph g{.documents = 8, .longest = 4096, .rows = 8192, .heads = 16, .all_heads = 16};
  for (const bool backward : {false, true})
    for (const auto& [Q, V] : {std::pair<std::int64_t, std::int64_t>{64, 64}, {128, 128}, {192, 128}})
      for (const std::int64_t key_heads : {16, 4})
        for (const std::int64_t at_once : {std::int64_t{1}, key_heads}) {
          g.backward = backward, g.Q = Q, g.V = V, g.all_key_heads = key_heads;
          EXPECT_EQ(graph_trouble(linker, part_of(g, at_once)), "") << backward << " " << Q << " " << V;
        }
  g.Q = 100;
  EXPECT_NE(graph_trouble(linker, part_of(g, 4)), "");  // heads that it does not know
}

}  // namespace
}  // namespace fourmi::cuda::library
