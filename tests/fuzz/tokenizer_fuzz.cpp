// A tokenizer.json that lies: refused with a place, or one that encodes any bytes to ids of its own and decodes them
// back.
#include <algorithm>
#include <set>
#include <string>

#include "framework/tokenizer/bpe.h"
#include "framework/tokenizer/stream_decoder.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fourmi;
  const std::string json(reinterpret_cast<const char*>(data), size);
  // What an accepted tokenizer reads: words, marks that compose, added tokens, bytes that are no UTF-8, and its own
  // end.
  const std::string words = "It's  the\n\n\t3rd 12345 caf\u00e9 e\u0301 \u6f22\u5b57\xff\xc3( \u00a0" +
                            json.substr(json.size() - std::min<std::size_t>(json.size(), 200));
  fuzz::accepted(
      [&] {
        const BpeTokenizer tokenizer(read_tokenizer_json(json, "fuzzed.json"), "", "end_of_document");
        const TokenizerDefinition& definition = tokenizer.definition();
        const auto encoded = [&](const std::string& text) {
          std::vector<std::int32_t> ids = tokenizer.encode(text);
          fuzz::require(std::all_of(ids.begin(), ids.end(),
                                    [&](std::int32_t id) { return id >= 0 && id < tokenizer.vocab_size(); }),
                        "an id that is none of the vocabulary's");
          return ids;
        };
        encoded("<|endoftext|>" + words + "</s> ");
        const std::vector<std::int32_t> ids = encoded(words);
        const bool adds =
            std::any_of(definition.pre_tokenizer.begin(), definition.pre_tokenizer.end(),
                        [](const PreTokenizerStep& step) { return step.kind != PreTokenizerStep::Kind::split; });
        const bool takes = std::any_of(definition.added_tokens.begin(), definition.added_tokens.end(),
                                       [](const AddedToken& token) { return token.lstrip || token.rstrip; });
        std::string streamed;
        StreamDecoder decoder(tokenizer);
        for (const std::int32_t id : ids) streamed += decoder.push(id);
        fuzz::require(streamed + decoder.finish() == tokenizer.decode(ids), "a stream that decodes otherwise");
        const std::set<std::int32_t> of_bytes(definition.bytes.begin(), definition.bytes.end());
        if (of_bytes.size() < 256) return;  // some are the unknown token
        if (!definition.normalizer.empty() || definition.alphabet == Alphabet::characters || adds || takes) return;
        if (std::find(ids.begin(), ids.end(), tokenizer.end_of_document()) != ids.end())
          return;  // it decodes to nothing
        fuzz::require(tokenizer.decode(ids) == words, "text that does not come back");
      },
      {ExitStatus::input, ExitStatus::usage});
  return 0;
}
