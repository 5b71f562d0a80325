// Two types of one name in one namespace are one to the linker: which one's inline functions a program gets is chance.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace fourmi {
namespace {

namespace fs = std::filesystem;

/// The types that a header defines outside of other types, with their namespaces; none of nameless ones.
std::set<std::string> types_of(std::string text) {
  text = std::regex_replace(text, std::regex(R"(//[^\n]*)"), "");
  text = std::regex_replace(text, std::regex(R"("(\\.|[^"\\\n])*")"), "\"\"");
  const std::regex token(
      R"(namespace\s*([\w:]*)\s*\{|(?:struct|class|union|enum class)\s+(\w+)(?:\s+final)?\s*(?::(?!:)[^;{()]*)?\{|[{}])");
  std::set<std::string> types;
  struct Scope {
    bool is_namespace;
    std::string name;
  };
  std::vector<Scope> scopes;
  for (std::sregex_iterator it(text.begin(), text.end(), token), end; it != end; ++it) {
    const std::string found = it->str();
    if (found == "}") {
      if (!scopes.empty()) scopes.pop_back();
    } else if (found.starts_with("namespace")) {
      scopes.push_back({true, (*it)[1].str()});
    } else if (!(*it)[2].matched) {
      scopes.push_back({false, ""});
    } else {
      std::string name;
      bool shared = true;
      for (const Scope& s : scopes) {
        shared = shared && s.is_namespace && !s.name.empty();
        name += s.name + "::";
      }
      if (shared) types.insert(name + (*it)[2].str());
      scopes.push_back({false, ""});
    }
  }
  return types;
}

TEST(Names, OfTypesAreThereOnce) {
  std::map<std::string, std::string> first;
  std::size_t headers = 0;
  for (const char* floor : {"kernels", "parallel", "framework", "launch"})
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(FOURMI_SOURCE_DIR) / floor)) {
      if (entry.path().extension() != ".h") continue;
      ++headers;
      std::ifstream in(entry.path());
      std::ostringstream text;
      text << in.rdbuf();
      for (const std::string& type : types_of(text.str())) {
        const auto [at, is_new] = first.emplace(type, entry.path().string());
        EXPECT_TRUE(is_new) << type << " is in " << at->second << " and in " << entry.path();
      }
    }
  EXPECT_GT(headers, 300u);
  EXPECT_GT(first.size(), 500u);
}

TEST(Names, AreFound) {
  EXPECT_EQ(types_of("namespace a {\nstruct X { struct Y { int z; }; };\nclass Z final : public X {\n};\n}"),
            (std::set<std::string>{"a::X", "a::Z"}));
  EXPECT_TRUE(types_of("namespace a {\nnamespace {\nstruct X {};\n}\n// struct Y {\nstruct Z;\n}").empty());
}

}  // namespace
}  // namespace fourmi
