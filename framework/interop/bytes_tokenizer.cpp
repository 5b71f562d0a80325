#include "framework/interop/bytes_tokenizer.h"

#include <nlohmann/json.hpp>

#include "framework/tokenizer/byte_level.h"
#include "framework/tokenizer/bytes.h"

namespace fourmi::interop {

std::string bytes_tokenizer_json() {
  using Json = nlohmann::ordered_json;
  const auto byte_level = [](bool regex) {
    return Json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", regex}};
  };
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    const auto c = static_cast<char>(byte);
    vocab[byte_level::written({&c, 1})] = byte;
  }
  Json root;
  root["version"] = "1.0";
  root["truncation"] = nullptr;
  root["padding"] = nullptr;
  root["added_tokens"] = Json::array({{{"id", ByteTokenizer().end_of_document()},
                                       {"content", bytes_end_token},
                                       {"single_word", false},
                                       {"lstrip", false},
                                       {"rstrip", false},
                                       {"normalized", false},
                                       {"special", true}}});
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = byte_level(false);
  root["post_processor"] = nullptr;
  root["decoder"] = byte_level(true);
  root["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", false},
                   {"vocab", vocab},
                   {"merges", Json::array()}};
  return root.dump(1) + "\n";
}

}  // namespace fourmi::interop
