// Boxes that cut rows and columns: any tiling loads what any other saved, and what is wrong with them is found.
#include <nlohmann/json.hpp>
#include <set>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/diff.h"
#include "framework/checkpoint/h5_file.h"
#include "framework/checkpoint/h5_handles.h"
#include "framework/checkpoint/inspect.h"
#include "framework/checkpoint/prove.h"
#include "framework/checkpoint/reader.h"
#include "framework/checkpoint/slice.h"
#include "framework/checkpoint/view.h"
#include "framework/digest/sha256.h"
#include "kernels/numerics/digest.h"
#include "tests/checkpoint/tilings.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

std::vector<Tiling> random_tilings(const std::vector<TensorSpec>& specs, int size, unsigned seed) {
  std::mt19937 random(seed);
  return tilings_of(specs, [&](const Shape& s) { return random_tiling(s, size, random); });
}

TEST(Rectangles, EveryTilingLoadsWhatEveryOtherSaved) {
  const auto specs = sample_tensors();
  const TemporaryFolder run;
  std::set<std::string> roots{save_sample(1, run.path() / "rows", 100)[0].root};
  std::vector<fs::path> saved{run.path() / "rows/step-00000100"};
  std::vector<std::vector<Tiling>> tilings;
  for (const auto& [rows, columns] : {std::pair(1, 4), {2, 2}, {3, 2}, {4, 1}})
    tilings.push_back(tilings_of(specs, [&, r = rows, c = columns](const Shape& s) {
      return s.rank == 1 ? grid_tiling(s, r * c, 1) : grid_tiling(s, r, c);
    }));
  for (unsigned seed = 0; seed < 8; ++seed)
    tilings.push_back(random_tilings(specs, 1 + static_cast<int>(seed * 7 % 9), seed));
  for (std::size_t i = 0; i < tilings.size(); ++i) {
    const SaveOutcome o = save_cut(specs, tilings[i], run.path() / std::to_string(i), 100);
    roots.insert(o.root);
    saved.push_back(o.path);
    expect_loads(2, o.path);
    for (const CheckpointReport& r : inspect(o.path, Proof::full)) EXPECT_TRUE(r.good()) << r.problem->what();
  }
  for (const fs::path& folder : saved)
    for (const auto& t : tilings) expect_loads_cut(specs, t, folder);
  EXPECT_EQ(roots.size(), 1u);
}

