// Token files and the tokenizer that made them.
#include "framework/data/made_with.h"

#include <gtest/gtest.h>

#include "framework/data/indexed.h"
#include "tests/data/files.h"

namespace fourmi {
namespace {

TEST(MadeWith, AnotherTokenizersTokenFilesAreRefused) {
  const test::Folder folder;
  const std::string prefix = folder.path() + "/x";
  IndexedWriter writer(prefix, TokenType::u16);
  writer.add(std::vector<std::int32_t>{1, 2, 3});
  writer.finish();
  DataSource recipe;
  recipe.name = "x";
  recipe.format = "bin";
  recipe.path = prefix + ".bin";
  const std::string mine(64, 'a'), other(64, 'b');
  const auto check = [&](const std::string& side, const std::string& tokenizer, const std::string& sha256) {
    if (!side.empty()) folder.write("x.json", side);
    DataSection data;
    data.tokenizer = tokenizer;
    data.tokenizer_sha256 = sha256;
    check_made_with(load_sources({recipe}, "data.train")[0], data, "data.train.x");
  };
  const std::string by_mine = R"({"tokenizer": {"sha256": ")" + mine + "\"}}",
                    by_bytes = R"({"tokenizer": {"sha256": null}})";
  check("", "t.json", mine);  // no side file: nothing is known
  check(by_mine, "t.json", mine);
  check(by_bytes, "bytes", "");
  check(by_mine, "t.json", "");  // not pinned: nothing to compare with
  for (const char* silent : {"{}", "[]", "no json", R"({"tokenizer": "t"})", R"({"tokenizer": {}})"})
    check(silent, "t.json", mine);
  const auto refused = [&](const std::string& side, const std::string& tokenizer, const std::string& sha256) {
    return test::message_of(ExitStatus::input, [&] { check(side, tokenizer, sha256); });
  };
  const std::string message = refused(by_mine, "t.json", other);
  for (const std::string& part : {std::string("data.train.x: "), prefix + ".bin", prefix + ".json", mine, other})
    EXPECT_NE(message.find(part), std::string::npos) << message;
  refused(by_mine, "bytes", "");
  refused(by_bytes, "t.json", mine);
}

}  // namespace
}  // namespace fourmi
