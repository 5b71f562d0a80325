#include "framework/checkpoint/view.h"

#include <cstring>

#include "framework/checkpoint/h5_handles.h"
#include "tests/checkpoint/sample.h"

namespace fourmi::testing {
namespace {

Checkpoint open(const std::filesystem::path& run) {
  const auto alone = make_self_group("test");
  return *open_model(*alone, run).checkpoint;
}

/// All bytes of a dataset as HDF5 itself reads them.
std::string bytes_of(const std::filesystem::path& file, const std::string& dataset, std::size_t bytes) {
  const h5::Session session(1);
  const h5::Handle opened(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  const h5::Handle set(H5Dopen2(opened, dataset.c_str(), H5P_DEFAULT), H5Dclose);
  const h5::Handle type(H5Dget_type(set), H5Tclose);
  std::string out(bytes, '\0');
  EXPECT_EQ(H5Dget_storage_size(set), bytes) << dataset;
  EXPECT_GE(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out.data()), 0) << dataset;
  return out;
}

TEST(CheckpointView, HoldsEveryTensorWholeWhateverTheRanks) {
  for (const int ranks : {1, 3}) {
    const TemporaryFolder run;
    save_sample(ranks, run.path() / "checkpoints", 10);
    const auto out = run.path() / "whole.h5";
    const View v = write_view(open(run.path()), out, {});
    EXPECT_EQ(v.bytes, static_cast<std::int64_t>(std::filesystem::file_size(out)));
    std::filesystem::remove_all(run.path() / "checkpoints");  // the file stands alone
    const auto specs = sample_tensors();
    std::int64_t written = 0;
    for (std::size_t t = 0; t < specs.size(); ++t) {
      const std::int64_t bytes = specs[t].shape.num_elements() * size_of(specs[t].dtype);
      if (bytes == 0) continue;
      ++written;
      const std::string got = bytes_of(out, specs[t].name, static_cast<std::size_t>(bytes));
      for (std::int64_t i = 0; i < bytes; ++i)
        ASSERT_EQ(static_cast<std::byte>(got[static_cast<std::size_t>(i)]), sample_byte(t, i, 0))
            << specs[t].name << " byte " << i;
      if (!specs[t].alias.empty()) {
        EXPECT_EQ(bytes_of(out, specs[t].alias, static_cast<std::size_t>(bytes)), got);
      }
    }
    EXPECT_EQ(v.num_tensors, written);
  }
}

TEST(CheckpointView, ChoosesByNameOrAlias) {
  const TemporaryFolder run;
  save_sample(2, run.path() / "checkpoints", 10);
  EXPECT_EQ(write_view(open(run.path()), run.path() / "a.h5", {"/model/*"}).num_tensors, 1);
  EXPECT_EQ(write_view(open(run.path()), run.path() / "b.h5", {"/training/mask", "/optimizer/exp_avg/*"}).num_tensors,
            2);
  EXPECT_THROW(write_view(open(run.path()), run.path() / "c.h5", {"/nothing"}), Error);
  EXPECT_FALSE(std::filesystem::exists(run.path() / "c.h5"));
}

TEST(CheckpointView, NeverOverwritesAndLeavesNothingWhenItFails) {
  const TemporaryFolder run;
  save_sample(2, run.path() / "checkpoints", 10);
  const Checkpoint c = open(run.path());
  const auto out = run.path() / "whole.h5";
  write_file(out, "mine");
  EXPECT_THROW(write_view(c, out, {}), Error);
  EXPECT_EQ(read_file(out), "mine");
  std::filesystem::remove(out);

  // One byte of a tensor changes after the proof: the view notices.
  const TensorEntry& t = c.manifest.tensors[0];
  const auto file = c.folder / c.manifest.files[static_cast<std::size_t>(t.boxes[0].file)].name;
  const std::string good = read_file(file);
  std::string bad = good;
  bad[static_cast<std::size_t>(t.boxes[0].offset)] ^= 1;
  write_file(file, bad);
  EXPECT_THROW(write_view(c, out, {}), DamageError);
  write_file(file, good);
  for (const auto& entry : std::filesystem::directory_iterator(run.path()))
    EXPECT_EQ(entry.path().filename(), "checkpoints");
}

}  // namespace
}  // namespace fourmi::testing