/// Runs of more and of less than 64 KiB, gaps of more and of less, files of more than one buffer.
TEST(Rectangles, LongAndShortRuns) {
  const std::vector<TensorSpec> specs{{"/model/wide", "", DType::f32, {5, 70'000}},
                                      {"/model/long", "", DType::bf16, {220'001, 10}},
                                      {"/model/experts", "", DType::f32, {3, 8, 9'000}}};
  const TemporaryFolder run;
  std::vector<std::vector<Tiling>> tilings;
  for (const auto& [rows, columns] : {std::pair(2, 1), {1, 1}, {1, 2}, {1, 8}, {2, 3}})
    tilings.push_back(tilings_of(specs, [&, r = rows, c = columns](const Shape& s) { return grid_tiling(s, r, c); }));
  for (auto& t : tilings.back()[0]) t.first_row = 0, t.num_rows = 0;  // a thin column on rank 0, the rest on rank 1
  tilings.back()[0][0] = {0, 5, 0, 3};
  tilings.back()[0][1] = {0, 5, 3, 69'997};
  for (std::size_t i = 0; i < tilings.size(); ++i) {
    const SaveOutcome o = save_cut(specs, tilings[i], run.path() / std::to_string(i), 1);
    for (const auto& t : tilings) expect_loads_cut(specs, t, o.path);
  }
}

TEST(Rectangles, ATilingThatNoRowOfCutsMakes) {
  const std::vector<TensorSpec> specs{{"/model/pinwheel", "", DType::i32, {5, 5}}};
  const std::vector<Tiling> pinwheel{{{0, 2, 0, 3}, {0, 3, 3, 2}, {3, 2, 2, 3}, {2, 3, 0, 2}, {2, 1, 2, 1}}};
  const TemporaryFolder run;
  const SaveOutcome o = save_cut(specs, pinwheel, run.path(), 1);
  for (int size : {1, 2, 5}) expect_loads_cut(specs, random_tilings(specs, size, 3), o.path);
  expect_loads_cut(specs, pinwheel, o.path);
}

TEST(Rectangles, ReaderViewAndDiffSeeWholeTensors) {
  const auto specs = sample_tensors();
  const TemporaryFolder run;
  const fs::path one = save_cut(specs, random_tilings(specs, 6, 5), run.path() / "one", 10).path;
  const fs::path two = save_cut(specs, random_tilings(specs, 3, 6), run.path() / "two", 10).path;
  const fs::path other = save_cut(specs, random_tilings(specs, 4, 7), run.path() / "other", 10, 1).path;
  const CheckpointReader reader(one), same(two), changed(other);
  for (std::size_t t = 0; t < specs.size(); ++t) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(specs[t].shape.num_elements() * size_of(specs[t].dtype)));
    reader.read(specs[t].name, Tensor(bytes.data(), specs[t].dtype, specs[t].shape));
    for (std::size_t i = 0; i < bytes.size(); ++i)
      ASSERT_EQ(bytes[i], sample_byte(t, static_cast<std::int64_t>(i), 0)) << specs[t].name << " byte " << i;
    const TensorEntry& entry = reader.entry(specs[t].name);
    for (std::size_t begin = 0; begin < bytes.size(); begin += 1 + bytes.size() / 7)  // any range of bytes
      for (std::size_t end = begin; end <= bytes.size(); end += 1 + bytes.size() / 5) {
        std::vector<std::byte> part(end - begin);
        read_bytes(real_disk(), one, reader.manifest(), entry, static_cast<std::int64_t>(begin), part);
        ASSERT_TRUE(std::equal(part.begin(), part.end(), bytes.begin() + static_cast<std::ptrdiff_t>(begin)));
      }
  }
  const auto checkpoint = [](const CheckpointReader& r) { return Checkpoint{r.folder(), r.manifest()}; };
  const CheckpointDifference none = compare_checkpoints(checkpoint(reader), checkpoint(same));
  EXPECT_TRUE(none.same());
  EXPECT_EQ(none.root_a, none.root_b);
  const CheckpointDifference all = compare_checkpoints(checkpoint(reader), checkpoint(changed));
  EXPECT_EQ(all.tensors.size(), specs.size() - 1) << "all but the one without elements";
  for (const TensorDifference& d : all.tensors) EXPECT_GT(d.num_different, d.num_elements / 2) << d.name;
  write_view(checkpoint(reader), run.path() / "one.h5", {});
  write_view(checkpoint(same), run.path() / "two.h5", {});
  EXPECT_TRUE(read_file(run.path() / "one.h5") == read_file(run.path() / "two.h5"));
}

std::int64_t attribute(const h5::Handle& set, const char* name) {
  std::int64_t value = -1;
  const h5::Handle a(H5Aopen(set, name, H5P_DEFAULT), H5Aclose);
  EXPECT_GE(H5Aread(a, H5T_NATIVE_INT64, &value), 0) << name;
  return value;
}

TEST(Rectangles, TheFileSaysWhereABoxLies) {
  const std::vector<TensorSpec> specs{{"/model/a", "", DType::f32, {4, 6, 2}}};
  const TemporaryFolder run;
  const fs::path cut = save_cut(specs, {grid_tiling(specs[0].shape, 2, 3)}, run.path() / "cut", 1).path;
  const fs::path rows = save_cut(specs, {grid_tiling(specs[0].shape, 2, 1)}, run.path() / "rows", 1).path;
  const Manifest m = read_manifest(real_disk(), cut);
  for (int i = 0; i < 5; ++i) {  // what HDF5 has to see, and what differs from it in one number
    H5Dataset d{"/model/a", "", DType::f32, {4, 6, 2}, {2, 2, 4, 2}};
    if (i == 1) d.part.num_rows = 1;
    if (i == 2) d.part.num_columns = 1;
    if (i == 3) d.global.dims[2] = 1;
    if (i == 4) d.dtype = DType::i32;
    const std::vector<std::int64_t> offsets{m.tensors[0].boxes[5].offset};
    const auto check = [&] { check_h5_structure(cut / "rank-00005.h5", std::span(&d, 1), offsets); };
    if (i == 0) {
      EXPECT_NO_THROW(check());
    } else {
      EXPECT_THROW(check(), DamageError) << i;
    }
  }
  const h5::Session session(2);
  const auto open = [](const fs::path& path) { return h5::Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, 0), H5Fclose); };
  {
    const h5::Handle file = open(cut / "rank-00005.h5"), set(H5Dopen2(file, "/model/a", H5P_DEFAULT), H5Dclose);
    EXPECT_EQ(attribute(set, "first_row"), 2);
    EXPECT_EQ(attribute(set, "first_column"), 4);
    const h5::Handle space(H5Dget_space(set), H5Sclose);
    std::array<hsize_t, 3> dims{};
    ASSERT_EQ(H5Sget_simple_extent_dims(space, dims.data(), nullptr), 3);
    EXPECT_EQ(dims, (std::array<hsize_t, 3>{2, 2, 2}));
  }
  const h5::Handle file = open(rows / "rank-00001.h5"), set(H5Dopen2(file, "/model/a", H5P_DEFAULT), H5Dclose);
  EXPECT_EQ(attribute(set, "first_row"), 2);
  EXPECT_EQ(H5Aexists(set, "first_column"), 0) << "files of whole rows are as they always were";
}

/// Another way to ask: how many boxes hold each element?
bool tiles(const Shape& shape, const std::vector<BoxEntry>& boxes) {
  std::vector<int> held(static_cast<std::size_t>(shape[0] * shape[1]), 0);
  for (const BoxEntry& b : boxes) {
    if (b.part.empty() || !is_inside(b.part, shape)) return false;
    for (std::int64_t r = b.part.first_row; r < b.part.end_row(); ++r)
      for (std::int64_t c = b.part.first_column; c < b.part.end_column(); ++c)
        ++held[static_cast<std::size_t>(r * shape[1] + c)];
  }
  return std::all_of(held.begin(), held.end(), [](int n) { return n == 1; });
}

TEST(Rectangles, ATilingIsProvenAndNothingElse) {
  std::mt19937 random(11);
  int good = 0, bad = 0;
  for (int i = 0; i < 20'000; ++i) {
    const auto size = [&] { return 1 + static_cast<std::int64_t>(random() % 6); };
    TensorEntry t{"/model/a", "", DType::f32, {size(), size()}, 0, {}};
    for (const Rectangle& r : random_tiling(t.shape, 1 + static_cast<int>(random() % 6), random))
      if (!r.empty()) t.boxes.push_back({0, 0, r, 0});
    if (random() % 4 != 0) {  // move one border, lose a box, or hold one twice
      BoxEntry& b = t.boxes[random() % t.boxes.size()];
      const std::int64_t by = static_cast<std::int64_t>(random() % 3) - 1;
      switch (random() % 6) {
        case 0:
          b.part.first_row += by;
          break;
        case 1:
          b.part.num_rows += by;
          break;
        case 2:
          b.part.first_column += by;
          break;
        case 3:
          b.part.num_columns += by;
          break;
        case 4:
          t.boxes.push_back(b);
          break;
        default:
          b = t.boxes.back(), t.boxes.pop_back();
      }
    }
    std::sort(t.boxes.begin(), t.boxes.end(), before);
    const bool expected = tiles(t.shape, t.boxes);
    ASSERT_EQ(tiling_problem(t).empty(), expected) << tiling_problem(t);
    expected ? ++good : ++bad;
    if (expected && t.boxes.size() > 1) {
      std::swap(t.boxes[0], t.boxes[1]);
      EXPECT_FALSE(tiling_problem(t).empty()) << "out of order";
    }
  }
  EXPECT_GT(good, 5'000);
  EXPECT_GT(bad, 5'000);
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  for (const Rectangle& r :
       {Rectangle{huge, 1, 0, 4}, {0, huge, 0, 4}, {0, 4, huge, huge}, {1, huge, 0, 4}, {0, 4, 1, huge}})
    EXPECT_FALSE(tiling_problem({"/a", "", DType::f32, {4, 4}, 0, {{0, 0, r, 0}}}).empty());
  EXPECT_FALSE(tiling_problem({"/a", "", DType::f32, {0, 4}, 0, {{0, 0, {0, 0, 0, 4}, 0}}}).empty());
}

TEST(Rectangles, BoxesThatAreWrongAreABug) {
  const std::vector<TensorSpec> specs{{"/model/a", "", DType::f32, {4, 6}}, {"/model/b", "", DType::f32, {4}}};
  const TemporaryFolder run;
  const std::vector<std::function<void(std::vector<Box>&)>> wrong{
      [](auto& b) { b[0].first_column -= 1; }, [](auto& b) { b[0].first_column += 1; },
      [](auto& b) { b[0].data.shape.dims[1] = 7; }, [](auto& b) { b[1].first_column = 1; },
      [](auto& b) { b[0].first_row = -1; }};
  for (const auto& change : wrong)
    on_ranks(2, [&](Group& group) {
      CutBoxes boxes(specs, {grid_tiling({4, 6}, 1, 2), grid_tiling({4}, 2, 1)}, group.rank(), true);
      if (group.rank() == 1) change(boxes.list());
      const SaveOutcome o = save_checkpoint(group, run.path(), boxes.get(), sample_state(1));
      ASSERT_FALSE(o.committed());
      EXPECT_EQ(o.error->status(), ExitStatus::bug);
    });
}

TEST(Rectangles, LiveColumnsThatChangePlacesAreFound) {
  const std::vector<TensorSpec> specs{{"/model/a", "", DType::f32, {4, 6}}};
  const std::vector<Tiling> tilings{grid_tiling({4, 6}, 1, 2)};
  const TemporaryFolder run;
  const fs::path folder = save_cut(specs, tilings, run.path(), 1).path;
  on_ranks(2, [&](Group& group) {
    const Checkpoint c = prove_checkpoint(group, folder);
    CutBoxes live(specs, tilings, group.rank(), true);
    prove_live_state(group, c, live.get());
    live.list()[0].first_column = 3 - live.list()[0].first_column;
    EXPECT_THROW(prove_live_state(group, c, live.get()), Error);
  });
}

/// "A checkpoint of any released version loads in every later one": written by the first version, which knew rows only.
TEST(Released, Version1Loads) {
  const fs::path folder = fs::path(FOURMI_SOURCE_DIR) / "tests/checkpoint/version_1/step-00000003";
  for (const CheckpointReport& r : inspect(folder, Proof::full)) ASSERT_TRUE(r.good()) << r.problem->what();
  on_ranks(2, [&](Group& group) {
    const Checkpoint c = prove_checkpoint(group, folder);
    std::vector<float> weight(group.rank() == 0 ? 5 : 10, -1.0f);
    std::vector<std::uint16_t> moment(group.rank() == 0 ? 6 : 0);
    std::int64_t count = 0;
    const std::int64_t mine = group.rank(), columns = mine == 0 ? 1 : 2;
    const std::vector<Box> boxes{
        {"/optimizer/master/a.weight", "", {5, 3}, 0, Tensor(weight.data(), DType::f32, {5, columns}), mine},
        {"/optimizer/exp_avg/b.weight", "", {6}, 6 * mine, Tensor(moment.data(), DType::bf16, {6 - 6 * mine})},
        {"/training/count", "", {1}, mine, Tensor(&count, DType::i64, {1 - mine})}};
    load_boxes(group, c, boxes);
    prove_live_state(group, c, boxes);
    for (std::size_t r = 0; r < 5; ++r)
      for (std::size_t i = 0; i < static_cast<std::size_t>(columns); ++i)
        EXPECT_EQ(weight[r * static_cast<std::size_t>(columns) + i],
                  0.5f * static_cast<float>(3 * r + i + static_cast<std::size_t>(mine)) - 3);
    for (std::size_t i = 0; i < moment.size(); ++i) EXPECT_EQ(moment[i], 0x3f80 + i);
    EXPECT_EQ(count, mine == 0 ? 7 : 0);
    EXPECT_EQ(c.manifest.state.training, R"({"position":11})");
  });
}

TEST(Released, WhatHasNoCutColumnsIsWrittenAsVersion1) {
  const auto specs = sample_tensors();
  const TemporaryFolder run;
  const auto version = [](const fs::path& folder) {
    return nlohmann::json::parse(read_file(folder / "manifest.json"))["version"].get<int>();
  };
  EXPECT_EQ(version(save_sample(3, run.path() / "rows", 1)[0].path), 1);
  const fs::path cut = save_cut(specs, random_tilings(specs, 5, 2), run.path() / "cut", 1).path;
  EXPECT_EQ(version(cut), 2);
  EXPECT_EQ(read_file(run.path() / "rows/step-00000001/manifest.json").find("column"), std::string::npos);
}

}  // namespace
}  // namespace fourmi::testing
