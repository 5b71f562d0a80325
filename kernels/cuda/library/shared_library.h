// Libraries that are opened while the program runs: a program that is linked with them does not start where they are
// missing, and most runs do without them. Pure but for the linker, which tests replace.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/runtime/error.h"

namespace fourmi::cuda::library {

/// Who finds libraries: system_linker.h's asks the machine's.
class Linker {
 public:
  virtual ~Linker() = default;
  virtual void* open(const char* soname) const = 0;                ///< null: not found
  virtual void* find(void* opened, const char* symbol) const = 0;  ///< null: not found
  virtual std::string trouble() const = 0;                         ///< why the last one was not found
};

struct Symbol {
  const char* name;
  void** function;
};

/// What is looked for. Versions are 10000 major + 100 minor + patch.
struct Wanted {
  const char *name, *soname, *remedy;
  std::int64_t least_version;
};

inline std::string version_text(std::int64_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

/// A library as the table of those of its functions that are used. Table has
///   static constexpr Wanted wanted;   std::vector<Symbol> symbols();   std::int64_t version() const;
/// What was opened stays open until the program ends: its threads and its memory may outlive who asked for it.
template <class Table>
class Library {
 public:
  /// Looks, and does not throw where something is missing.
  explicit Library(const Linker& linker) {
    if (const std::string found = look(linker); !found.empty())
      error_.emplace(
          ExitStatus::environment, Table::wanted.name,
          fmt::format("{}, version {} or newer was expected", found, version_text(Table::wanted.least_version)),
          Table::wanted.remedy);
  }

  /// Null where it cannot be used.
  const Table* get() const { return error_ ? nullptr : &table_; }
  /// Throws Error(environment) where it cannot be used.
  const Table& need() const {
    if (error_) throw Error(*error_);
    return table_;
  }
  /// One line for people: its version, or what is missing.
  std::string text() const {
    return error_ ? fmt::format("{}: {}", Table::wanted.name, error_->cause())
                  : fmt::format("{} {}", Table::wanted.name, version_text(version_));
  }

 private:
  /// What is wrong with what was found; empty: nothing.
  std::string look(const Linker& linker) {
    void* const opened = linker.open(Table::wanted.soname);
    if (!opened) return fmt::format("{} was not found ({})", Table::wanted.soname, linker.trouble());
    for (const Symbol& s : table_.symbols()) {
      *s.function = linker.find(opened, s.name);
      if (!*s.function) return fmt::format("{} without {} was found", Table::wanted.soname, s.name);
    }
    version_ = table_.version();
    if (version_ >= Table::wanted.least_version) return {};
    return fmt::format("{} of version {} was found", Table::wanted.soname, version_text(version_));
  }
  Table table_;
  std::int64_t version_ = 0;
  std::optional<Error> error_;
};

}  // namespace fourmi::cuda::library
