// Headers and folders of safetensors files: what is not exactly right is refused, by file and tensor.
#include <gtest/gtest.h>

#include "tests/interop/folders.h"

namespace fourmi::interop {
namespace {

namespace fs = std::filesystem;

std::string refusal(const std::string& json, std::int64_t data_bytes) {
  try {
    parse_safetensors_header(json, data_bytes, "a.safetensors");
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::input);
    EXPECT_EQ(e.place(), "a.safetensors");
    return e.cause();
  }
  return "taken";
}
std::string tensor(const std::string& name, const std::string& type, const std::string& shape, int begin, int end) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", name, type, shape, begin, end);
}
std::string header(const std::vector<std::string>& tensors) {
  std::string all;
  for (const std::string& t : tensors) all += (all.empty() ? "" : ",") + t;
  return "{" + all + "}";
}

TEST(SafetensorsHeader, IsReadInTheOrderOfItsBytes) {
  const std::string text = header({R"("__metadata__":{"format":"pt"})", tensor("b", "BF16", "[2,3]", 4, 16),
                                   tensor("a", "F32", "[]", 0, 4), tensor("empty", "I64", "[0,7]", 16, 16)}) +
                           "   ";
  const SafetensorsHeader h = parse_safetensors_header(text, 16, "a.safetensors");
  ASSERT_EQ(h.tensors.size(), 3u);
  EXPECT_EQ(h.tensors[0].name, "a");
  EXPECT_EQ(h.tensors[1].shape, (Shape{2, 3}));
  EXPECT_EQ(h.tensors[1].type, StoredType::bf16);
  EXPECT_EQ(h.tensors[2].type, StoredType::other);
  EXPECT_EQ(h.metadata.at("format"), "pt");
}

TEST(SafetensorsHeader, RefusesWhatDoesNotDescribeItsBytes) {
  const auto one = [](const std::string& t) { return header({t}); };
  const std::tuple<std::string, int, const char*> cases[] = {
      {one(tensor("a", "F32", "[2]", 0, 4)), 4, "expected 8"},
      {one(tensor("a", "F32", "[1]", 0, 4)), 8, "belong to no tensor"},
      {one(tensor("a", "F32", "[1]", 4, 8)), 8, "with a gap"},
      {header({tensor("a", "F32", "[2]", 0, 8), tensor("b", "F32", "[2]", 4, 12)}), 12, "inside the tensor before it"},
      {header({tensor("a", "F32", "[1]", 0, 4), tensor("b", "F32", "[1]", 0, 4)}), 4, "inside the tensor before it"},
      {one(tensor("a", "F32", "[1]", 0, 4)), 3, "lies from byte 0 to 4 of 3"},
      {one(tensor("a", "F32", "[1]", 8, 4)), 12, "lies from byte 8 to 4"},
      {one(tensor("a", "F32", "[-1]", 0, 4)), 4, "no whole number"},
      {one(tensor("a", "F32", "[1.0]", 0, 4)), 4, "no whole number"},
      {one(tensor("a", "F32", "[4294967296,4294967296,4]", 0, 4)), 4, "2^63"},
      {one(tensor("a", "F32", "[1,1,1,1,1,1]", 0, 4)), 4, "five dims"},
      {one(tensor("a", "F33", "[1]", 0, 4)), 4, "type `F33`"},
      {header({tensor("a", "F32", "[1]", 0, 4), tensor("a", "F32", "[1]", 4, 8)}), 8, "`a` twice"},
      {R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "`dtype` twice"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}})", 4, "other members"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "no two data_offsets"},
      {R"({"__metadata__":{"format":1}})", 0, "no text"},
      {R"({"a":7})", 0, "other members"},
      {"[]", 0, "no JSON object"},
      {" {}", 0, "no JSON object"},
      {"", 0, "no JSON object"},
      {"{} {}", 0, "no JSON"},
      {std::string("{\"\xff\":1}"), 0, "no JSON"}};
  for (const auto& [text, bytes, expected] : cases)
    EXPECT_NE(refusal(text, bytes).find(expected), std::string::npos) << text << ": " << refusal(text, bytes);
}

TEST(SafetensorsHeader, LengthMustFitTheFile) {
  const auto refused = [](std::uint64_t length, std::int64_t file) {
    try {
      header_length(std::string_view(reinterpret_cast<const char*>(&length), 8), file, "a");
      return false;
    } catch (const Error& e) {
      return e.status() == ExitStatus::input;
    }
  };
  EXPECT_FALSE(refused(2, 10));
  EXPECT_TRUE(refused(3, 10));
  EXPECT_FALSE(refused(100'000'000, 200'000'000));
  EXPECT_TRUE(refused(100'000'001, 200'000'000));
  EXPECT_TRUE(refused(~std::uint64_t{0}, 10));
  EXPECT_THROW(header_length("", 7, "a"), Error);
}

