#include "framework/train/narrator.h"

#include <iostream>

namespace fourmi {

void Narrator::say(const std::string& text) {
  if (first_) std::cerr << text << std::endl;
  note(text);
}

void Narrator::warn(const std::string& text) {
  if (first_) std::cerr << "fourmi: warning: " << text << std::endl;
  if (log_) log_->warn(text);
}

void Narrator::note(const std::string& text) {
  if (log_) log_->info(text);
}

}  // namespace fourmi
