// One changed, missing or foreign byte anywhere: exit status 4, and the message names the file or the tensor.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <random>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/folder.h"
#include "framework/checkpoint/prove.h"
#include "framework/digest/sha256.h"
#include "tests/checkpoint/sample.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

class Damage : public ::testing::Test {
 protected:
  void SetUp() override {
    save_sample(3, run_.path(), 10);
    save_sample(2, run_.path() / "other", 10, {}, 1);
  }
  fs::path folder() const { return run_.path() / "step-00000010"; }
  fs::path file(int rank) const { return folder() / rank_file_name(rank); }

  /// Proving must fail as damage, naming the file.
  void expect_damage(const fs::path& file, const std::string& part = "") {
    const auto group = make_self_group("test");
    try {
      prove_checkpoint(*group, folder());
      ADD_FAILURE() << "accepted a damaged " << file;
    } catch (const DamageError& e) {
      EXPECT_EQ(e.status(), ExitStatus::input);
      EXPECT_NE(std::string(e.what()).find(file.filename().string()), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  }
  TemporaryFolder run_;
};

TEST_F(Damage, EveryByteOfTheManifest) {
  const std::string good = read_file(folder() / "manifest.json");
  ASSERT_NO_THROW(parse_manifest(good, "manifest.json"));
  for (std::size_t i = 0; i < good.size(); ++i)
    for (int bit : {0, 5, 7}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      EXPECT_THROW(parse_manifest(bad, "manifest.json"), DamageError) << "byte " << i;
    }
  for (std::size_t length = 0; length < good.size(); ++length)
    EXPECT_THROW(parse_manifest(good.substr(0, length), "manifest.json"), DamageError) << length;
  EXPECT_THROW(parse_manifest(good + "\n", "manifest.json"), DamageError);
  EXPECT_THROW(parse_manifest("\n" + good, "manifest.json"), DamageError);
  std::string bad = good;
  bad[good.size() / 2] ^= 1;
  write_file(folder() / "manifest.json", bad);
  expect_damage(folder() / "manifest.json");
}

TEST_F(Damage, FlipsInFilesNameTheTensorOrTheFile) {
  const Manifest m = read_manifest(real_disk(), folder());
  std::mt19937 random(1);
  for (int rank = 0; rank < 3; ++rank) {
    const std::string good = read_file(file(rank));
    std::vector<std::size_t> places{0, 8, 200, 511, 512, good.size() - 1};
    for (int i = 0; i < 40; ++i) places.push_back(random() % good.size());
    for (const TensorEntry& t : m.tensors)  // first and last byte of every box
      for (const BoxEntry& b : t.boxes)
        if (b.file == rank) {
          places.push_back(static_cast<std::size_t>(b.offset));
          places.push_back(static_cast<std::size_t>(b.offset + t.bytes_of(b.part) - 1));
        }
    for (std::size_t place : places) {
      std::string tensor = "outside the tensors";
      for (const TensorEntry& t : m.tensors)
        for (const BoxEntry& b : t.boxes)
          if (b.file == rank && place >= static_cast<std::size_t>(b.offset) &&
              place < static_cast<std::size_t>(b.offset + t.bytes_of(b.part)))
            tensor = t.name;
      std::string bad = good;
      bad[place] = static_cast<char>(bad[place] ^ (1 << (random() % 8)));
      write_file(file(rank), bad);
      expect_damage(file(rank), tensor);
    }
    write_file(file(rank), good);
  }
  expect_loads(2, folder());
}

TEST_F(Damage, Truncation) {
  for (int rank = 0; rank < 3; ++rank) {
    const std::string good = read_file(file(rank));
    for (std::size_t length = 0; length < good.size(); length += 512) {
      write_file(file(rank), good.substr(0, length));
      expect_damage(file(rank));
    }
    write_file(file(rank), good.substr(0, good.size() - 1));
    expect_damage(file(rank));
    write_file(file(rank), good + "x");
    expect_damage(file(rank));
    write_file(file(rank), good);
  }
}

TEST_F(Damage, MissingEmptySwappedAndForeignFiles) {
  const std::string zero = read_file(file(0)), one = read_file(file(1)),
                    manifest = read_file(folder() / "manifest.json");
  fs::remove(file(1));
  expect_damage(file(1), "missing");
  write_file(file(1), "");
  expect_damage(file(1), "0 bytes");
  write_file(file(0), one);
  write_file(file(1), zero);
  expect_damage(file(0));
  write_file(file(0), zero);
  write_file(file(1), zero);
  expect_damage(file(1));
  write_file(file(1), one);
  fs::copy_file(run_.path() / "other/step-00000010/manifest.json", folder() / "manifest.json",
                fs::copy_options::overwrite_existing);
  expect_damage("rank-0000");
  fs::remove(folder() / "manifest.json");
  expect_damage(folder() / "manifest.json", "missing");
  write_file(folder() / "manifest.json", "");
  expect_damage(folder() / "manifest.json");
  write_file(folder() / "manifest.json", manifest);
  expect_loads(1, folder());
}

TEST_F(Damage, SpecialFilesNeitherHangNorLeadOutside) {
  const std::string one = read_file(file(1));
  const auto replace = [&](const std::function<int()>& make) {
    fs::remove_all(file(1));
    ASSERT_EQ(make(), 0);
    expect_damage(file(1));
  };
  replace([&] { return mkfifo(file(1).c_str(), 0600); });
  replace([&] { return symlink("/etc/passwd", file(1).c_str()); });
  replace([&] { return mkdir(file(1).c_str(), 0700); });
  fs::remove_all(file(1));
  write_file(run_.path() / "elsewhere.h5", one);  // even the right bytes: the checkpoint would not be whole when copied
  replace([&] { return symlink((run_.path() / "elsewhere.h5").c_str(), file(1).c_str()); });
}

TEST_F(Damage, ForgedManifests) {
  const std::string good = read_file(folder() / "manifest.json");
  ASSERT_NO_THROW(parse_manifest(forged(good, "\"step\"", "\"step\""), "m"));
  const std::vector<std::pair<std::string, std::string>> forgeries{
      {"\"rank-00001.h5\"", "\"../rank-00001.h5\""},
      {"\"rank-00001.h5\"", "\"/etc/passwd\""},
      {"\"rank-00001.h5\"", "\"rank-00001.h5\\u0000\""},
      {"\"rank-00001.h5\"", "\"rank-00000.h5\""},
      {"\"/optimizer/master/model.layers", "\"/../master/model.layers"},
      {"\"/optimizer/master/model.layers", "\"/optimizer//model.layers"},
      {"\"/optimizer/master/model.layers", "\"optimizer/model.layers"},
      {"\"f64\"", "\"f8\""},
      {"\"f64\"", "\"f32\""},
      {"\"shape\":[37,", "\"shape\":[9223372036854775807,"},
      {"\"shape\":[37,", "\"shape\":[18446744073709551615,"},
      {"\"shape\":[37,", "\"shape\":[-37,"},
      {"\"shape\":[37,", "\"shape\":[37.0,"},
      {"\"shape\":[37,", "\"shape\":[4294967296, 4294967296,"},
      {"\"shape\":[37,", "\"shape\":[1, 1, 1, 1, 37,"},
      {"\"first_row\":0", "\"first_row\":1"},
      {"\"first_row\":0", "\"first_row\":-1"},
      {"\"num_rows\":", "\"num_rows\":9"},
      {"\"offset\":", "\"offset\":9999999"},
      {"\"offset\":", "\"offset\":92233720368547"},
      {"\"offset\":", "\"offset\":-"},
      {"\"file\":0", "\"file\":3"},
      {"\"file\":0", "\"file\":\"0\""},
      {"\"step\": 10", "\"step\": 11"},
      {"\"tokens\": 10240", "\"tokens\": 1"},
      {"\"gcide\": 77", "\"gcide\": 78"},
      {"\"fourmi checkpoint\"", "\"fourmi\""},
      {"\"training\": {", "\"training\": 1, \"x\": {"},
      {"\"info\": {", "\"info\": " + std::string(100000, '[')},
      {"\"info\": {", "\"info\": " + std::string(60000, '[') + std::string(60000, ']') + ", \"x\": {"},
      {"\"version\": 1", "\"version\": null"},
      {"\"files\": [", "\"files\": {}, \"x\": ["},
      {"\"alias\":\"\"", "\"alias\":\"/model/model.embed_tokens.weight\""}};
  for (const auto& [from, to] : forgeries)
    EXPECT_THROW(parse_manifest(forged(good, from, to), "m"), DamageError) << to.substr(0, 100);
}

TEST_F(Damage, ANewerFormatIsNoDamage) {
  const std::string newer = forged(read_file(folder() / "manifest.json"), "\"version\": 1", "\"version\": 3");
  write_file(folder() / "manifest.json", newer);
  const auto group = make_self_group("test");
  try {
    choose_newest(*group, run_.path(), true);
    ADD_FAILURE();
  } catch (const DamageError&) {
    ADD_FAILURE() << "it would be renamed";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::input);
  }
  EXPECT_TRUE(fs::exists(folder()));
}

TEST_F(Damage, ResumeTakesTheNewestGoodOneAndSetsTheDamagedAside) {
  save_sample(3, run_.path(), 20);
  save_sample(3, run_.path(), 30);
  std::string bytes = read_file(run_.path() / "step-00000030/rank-00002.h5");
  bytes[bytes.size() - 3] ^= 16;
  write_file(run_.path() / "step-00000030/rank-00002.h5", bytes);
  fs::remove(run_.path() / "step-00000020/manifest.json");
  fs::create_directory(run_.path() / "step-00000030.damaged");
  for (int size : {4, 1}) {
    on_ranks(size, [&](Group& group) {
      const CheckpointChoice c = choose_newest(group, run_.path(), true);
      ASSERT_TRUE(c.checkpoint);
      EXPECT_EQ(c.checkpoint->manifest.state.step, 10);
      EXPECT_EQ(c.messages.size(), size == 4 ? 2u : 0u);
      if (size == 4) {
        EXPECT_NE(c.messages[0].find("rank-00002.h5"), std::string::npos) << c.messages[0];
        EXPECT_NE(c.messages[1].find("manifest.json"), std::string::npos) << c.messages[1];
      }
    });
  }
  EXPECT_EQ(list_steps(run_.path()), std::vector<std::int64_t>{10});
  EXPECT_TRUE(fs::exists(run_.path() / "step-00000030.2.damaged"));
  EXPECT_TRUE(fs::exists(run_.path() / "step-00000020.damaged"));
}

TEST_F(Damage, WhenNoneIsGoodNothingIsRenamed) {
  write_file(file(2), "");
  on_ranks(2, [&](Group& group) { EXPECT_THROW(choose_newest(group, run_.path(), true), Error); });
  EXPECT_TRUE(fs::exists(folder()));
  on_ranks(2, [&](Group& group) { EXPECT_FALSE(choose_newest(group, run_.path() / "nothing", true).checkpoint); });
}

}  // namespace
}  // namespace fourmi::testing
