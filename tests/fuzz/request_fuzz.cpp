// Bodies of requests that lie: refused with status 400, or a request within its limits.
#include <string>

#include "framework/serve/api_request.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fourmi;
  const std::string body(reinterpret_cast<const char*>(data), size);
  for (bool chat : {false, true}) {
    try {
      const ApiRequest r = parse_api_request(body, chat);
      fuzz::require(r.max_tokens >= 0 && r.sampling.temperature >= 0, "a number below its least");
      fuzz::require(r.sampling.top_p >= 0 && r.sampling.top_p <= 1 && r.num_likeliest <= 20, "a number above its most");
      fuzz::require(chat ? !r.messages.empty() && r.prompts.empty() : !r.prompts.empty(), "nothing to answer");
      for (const Prompt& p : r.prompts)
        for (std::int32_t t : p.tokens) fuzz::require(t >= 0 && !p.is_text, "a token id below 0");
      for (const std::string& stop : r.stops) fuzz::require(!stop.empty(), "an empty stop text");
    } catch (const ApiError& e) {
      fuzz::require(e.status == 400, "another status");
    }
  }
  return 0;
}
