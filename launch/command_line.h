// The command line: the parts of CLI11 that commands use, under its names and with its meanings. CLI11 itself is behind
// them in command_line.cpp alone: a compiler takes seconds for each file that reads it.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace fourmi::CLI {

/// What a value must be.
struct Check {
  enum Kind { positive, non_negative, whole_range, range, member };
  Kind kind;
  double low = 0, high = 0;          ///< of a range, both included
  std::vector<std::string> members;  ///< all that a value may be
};
inline const Check PositiveNumber{Check::positive, 0, 0, {}};
inline const Check NonNegativeNumber{Check::non_negative, 0, 0, {}};
inline Check Range(int low, int high) {
  return {Check::whole_range, static_cast<double>(low), static_cast<double>(high), {}};
}
inline Check Range(double low, double high) {
  return {Check::range, low, high, {}};
}
inline Check IsMember(std::vector<std::string> members) {
  return {Check::member, 0, 0, std::move(members)};
}

class Option {
 public:
  explicit Option(::CLI::Option* option) : option_(option) {}
  Option* required();
  Option* check(const Check& what);
  Option* capture_default_str();  ///< the help shows the value that the variable has now
  Option* needs(Option* other);
  Option* excludes(Option* other);
  Option* delimiter(char letter);          ///< one word may bring several values
  Option* group(const std::string& name);  ///< empty: the help does not show it

 private:
  ::CLI::Option* option_;
};

/// The program, or one of its commands. The pointers that it gives are valid as long as the program's App.
class App {
 public:
  App(const std::string& description, const std::string& name);
  App* add_subcommand(const std::string& name, const std::string& description);
  /// `value` must outlive the parsing. T: a string, a list of strings, int, int64_t, uint64_t or double.
  template <class T>
  Option* add_option(const std::string& name, T& value, const std::string& description = {});
  Option* add_flag(const std::string& name, bool& value, const std::string& description = {});
  void set_version_flag(const std::string& name, const std::string& version, const std::string& description);
  /// What the command does, when its words have been read.
  void callback(std::function<void()> work);
  void require_subcommand(int number);
  /// Reads the words and calls the command, or prints the help or the version that was asked for. Throws Error(usage).
  void parse(int argc, const char* const* argv);

 private:
  explicit App(::CLI::App* app) : app_(app) {}

  std::shared_ptr<::CLI::App> program_;  ///< empty in a command's
  ::CLI::App* app_;
  std::list<App> commands_;
  std::list<Option> options_;
};

}  // namespace fourmi::CLI
