// The parts of a tokenizer.json that are chains of steps: normalizer, pre-tokenizer, decoder.
#pragma once

#include "framework/tokenizer/definition.h"
#include "framework/tokenizer/json_at.h"

namespace fourmi {

/// Puts the steps into `d`. Each throws Error(input) at the key of what is not supported.
void read_normalizer(const tokenizer_json_at::At& at, TokenizerDefinition& d);
/// Whether they end with ByteLevel: then words are bytes.
bool read_pre_tokenizer(const tokenizer_json_at::At& at, TokenizerDefinition& d);
/// Once the vocabulary is read: it changes what tokens decode to.
void read_decoder(const tokenizer_json_at::At& at, TokenizerDefinition& d);

}  // namespace fourmi
