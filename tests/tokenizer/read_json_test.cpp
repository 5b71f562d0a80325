// What a tokenizer.json may hold, and that all else is refused by its key.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <tuple>

#include "framework/tokenizer/definition.h"
#include "tests/data/files.h"
#include "tests/tokenizer/goldens.h"

namespace fourmi {
namespace {

using Json = nlohmann::json;

struct Refused {
  const char* pointer;  ///< where in cl100k.json
  const char* value;    ///< what stands there instead; empty: nothing
  const char* message;  ///< part of the error
};

const Refused refusals[] = {
    {"/truncation", R"({"max_length": 5})", "t.json: truncation: found {\"max_length\":5}, expected null"},
    {"/padding", "{}", "t.json: padding"},
    {"/surprise", "1", "found the key surprise"},
    {"/model/surprise", "1", "t.json: model: found the key surprise"},
    {"/model/type", "\"Unigram\"", "t.json: model.type: found \"Unigram\", expected \"BPE\""},
    {"/model/dropout", "0.1", "t.json: model.dropout"},
    {"/model/end_of_word_suffix", "\"</w>\"", "t.json: model.end_of_word_suffix"},
    {"/model/continuing_subword_prefix", "\"##\"", "t.json: model.continuing_subword_prefix"},
    {"/model/vocab/a", "", "no token for the byte 0x61 (written a)"},
    {"/model/vocab/a", "0", "expected an id of its own"},
    {"/model/vocab/a", "-1", "t.json: model.vocab.a: found -1"},
    {"/model/vocab/a", "99999999999", "t.json: model.vocab.a"},
    {"/model/vocab", "[]", "t.json: model.vocab"},
    {"/model/merges/3", "\"ab\"", "t.json: model.merges[3]: found \"ab\""},
    {"/model/merges/3", "\"a b c\"", "t.json: model.merges[3]"},
    {"/model/merges/3", R"(["a"])", "t.json: model.merges[3]"},
    {"/model/merges/3", R"(["qq", "a"])", "found 'qq', which model.vocab does not have"},
    {"/model/merges/3", R"(["q", "q"])", "found 'qq', which model.vocab does not have"},
    {"/added_tokens/0/id", "5", "t.json: added_tokens[0].id: found 5, expected 0, its id in model.vocab"},
    {"/added_tokens/1/id", "5", "t.json: added_tokens[1].id"},
    {"/added_tokens/1/content", "\"\"", "t.json: added_tokens[1].content"},
    {"/normalizer", R"({"type": "Precompiled"})", "t.json: normalizer: found {\"type\":\"Precompiled\"}"},
    {"/normalizer", R"({"type": "Replace", "pattern": {"String": ""}, "content": "a"})", "normalizer.pattern.String"},
    {"/pre_tokenizer", "null", "t.json: model.byte_fallback: found false, expected true, or a ByteLevel"},
    {"/pre_tokenizer/pretokenizers/1", "", "t.json: model.byte_fallback"},
    {"/pre_tokenizer", R"({"type": "Whitespace"})", "t.json: pre_tokenizer: found {\"type\":\"Whitespace\"}"},
    {"/pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", "t.json: pre_tokenizer.pretokenizers[0].behavior"},
    {"/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("[^\\p{L}&&[^\\p{Han}]]+")",
     "'[^...&&' at character 7 of the pattern"},
    {"/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("[a&&b[c]]+")", "'[c' at character 5"},
    {"/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("[a&&]+")", "']' at character 4"},
    {"/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("a*")", "can match nothing at all"},
    {"/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("a{1,3}+")", "'{1,3}+'"},
    {"/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("\\ba")", "'\\b'"},
    {"/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("[a[b]]")", "'[b'"},
    {"/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("(a")", "a regular expression was expected"},
    {"/decoder", R"({"type": "WordPiece"})", "t.json: decoder"},
};

TEST(TokenizerJson, RefusesWhatItWouldReadDifferently) {
  const Json good = Json::parse(test::golden("cl100k.json"));
  EXPECT_NO_THROW(read_tokenizer_json(good.dump(), "t.json"));
  for (const Refused& r : refusals) {
    Json bad = good;
    const Json::json_pointer pointer(r.pointer);
    if (*r.value)
      bad[pointer] = Json::parse(r.value);
    else
      bad = bad.patch(Json::array({{{"op", "remove"}, {"path", r.pointer}}}));
    const std::string message = test::message_of(ExitStatus::input, [&] { read_tokenizer_json(bad.dump(), "t.json"); });
    EXPECT_NE(message.find(r.message), std::string::npos) << r.pointer << ": " << message;
  }
}

const Refused refusals_of_characters[] = {
    {"/model/byte_fallback", "false", "t.json: model.byte_fallback: found false"},
    {"/model/vocab/<0x41>", "", "no token for the byte 0x41 (written <0x41>)"},
    {"/decoder", "null", "t.json: decoder: found null, expected Sequence"},
    {"/decoder/decoders/1", "", "expected a ByteFallback among the decoders"},
    {"/decoder/decoders/3/start", "2", "t.json: decoder.decoders[3]"},
    {"/decoder/decoders/2", "", "expected one \" \" at the start, after Fuse"},
    {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "ab"})", "t.json: pre_tokenizer.replacement"},
    {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"})",
     "t.json: pre_tokenizer.prepend_scheme"},
};

TEST(TokenizerJson, RefusesWhatItWouldReadDifferentlyOfCharacters) {
  const Json good = Json::parse(test::golden("llama.json"));
  EXPECT_NO_THROW(read_tokenizer_json(good.dump(), "t.json"));
  for (const Refused& r : refusals_of_characters) {
    const std::string op = *r.value ? "replace" : "remove";
    Json change = {{"op", op}, {"path", r.pointer}};
    if (*r.value) change["value"] = Json::parse(r.value);
    const std::string bad = good.patch(Json::array({change})).dump();
    const std::string message = test::message_of(ExitStatus::input, [&] { read_tokenizer_json(bad, "t.json"); });
    EXPECT_NE(message.find(r.message), std::string::npos) << r.pointer << ": " << message;
  }
}

TEST(TokenizerJson, AByteThatIsNoTokenIsTheUnknownOne) {
  Json json = Json::parse(test::golden("gpt2.json"));
  json["model"]["vocab"].erase("\u0104");  // byte 4
  json["model"]["unk_token"] = "<|endoftext|>";
  const BpeTokenizer tokenizer(read_tokenizer_json(json.dump(), "t.json"), "", "data.end_of_document");
  EXPECT_EQ(tokenizer.encode("\x04\x04"), (std::vector<std::int32_t>{0, 0}));
}

/// A key that is there twice, of which the last counts, is left to the library that says where a flaw is.
std::string read_slowly(const std::string& json) {
  return json.substr(0, json.rfind('}')) + R"(, "truncation": null})";
}

TEST(TokenizerJson, IsReadTheSameByBothLibraries) {
  for (const char* name : test::golden_names) {
    const std::string json = test::golden(std::string(name) + ".json");
    ASSERT_NE(json.find("\"truncation\""), std::string::npos) << name;
    const TokenizerDefinition quick = read_tokenizer_json(json, name),
                              slow = read_tokenizer_json(read_slowly(json), name);
    EXPECT_EQ(quick.contents, slow.contents) << name;
    EXPECT_EQ(quick.used, slow.used) << name;
    EXPECT_EQ(quick.added, slow.added) << name;
    EXPECT_EQ(quick.bytes, slow.bytes) << name;
    EXPECT_EQ(quick.written, slow.written) << name;
    EXPECT_EQ(quick.alphabet, slow.alphabet) << name;
    EXPECT_EQ(quick.ignore_merges, slow.ignore_merges) << name;
    EXPECT_EQ(quick.strip_first_space, slow.strip_first_space) << name;
    EXPECT_EQ(quick.pre_tokenizer.size(), slow.pre_tokenizer.size()) << name;
    EXPECT_EQ(quick.normalizer.size(), slow.normalizer.size()) << name;
    ASSERT_EQ(quick.merges.size(), slow.merges.size()) << name;
    ASSERT_GT(quick.merges.size(), 50u) << name;
    for (std::size_t i = 0; i < quick.merges.size(); ++i) {
      const Merge &a = quick.merges[i], &b = slow.merges[i];
      EXPECT_EQ(std::tie(a.left, a.right, a.result), std::tie(b.left, b.right, b.result)) << name << ' ' << i;
    }
  }
}

TEST(TokenizerJson, OfATokenThatIsWrittenTwiceTheLastIdCounts) {
  std::string json = test::golden("cl100k.json");
  const std::size_t vocab = json.find('{', json.find("\"vocab\"")) + 1;
  json.insert(vocab, "\"a\": 16777215,");
  EXPECT_EQ(read_tokenizer_json(json, "t.json").contents.size(),
            read_tokenizer_json(test::golden("cl100k.json"), "t.json").contents.size());
}

TEST(TokenizerJson, ANumberThatNothingHoldsIsNamed) {
  for (const char* json : {"1e999", R"({"version": -333333333333e3333333333})"}) {
    const std::string message = test::message_of(ExitStatus::input, [&] { read_tokenizer_json(json, "t.json"); });
    EXPECT_NE(message.find("t.json: a number too large"), std::string::npos) << message;
  }
}

TEST(TokenizerJson, BracketsWithoutEndAreRefused) {
  const std::string json =
      R"({"normalizer":)" + std::string(1 << 21, '[') + std::string(1 << 21, ']') + "}";  // a refusal would show it
  const std::string message = test::message_of(ExitStatus::input, [&] { read_tokenizer_json(json, "t.json"); });
  EXPECT_NE(message.find("more than 500 arrays and objects"), std::string::npos) << message;
}

TEST(TokenizerJson, IsRefusedWhenCutAnywhere) {
  const std::string text = test::golden("string.json");
  for (std::size_t length = 0; length + 2 < text.size(); length += 97)
    EXPECT_THROW(read_tokenizer_json(text.substr(0, length), "t.json"), Error);
}

}  // namespace
}  // namespace fourmi