TEST(SafetensorsHeader, WrittenIsReadBack) {
  std::vector<StoredTensor> tensors{{"b", "", StoredType::bf16, {3}, 0, 0},
                                    {"a", "", StoredType::bf16, {2, 2}, 0, 0},
                                    {"z", "", StoredType::f32, {}, 0, 0},
                                    {"q", "", StoredType::f8_e4m3, {5}, 0, 0}};
  lay_out(tensors);
  const std::string text = safetensors_header_text(tensors);
  ASSERT_EQ(text.size() % 8, 0u);
  const std::int64_t length = header_length(text.substr(0, 8), std::ssize(text) + 23, "a");
  ASSERT_EQ(length + 8, std::ssize(text));
  const SafetensorsHeader h = parse_safetensors_header(std::string_view(text).substr(8), 23, "a");
  std::string order;
  for (const StoredTensor& t : h.tensors) order += t.name;
  EXPECT_EQ(order, "zabq");
}

struct TestFolder : Folder {
  /// Tensors of one F32 each.
  void write_model(const std::string& name, const std::vector<std::string>& tensors) const {
    std::vector<StoredTensor> stored;
    for (const std::string& t : tensors) stored.push_back({t, "", StoredType::f32, {1}, 0, 0});
    lay_out(stored);
    write(name, safetensors_header_text(stored) + std::string(4 * stored.size(), 'x'));
  }
  std::string refusal() const {
    try {
      const StoredModel model(path);
      return "taken";
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::input);
      return e.what();
    }
  }
};

TEST(StoredModel, ReadsAFolderInSeveralFiles) {
  TestFolder f;
  f.write_model("one.safetensors", {"a", "c"});
  f.write_model("two.safetensors", {"b"});
  f.write("model.safetensors.index.json",
          R"({"metadata":{},"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"one.safetensors"}})");
  const StoredModel model(f.path);
  ASSERT_EQ(model.tensors().size(), 3u);
  EXPECT_EQ(model.files().size(), 2u);
  for (const StoredModel::Entry& e : model.tensors()) all_of(model, e);
  EXPECT_EQ(model.bytes_read(), model.bytes());
  EXPECT_EQ(model.bytes(), static_cast<std::int64_t>(fs::file_size(f.path / "one.safetensors") +
                                                     fs::file_size(f.path / "two.safetensors")));
}

TEST(StoredModel, NamesAllThatIndexAndFilesDisagreeOn) {
  TestFolder f;
  EXPECT_NE(f.refusal().find("neither model.safetensors"), std::string::npos);
  f.write_model("one.safetensors", {"a", "c"});
  f.write_model("two.safetensors", {"b", "extra"});
  const auto index = [&](const std::string& map) {
    f.write("model.safetensors.index.json", R"({"weight_map":{)" + map + "}}");
  };
  index(R"("a":"one.safetensors","b":"one.safetensors","c":"two.safetensors","d":"two.safetensors")");
  const std::string said = f.refusal();
  for (const char* part : {"b is in two.safetensors, not in one", "c is in one", "d is missing in two", "extra of two"})
    EXPECT_NE(said.find(part), std::string::npos) << said;
  index(R"("a":"one.safetensors","b":"gone.safetensors")");
  EXPECT_NE(f.refusal().find("gone.safetensors"), std::string::npos);
  index(R"("a":"../one.safetensors")");
  EXPECT_NE(f.refusal().find("no file of this folder"), std::string::npos);
  f.write("model.safetensors.index.json", "{");
  EXPECT_NE(f.refusal().find("no index"), std::string::npos);
}

TEST(StoredModel, ACutFileIsRefused) {
  TestFolder f;
  f.write_model("model.safetensors", {"a"});
  EXPECT_EQ(f.refusal(), "taken");
  fs::resize_file(f.path / "model.safetensors", fs::file_size(f.path / "model.safetensors") - 1);
  EXPECT_NE(f.refusal().find("lies from byte"), std::string::npos) << f.refusal();
  fs::resize_file(f.path / "model.safetensors", 5);
  EXPECT_NE(f.refusal().find("5 bytes"), std::string::npos) << f.refusal();
}

TEST(StoredType, EveryHalfAndEveryBrainFloatIsWidenedExactly) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    float x = 0;
    widen(StoredType::f16, std::as_bytes(std::span(&half, 1)), std::span(&x, 1));
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const double fraction = static_cast<double>(bits & 1023) / 1024;
    const double size = exponent ? std::ldexp(1 + fraction, exponent - 15) : std::ldexp(fraction, -14);
    if (exponent == 31)
      EXPECT_TRUE(fraction == 0 ? std::isinf(x) : std::isnan(x)) << bits;
    else
      EXPECT_EQ(static_cast<double>(x), bits & 32768 ? -size : size) << bits;
    EXPECT_EQ(std::signbit(x), bits >= 32768) << bits;
    widen(StoredType::bf16, std::as_bytes(std::span(&half, 1)), std::span(&x, 1));
    std::uint16_t back = 0;
    narrow(StoredType::bf16, std::span(&x, 1), std::as_writable_bytes(std::span(&back, 1)));
    if (!std::isnan(x)) {
      EXPECT_EQ(back, half);
    }
  }
}

}  // namespace
}  // namespace fourmi::interop
