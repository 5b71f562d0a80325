#include <nlohmann/json.hpp>
#include <set>

#include "framework/checkpoint/folder.h"
#include "framework/checkpoint/prove.h"
#include "tests/checkpoint/sample.h"

namespace fourmi::testing {
namespace {

TEST(RoundTrip, EveryNumberOfRanksLoadsWhatEveryOtherSaved) {
  const TemporaryFolder run;
  std::set<std::string> roots;
  for (int save : {1, 2, 4}) {
    const auto folder = run.path() / std::to_string(save);
    const auto outcomes = save_sample(save, folder, 100);
    for (const SaveOutcome& o : outcomes) {
      ASSERT_TRUE(o.committed()) << o.error->what();
      EXPECT_EQ(o.path, folder / "step-00000100");
      EXPECT_TRUE(o.warnings.empty()) << o.warnings[0];
      roots.insert(o.root);
    }
    for (int load : {1, 2, 3, 4}) expect_loads(load, outcomes[0].path);
  }
  EXPECT_EQ(roots.size(), 1u);
}

TEST(RoundTrip, RootChangesWithStateButNotWithInfo) {
  const TemporaryFolder run;
  const auto group = make_self_group("test");
  const Boxes boxes(0, 1, true), other(0, 1, true, 1);
  int n = 0;
  const auto root = [&](const Boxes& b, const CheckpointState& s) {
    return save_checkpoint(*group, run.path() / std::to_string(n++), b.get(), s).root;
  };
  const std::string first = root(boxes, sample_state(100));
  CheckpointState s = sample_state(100);
  s.info = "{}";
  s.recipe = "other";
  EXPECT_EQ(root(boxes, s), first);
  EXPECT_NE(root(other, sample_state(100)), first);
  EXPECT_NE(root(boxes, sample_state(101)), first);
  s = sample_state(100);
  s.training = R"({"position": {"gcide": 78}, "rate": 0.1})";
  EXPECT_NE(root(boxes, s), first);
  s.training = R"({"rate":0.1,   "position": {"gcide": 77}})";  // the same JSON, written otherwise
  EXPECT_EQ(root(boxes, s), first);
}

TEST(RoundTrip, FilesAreEqualByteForByteWhenTheStateIs) {
  const TemporaryFolder run;
  save_sample(2, run.path() / "a", 7);
  save_sample(2, run.path() / "b", 7);
  for (const char* name : {"rank-00000.h5", "rank-00001.h5", "manifest.json"})
    EXPECT_EQ(read_file(run.path() / "a/step-00000007" / name), read_file(run.path() / "b/step-00000007" / name));
}

TEST(RoundTrip, StateComesBack) {
  const TemporaryFolder run;
  save_sample(2, run.path(), 42);
  const auto group = make_self_group("test");
  const Manifest m = prove_checkpoint(*group, run.path() / "step-00000042").manifest;
  const CheckpointState s = sample_state(42);
  EXPECT_EQ(m.state.step, s.step);
  EXPECT_EQ(m.state.tokens, s.tokens);
  EXPECT_EQ(m.state.recipe, s.recipe);
  EXPECT_EQ(nlohmann::json::parse(m.state.training), nlohmann::json::parse(s.training));
  EXPECT_EQ(nlohmann::json::parse(m.state.info), nlohmann::json::parse(s.info));
  ASSERT_NE(m.find("/model/model.embed_tokens.weight"), nullptr);
  EXPECT_EQ(m.find("/model/model.embed_tokens.weight"), m.find("/optimizer/master/model.embed_tokens.weight"));
  EXPECT_EQ(m.find("/model/nothing"), nullptr);
}

TEST(RoundTrip, Hdf5SeesWhatTheManifestSays) {
  const TemporaryFolder run;
  for (int size : {1, 2, 4}) {
    const auto folder = run.path() / std::to_string(size) / "step-00000001";
    save_sample(size, folder.parent_path(), 1);
    const Manifest m = read_manifest(real_disk(), folder);
    for (std::size_t f = 0; f < m.files.size(); ++f) EXPECT_NO_THROW(prove_contents(real_disk(), folder, m, f));
    EXPECT_TRUE(extra_entries(folder, m).empty());
  }
}

TEST(RoundTrip, OfAnotherModel) {
  const TemporaryFolder run;
  save_sample(2, run.path(), 1);
  const auto expect_input = [&](const std::function<void(std::vector<Box>&)>& change, const std::string& part) {
    for (int size : {1, 3}) {
      int refused = 0;
      on_ranks(size, [&](Group& group) {
        const Checkpoint c = prove_checkpoint(group, run.path() / "step-00000001");
        Boxes wanted(group.rank(), size, false);
        if (group.rank() == size - 1) change(wanted.list());
        try {
          load_boxes(group, c, wanted.get());
          prove_live_state(group, c, wanted.get());
        } catch (const Error& e) {
          EXPECT_EQ(e.status(), ExitStatus::input);
          EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
          if (group.rank() == 0) ++refused;
        }
      });
      EXPECT_EQ(refused, 1) << part;
    }
  };
  expect_input([](auto& boxes) { boxes[0].name += "x"; }, "model.embed_tokens.weightx is missing");
  expect_input([](auto& boxes) { boxes[0].global.dims[0] += 1; }, "[37, 11], expected f32 [38, 11]");
  expect_input([](auto& boxes) { boxes[0].data.dtype = DType::i32; }, "is f32 [37, 11], expected i32 [37, 11]");
}

TEST(RoundTrip, LiveStateThatDiffersIsNamed) {
  const TemporaryFolder run;
  save_sample(2, run.path(), 1);
  for (int size : {1, 2, 3}) {
    for (std::size_t tensor = 0; tensor < sample_tensors().size() - 1; ++tensor) {
      int refused = 0;
      on_ranks(size, [&](Group& group) {
        const Checkpoint c = prove_checkpoint(group, run.path() / "step-00000001");
        Boxes live(group.rank(), size, true);
        std::int64_t bytes = live.get()[tensor].data.bytes();
        if (bytes > 0 && group.rank() == (tensor % 3 == 2 ? static_cast<int>(tensor) % size : size - 1))
          static_cast<std::byte*>(live.get()[tensor].data.data)[bytes - 1] ^= std::byte{0x80};
        try {
          prove_live_state(group, c, live.get());
        } catch (const Error& e) {
          EXPECT_EQ(e.status(), ExitStatus::input);
          EXPECT_NE(std::string(e.what()).find("tensor " + sample_tensors()[tensor].name), std::string::npos);
          if (group.rank() == 0) ++refused;
        }
      });
      EXPECT_EQ(refused, 1) << size << " " << tensor;
    }
  }
}

TEST(RoundTrip, ATensorThatNobodyLoadsIsFound) {
  const TemporaryFolder run;
  save_sample(1, run.path(), 1);
  const auto group = make_self_group("test");
  const Checkpoint c = prove_checkpoint(*group, run.path() / "step-00000001");
  Boxes live(0, 1, true);
  live.list().erase(live.list().begin() + 1);
  EXPECT_THROW(prove_live_state(*group, c, live.get()), Error);
}

TEST(RoundTrip, BoxesThatDoNotTileAreABug) {
  const TemporaryFolder run;
  for (int bad : {0, 1}) {
    on_ranks(2, [&](Group& group) {
      Boxes boxes(group.rank(), 2, true);
      if (group.rank() == 1) boxes.list()[0].first_row -= bad == 0 ? 1 : 0;
      if (group.rank() == 1 && bad == 1) boxes.list().erase(boxes.list().begin());
      const SaveOutcome o = save_checkpoint(group, run.path(), boxes.get(), sample_state(1));
      ASSERT_FALSE(o.committed());
      EXPECT_EQ(o.error->status(), ExitStatus::bug);
    });
    EXPECT_TRUE(list_steps(run.path()).empty());
  }
}

TEST(RoundTrip, RanksThatDisagreeOnTheStateAreABug) {
  const TemporaryFolder run;
  on_ranks(4, [&](Group& group) {
    const Boxes boxes(group.rank(), 4, true);
    const SaveOutcome o = save_checkpoint(group, run.path(), boxes.get(), sample_state(group.rank() == 2 ? 11 : 10));
    ASSERT_FALSE(o.committed());
    EXPECT_EQ(o.error->status(), ExitStatus::bug);
    EXPECT_NE(std::string(o.error->what()).find("rank 2"), std::string::npos);
  });
}

}  // namespace
}  // namespace fourmi::testing
