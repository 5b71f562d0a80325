#include "launch/speaker.h"

#include <fmt/format.h>

#include "framework/digest/file_digest.h"
#include "framework/run/companions.h"
#include "framework/run/start.h"
#include "framework/tokenizer/begin_of_text.h"
#include "framework/tokenizer/choose.h"

namespace fourmi {

namespace fs = std::filesystem;

Speaker make_speaker(const InferenceModel& model, const fs::path& chat_template) {
  const DataSection& data = model.recipe().data;
  Speaker s;
  s.tokenizer = make_tokenizer(data, model.recipe().model.vocab_size);
  s.begin_of_text = begin_of_text(data, *s.tokenizer);
  s.ends = {s.tokenizer->end_of_document()};
  fs::path folder = model.companions();
  std::error_code ignored;
  // A run may have begun from a model with other tokens: what that one's files say of tokens is of no use then.
  const fs::path theirs = folder / "tokenizer.json";
  const bool same_tokens = data.tokenizer_sha256.empty()
                               ? !fs::exists(theirs, ignored)
                               : fs::exists(theirs, ignored) && digest_file(theirs).sha256 == data.tokenizer_sha256;
  if (!folder.empty() && same_tokens)
    s.ends = read_end_tokens(folder, *s.tokenizer);
  else
    folder /= "no companions";
  if (!chat_template.empty())
    s.chat = read_chat_template(chat_template, folder);
  else
    s.chat = read_model_chat(folder);
  if (!s.chat) s.no_chat = fmt::format("{} has no chat template", model.checkpoint().string());
  return s;
}

}  // namespace fourmi
