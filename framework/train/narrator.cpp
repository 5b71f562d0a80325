#include "framework/train/narrator.h"

#include <iostream>

namespace fourmi {

void Narrator::print(const std::string& line) {
  if (!first_) return;
  bar_.clear();
  std::cerr << line << std::endl;
  bar_.redraw();
}

void Narrator::say(const std::string& text) {
  print(text);
  note(text);
}

void Narrator::warn(const std::string& text) {
  print("fourmi: warning: " + text);
  if (log_) log_->warn(text);
}

void Narrator::note(const std::string& text) {
  if (log_) log_->info(text);
}

}  // namespace fourmi
