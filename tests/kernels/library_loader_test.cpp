// Libraries that are opened at run time: what is said where they, one of their functions or a new enough version is
// missing. By a linker that knows what the test tells it.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "kernels/cuda/library/shared_library.h"

namespace fourmi::cuda::library {
namespace {

std::int64_t first() {
  return 130102;
}
std::int64_t second() {
  return 7;
}

struct Table {
  std::int64_t (*version_function)() = nullptr;
  std::int64_t (*other_function)() = nullptr;
  static constexpr Wanted wanted{"Formic", "libformic.so.13", "Install Formic", 130000};
  std::vector<Symbol> symbols() {
    return {{"formicVersion", reinterpret_cast<void**>(&version_function)},
            {"formicOther", reinterpret_cast<void**>(&other_function)}};
  }
  std::int64_t version() const { return version_function(); }
};

class FakeLinker final : public Linker {
 public:
  bool has_library = true;
  std::map<std::string, std::int64_t (*)()> functions{{"formicVersion", first}, {"formicOther", second}};
  void* open(const char* soname) const override {
    return has_library && std::string(soname) == "libformic.so.13" ? const_cast<FakeLinker*>(this) : nullptr;
  }
  void* find(void* opened, const char* symbol) const override {
    EXPECT_EQ(opened, this);
    const auto at = functions.find(symbol);
    return at == functions.end() ? nullptr : reinterpret_cast<void*>(at->second);
  }
  std::string trouble() const override { return "no such file"; }
};

Error error_of(const FakeLinker& linker) {
  const Library<Table> library(linker);
  EXPECT_EQ(library.get(), nullptr);
  try {
    library.need();
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::environment);
    EXPECT_EQ(e.place(), "Formic");
    EXPECT_EQ(e.remedy(), "Install Formic");
    EXPECT_EQ(library.text(), "Formic: " + e.cause());
    return e;
  }
  ADD_FAILURE() << "no error";
  return Error(ExitStatus::bug, "", "");
}

TEST(LibraryLoader, FindsFunctions) {
  const FakeLinker linker;
  const Library<Table> library(linker);
  ASSERT_NE(library.get(), nullptr);
  EXPECT_EQ(library.need().version_function(), 130102);
  EXPECT_EQ(library.get()->other_function(), 7);
  EXPECT_EQ(library.text(), "Formic 13.1.2");
}

TEST(LibraryLoader, SaysThatTheLibraryIsMissing) {
  FakeLinker linker;
  linker.has_library = false;
  EXPECT_EQ(error_of(linker).cause(),
            "libformic.so.13 was not found (no such file), version 13.0.0 or newer was expected");
}

TEST(LibraryLoader, SaysWhichFunctionIsMissing) {
  FakeLinker linker;
  linker.functions.erase("formicOther");
  EXPECT_EQ(error_of(linker).cause(),
            "libformic.so.13 without formicOther was found, version 13.0.0 or newer was expected");
}

TEST(LibraryLoader, SaysThatTheVersionIsTooOld) {
  FakeLinker linker;
  linker.functions["formicVersion"] = +[]() -> std::int64_t { return 129910; };
  EXPECT_EQ(error_of(linker).cause(),
            "libformic.so.13 of version 12.99.10 was found, version 13.0.0 or newer was expected");
}

}  // namespace
}  // namespace fourmi::cuda::library
