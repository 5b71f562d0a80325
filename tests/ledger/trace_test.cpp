// What is counted: each token of the lineage once, by its source; abandoned branches never.
#include "tests/ledger/support.h"

namespace fourmi {
namespace {

using testing::dataset;
using testing::Folder;
using testing::launch;
using testing::read_file;
using testing::SmallLedger;
using testing::train;

TEST(LedgerTrace, AbandonedBranchesCountNothing) {
  const Folder folder;
  const SmallLedger small(folder / "ledger.jsonl");
  const LedgerFile ledger = read_ledger(small.path);
  const Trace t = trace(ledger, small.head, "ledger");
  EXPECT_EQ(t.step, 12);
  EXPECT_EQ(t.tokens, 12 * 15);
  EXPECT_EQ(t.run_tokens, 12 * 15);
  ASSERT_EQ(t.sources.size(), 2u);
  EXPECT_EQ(t.sources[0].name, "web");
  EXPECT_EQ(t.sources[0].tokens, 120);
  EXPECT_EQ(t.sources[1].license, "GFDL-1.3-only");
  EXPECT_EQ(t.sources[1].tokens, 60);
  ASSERT_EQ(t.runs.size(), 1u);
  EXPECT_EQ(t.runs[0].launches, 2);
  EXPECT_EQ(t.checkpoint.root, sha256("root 12"));
  EXPECT_EQ(trace(ledger, small.abandoned_head, "ledger").tokens, 8 * 15);  // it still tells of itself
}

TEST(LedgerTrace, ASaveThatFailedIsASideBranchAndItsTokensComeWithTheNext) {
  const Folder folder;
  LedgerWriter writer(folder / "ledger.jsonl");
  RunLineage lineage(writer, "");
  lineage.say(RunFact::type, to_payload(RunFact{"r", "", ""}));
  lineage.declare({dataset("web"), dataset("books")});
  const std::int64_t tokens[] = {7, 0};
  lineage.consumed(1, tokens);
  lineage.snapshot();
  lineage.consumed(2, tokens);  // training goes on while the files are written
  lineage.seal("root 1", 7);
  lineage.settle(false);
  lineage.consumed(3, tokens);
  lineage.snapshot();
  lineage.consumed(4, tokens);
  const std::string head = lineage.seal("root 3", 21);
  lineage.settle(true);
  EXPECT_EQ(trace(writer.file(), head, "ledger").tokens, 21);
  lineage.snapshot();
  lineage.seal("root 4", 28);
  lineage.settle(true);
  const Trace t = trace(writer.file(), lineage.head(), "ledger");
  EXPECT_EQ(t.tokens, 28);
  EXPECT_EQ(t.checkpoint.step, 4);
  EXPECT_EQ(t.sources[1].tokens, 0);
}

TEST(LedgerTrace, ASaveThatNeverEndedAddsNothing) {
  const Folder folder;
  LedgerWriter writer(folder / "ledger.jsonl");
  RunLineage lineage(writer, "");
  lineage.say(RunFact::type, to_payload(RunFact{"r", "", ""}));
  lineage.declare({dataset("web")});
  const std::int64_t tokens[] = {7};
  lineage.consumed(1, tokens);
  lineage.snapshot();
  lineage.settle(false);  // some rank could not write its file: nothing was sealed
  lineage.consumed(2, tokens);
  lineage.snapshot();
  const std::string head = lineage.seal("root 2", 14);
  EXPECT_EQ(trace(writer.file(), head, "ledger").tokens, 14);
}

TEST(LedgerTrace, RollbackForgetsWhatCameAfterTheCheckpoint) {
  const Folder folder;
  LedgerWriter writer(folder / "ledger.jsonl");
  RunLineage lineage(writer, "");
  lineage.say(RunFact::type, to_payload(RunFact{"r", "", ""}));
  lineage.declare({dataset("web"), dataset("books")});
  std::int64_t step = 0;
  train(lineage, step, 4, 4);
  const std::string good = lineage.head();
  train(lineage, step, 10, 4);
  lineage.roll_back(good, {10, 4, "spike"});
  step = 4;
  train(lineage, step, 12, 4);
  const Trace t = trace(writer.file(), lineage.head(), "ledger");
  EXPECT_EQ(t.tokens, 12 * 15);
  EXPECT_EQ(t.step, 12);
}

TEST(LedgerTrace, PromotionsAreToldOnceByTheFirstCheckpointThatHoldsThem) {
  const Folder folder;
  LedgerWriter writer(folder / "ledger.jsonl");
  RunLineage lineage(writer, "");
  lineage.say(RunFact::type, to_payload(RunFact{"r", "", ""}));
  lineage.declare({dataset("web"), dataset("books")});
  std::int64_t step = 0;
  train(lineage, step, 4, 4);
  const std::string good = lineage.head();
  const std::int64_t tokens[] = {10, 5};
  const std::vector<PromotionFact> promotions{{7, 2}, {8, 1}};
  const auto save = [&](std::size_t num_promotions, bool committed) {
    lineage.consumed(++step, tokens);
    lineage.snapshot();
    lineage.seal("root", 15 * step, std::span(promotions).first(num_promotions));
    lineage.settle(committed);
    return trace(writer.file(), lineage.head(), "ledger");
  };
  EXPECT_TRUE(save(1, false).promotions.empty());
  EXPECT_EQ(save(1, true).promotions.size(), 1u);
  EXPECT_EQ(save(2, true).promotions, promotions);
  lineage.roll_back(good, {step, 4, "spike"});  // to before they were found: they stay
  EXPECT_TRUE(trace(writer.file(), lineage.head(), "ledger").promotions.empty());
  step = 4;
  const Trace t = save(2, true);
  EXPECT_EQ(t.promotions, promotions);
  EXPECT_EQ(t.run_tokens, 15 * 5);
  const LedgerEntry& told = *writer.file().find(writer.file().find(lineage.head())->previous);
  EXPECT_EQ(describe(told, "ledger"), "layer 1 works in bf16, by what was found at step 8");
  // Those of a model whose weights another run takes are not that run's.
  lineage.say(model_from_type, to_payload(OriginFact{"runs/r", sha256("root"), step, 15 * step}));
  lineage.say(RunFact::type, to_payload(RunFact{"child", "", ""}));
  EXPECT_TRUE(trace(writer.file(), lineage.head(), "ledger").promotions.empty());
}

TEST(LedgerTrace, RollbackBeforeASourceWasDeclaredDeclaresItAgain) {
  const Folder folder;
  LedgerWriter writer(folder / "ledger.jsonl");
  RunLineage lineage(writer, "");
  lineage.say(RunFact::type, to_payload(RunFact{"r", "", ""}));
  lineage.declare({dataset("web"), dataset("books")});
  std::int64_t step = 0;
  train(lineage, step, 4, 4);
  const std::string good = lineage.head();
  lineage.declare({dataset("web"), dataset("new")});
  train(lineage, step, 8, 4);
  lineage.roll_back(good, {8, 4, "spike"});
  step = 4;
  train(lineage, step, 8, 4);
  const Trace t = trace(writer.file(), lineage.head(), "ledger");
  ASSERT_EQ(t.sources.size(), 3u);
  EXPECT_EQ(t.sources[2].name, "new");
  EXPECT_EQ(t.sources[2].tokens, 20);
  EXPECT_EQ(t.sources[1].tokens, 20);
}

TEST(LedgerTrace, LineageGoesOnAcrossRuns) {
  const Folder folder;
  const SmallLedger parent(folder / "parent.jsonl");
  const LedgerFile from = read_ledger(parent.path);
  LedgerWriter writer(folder / "ledger.jsonl");
  std::vector<LedgerEntry> copies;
  for (const LedgerEntry* e : from.lineage(parent.head, "parent")) copies.push_back(*e);
  writer.append(copies);
  writer.append(copies);  // a second launch before the first checkpoint does the same
  EXPECT_EQ(writer.file().entries().size(), copies.size());
  RunLineage lineage(writer, parent.head);
  lineage.say(model_from_type, to_payload(OriginFact{"runs/parent", sha256("root 12"), 12, 180}));
  lineage.say(RunFact::type, to_payload(RunFact{"child", sha256("recipe 2"), "deepseek_v3"}));
  RunLineage child(writer, lineage.head());
  child.declare({dataset("books", "GFDL-1.3-only"), dataset("chat", "LicenseRef-mine")});
  child.say(LaunchFact::type, to_payload(launch(1, 0)));
  std::int64_t step = 0;
  train(child, step, 4, 2);
  const Trace t = trace(read_ledger(folder / "ledger.jsonl"), child.head(), "ledger");
  EXPECT_EQ(t.tokens, 180 + 60);
  EXPECT_EQ(t.run_tokens, 60);
  EXPECT_EQ(t.step, 4);
  ASSERT_EQ(t.runs.size(), 2u);
  EXPECT_EQ(t.runs[0].tokens, 180);
  EXPECT_EQ(t.runs[1].name, "child");
  ASSERT_EQ(t.sources.size(), 3u);  // books is the same data set in both
  EXPECT_EQ(t.sources[1].tokens, 60 + 40);
  EXPECT_EQ(t.sources[1].run_tokens, 40);
  EXPECT_EQ(t.sources[0].run_tokens, 0);
}

TEST(LedgerTrace, UnrecordedTokensAreSaid) {
  const Folder folder;
  LedgerWriter writer(folder / "ledger.jsonl");
  RunLineage lineage(writer, "");
  lineage.say(UnrecordedFact::type, to_payload(UnrecordedFact{100, 12345, "the checkpoint names no head"}));
  lineage.declare({dataset("web")});
  lineage.say(LaunchFact::type, to_payload(launch(2, 100)));
  const std::int64_t tokens[] = {55};
  lineage.consumed(101, tokens);
  lineage.snapshot();
  lineage.seal("root", 12400);
  lineage.settle(true);
  const Trace t = trace(writer.file(), lineage.head(), "ledger");
  EXPECT_EQ(t.tokens, 12400);
  ASSERT_EQ(t.sources.size(), 2u);
  EXPECT_EQ(t.sources[0].name, unrecorded_name);
  EXPECT_EQ(t.sources[0].tokens, 12345);
}

TEST(LedgerDatasets, IdentityIsContentAndTermsNotPlace) {
  DatasetFact a = dataset("web"), b = a;
  b.files[0].path = "/elsewhere/web";
  EXPECT_EQ(a.id(), b.id());
  b.license = "MIT";
  EXPECT_NE(a.id(), b.id());
  const std::vector<DataFile> two = {{"a", 1, sha256("a")}, {"b", 1, sha256("b")}};
  EXPECT_EQ(digest_of(two), sha256(sha256("a") + "\n" + sha256("b") + "\n"));
  EXPECT_EQ(digest_of({}), "");
}

}  // namespace
}  // namespace fourmi
