#include "launch/command_line.h"

#include <CLI/CLI.hpp>
#include <cstdint>
#include <iostream>

#include "framework/recipe/field.h"
#include "kernels/runtime/error.h"

namespace fourmi::CLI {

namespace {

std::string first_line(std::string text) {
  return text.substr(0, text.find('\n'));
}

/// A wrong command line, in the words of every other error.
Error usage_error(const ::CLI::App& app, const ::CLI::ParseError& error, const std::vector<std::string>& words) {
  const ::CLI::App* command = &app;
  std::string path = app.get_name();
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    path += " " + command->get_name();
  }
  const std::string remedy = fmt::format("See {} --help", path);
  if (command != &app || words.empty()) {
    const std::string found = first_line(error.what());
    return Error(ExitStatus::usage, command == &app ? "command line" : path,
                 fmt::format("{}, expected a command line as its help shows", found), remedy);
  }
  std::vector<std::string> names;
  std::string list;
  for (const ::CLI::App* known : app.get_subcommands([](const ::CLI::App*) { return true; })) {
    names.push_back(known->get_name());
    list += (list.empty() ? "" : ", ") + names.back();
  }
  const std::string close = recipe::closest(words.front(), names);
  return Error(ExitStatus::usage, "command line",
               fmt::format("found {}, expected one of the commands {}", words.front(), list),
               close.empty() ? remedy : fmt::format("Did you mean {}? {}", close, remedy));
}

}  // namespace

Option* Option::required() {
  option_->required();
  return this;
}

Option* Option::check(const Check& what) {
  switch (what.kind) {
    case Check::positive:
      option_->check(::CLI::PositiveNumber);
      break;
    case Check::non_negative:
      option_->check(::CLI::NonNegativeNumber);
      break;
    case Check::whole_range:
      option_->check(::CLI::Range(static_cast<int>(what.low), static_cast<int>(what.high)));
      break;
    case Check::range:
      option_->check(::CLI::Range(what.low, what.high));
      break;
    case Check::member:
      option_->check(::CLI::IsMember(what.members));
      break;
  }
  return this;
}

Option* Option::capture_default_str() {
  option_->capture_default_str();
  return this;
}

Option* Option::excludes(Option* other) {
  option_->excludes(other->option_);
  return this;
}
Option* Option::needs(Option* other) {
  option_->needs(other->option_);
  return this;
}

Option* Option::delimiter(char letter) {
  option_->delimiter(letter);
  return this;
}

Option* Option::group(const std::string& name) {
  option_->group(name);
  return this;
}

App::App(const std::string& description, const std::string& name)
    : program_(std::make_shared<::CLI::App>(description, name)), app_(program_.get()) {}

App* App::add_subcommand(const std::string& name, const std::string& description) {
  commands_.push_back(App(app_->add_subcommand(name, description)));
  return &commands_.back();
}

template <class T>
Option* App::add_option(const std::string& name, T& value, const std::string& description) {
  return &options_.emplace_back(app_->add_option(name, value, description));
}
template Option* App::add_option(const std::string&, std::string&, const std::string&);
template Option* App::add_option(const std::string&, std::vector<std::string>&, const std::string&);
template Option* App::add_option(const std::string&, int&, const std::string&);
template Option* App::add_option(const std::string&, std::int64_t&, const std::string&);
template Option* App::add_option(const std::string&, std::uint64_t&, const std::string&);
template Option* App::add_option(const std::string&, double&, const std::string&);

Option* App::add_flag(const std::string& name, bool& value, const std::string& description) {
  return &options_.emplace_back(app_->add_flag(name, value, description));
}

void App::set_version_flag(const std::string& name, const std::string& version, const std::string& description) {
  app_->set_version_flag(name, version, description);
}

void App::callback(std::function<void()> work) {
  app_->callback(std::move(work));
}

void App::require_subcommand(int number) {
  app_->require_subcommand(number);
}

void App::parse(int argc, const char* const* argv) {
  try {
    app_->parse(argc, argv);
  } catch (const ::CLI::Success& success) {  // --help, --version
    app_->exit(success, std::cout, std::cerr);
  } catch (const ::CLI::ParseError& error) {
    throw usage_error(*app_, error, std::vector<std::string>(argv + 1, argv + argc));
  }
}

}  // namespace fourmi::CLI
