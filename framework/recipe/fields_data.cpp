// The keys of data, its sources included.
#include "framework/recipe/access.h"

namespace fourmi::recipe {
namespace {

/// What is learned of conversations. Sources of other formats have no such keys, so the usual is not written out.
template <class At>
void add_turns(std::vector<Field>& table, const std::string& list, KeyClass key_class, const At& at) {
  Field loss_on =
      bind({.path = list + "[].loss_on",
            .type = Type::choice,
            .meaning = "Of conversations, what is learned: the assistant's turns (of pairs: the completion), "
                       "everything, or the assistant's last turn.",
            .key_class = key_class,
            .choices = {"assistant", "all", "last"},
            .default_text = "assistant",
            .foreign = {"train_on_inputs", "train_on_responses_only", "assistant_only_loss", "completion_only_loss",
                        "mask_prompt", "roles_to_train", "mask_history"}},
           at(&DataSource::loss_on));
  loss_on.get = [get = loss_on.get](const Recipe& r, std::size_t index) {
    const Value value = get(r, index);
    return value == Value(std::string("assistant")) ? Value() : value;
  };
  table.push_back(std::move(loss_on));
  table.push_back(bind({.path = list + "[].reasoning",
                        .type = Type::choice,
                        .meaning = "What becomes of reasoning that messages have (reasoning_content, thinking, "
                                   "reasoning): keep, drop, or last: kept in the turns after the last message of a "
                                   "user. Data that have reasoning need it.",
                        .key_class = key_class,
                        .choices = {"keep", "last", "drop"},
                        .default_text = "none: data with reasoning are refused",
                        .foreign = {"split_thinking", "enable_thinking", "keep_reasoning"}},
                       at(&DataSource::reasoning)));
}

/// What keys of a line are called. A source whose lines have the usual ones has no such section.
template <class Member>
void add_columns(std::vector<Field>& table, const std::string& list, KeyClass key_class, Member source) {
  const std::string path = list + "[].columns";
  Field section{.path = path,
                .type = Type::section,
                .meaning = "Of conversations, what the keys of a line are called where they have other names.",
                .key_class = key_class,
                .foreign = {"column_map", "column_mapping", "message_property_mappings", "tags"}};
  section.get = [source](const Recipe& r, std::size_t i) {
    return source(const_cast<Recipe&>(r), i).columns == ColumnNames{} ? Value{} : Value(true);
  };
  table.push_back(std::move(section));
  const auto name = [&](const char* key, std::string ColumnNames::*member, const char* absent, const char* meaning,
                        std::vector<std::string> foreign) {
    table.push_back(bind(
        {.path = path + "." + key,
         .type = Type::text,
         .meaning = meaning,
         .key_class = key_class,
         .default_text = absent,
         .foreign = std::move(foreign)},
        [ source, member ](Recipe & r, std::size_t i) -> auto& { return source(r, i).columns.*member; }));
  };
  name("prompt", &ColumnNames::prompt, "prompt", "Of prompt-completion: the key of what is asked.", {});
  name("completion", &ColumnNames::completion, "completion", "Of prompt-completion: the key of what is answered.", {});
  name("role", &ColumnNames::role, "role",
       "The key of a message's role; where it is given, `human` is the user and `gpt` the assistant.",
       {"role_tag", "message_field_role"});
  name("content", &ColumnNames::content, "content", "The key of a message's text.",
       {"content_tag", "message_field_content"});
  name("user", &ColumnNames::user, "none: a line has a list of messages",
       "Of messages whose lines are one exchange each, without a list: the key of the user's text.",
       {"field_instruction", "instruction"});
  name("input", &ColumnNames::input, "none",
       "Beside `user`: the key of a text that follows the user's in the next line, if there is one.",
       {"query", "field_input"});
  name("assistant", &ColumnNames::assistant, "none", "Beside `user`: the key of the assistant's text.",
       {"response", "field_output"});
  name("system", &ColumnNames::system, "none", "Beside `user`: the key of a system message, if a line has one.",
       {"field_system"});
}

template <class Member>
void add_source(std::vector<Field>& table, const std::string& list, KeyClass key_class, Member source, bool weighted) {
  const auto at = [source](auto member) {
    return [ source, member ](Recipe & r, std::size_t index) -> auto& {
      return source(r, index).*member;
    };
  };
  table.push_back(bind({.path = list + "[].name",
                        .type = Type::text,
                        .meaning = "Names the source in metrics and overrides; each once.",
                        .key_class = key_class,
                        .required = kAll},
                       at(&DataSource::name)));
  table.push_back(bind({.path = list + "[].path",
                        .type = Type::text,
                        .meaning = "A file, a folder or a glob; gzip and zstd are decompressed. Of bin: PREFIX of "
                                   "PREFIX.bin and PREFIX.idx, or a glob of .bin. Not for synthetic.",
                        .key_class = key_class,
                        .default_text = "required unless synthetic",
                        .foreign = {"data_path", "dataset_path", "train_data_path"}},
                       at(&DataSource::path)));
  table.push_back(bind({.path = list + "[].format",
                        .type = Type::text,
                        .meaning = "text: files as they are; jsonl: a JSON object a line; bin: token files with their "
                                   ".idx; messages: a conversation a JSON line; prompt-completion: a pair a JSON line; "
                                   "synthetic: made up, for benchmarks.",
                        .key_class = key_class,
                        .choices = {"text", "jsonl", "bin", "messages", "prompt-completion", "synthetic"}},
                       at(&DataSource::format)));
  Field field = bind({.path = list + "[].field",
                      .type = Type::text,
                      .meaning = "The key of a JSON line that holds the document's text, or the list of messages.",
                      .key_class = key_class,
                      .default_text = "text; messages for the format messages",
                      .foreign = {"text_field", "text_key", "json_keys", "text_column", "content_key", "messages",
                                  "field_messages", "conversation_column"}},
                     at(&DataSource::field));
  // Sources of other formats have none, so it is not written out where it is as always.
  field.get = [get = field.get](const Recipe& r, std::size_t index) {
    const Value value = get(r, index);
    return value == Value(std::string("text")) ? Value() : value;
  };
  table.push_back(std::move(field));
  add_turns(table, list, key_class, at);
  add_columns(table, list, key_class, source);
  if (weighted) {
    table.push_back(bind({.path = list + "[].weight",
                          .type = Type::number,
                          .meaning = "Share of the tokens, relative to the other sources' weights.",
                          .key_class = key_class,
                          .least = 0,
                          .most = 1e12,
                          .above_least = true},
                         at(&DataSource::weight)));
  }
  table.push_back(bind(
      {.path = list + "[].license",
       .type = Type::text,
       .meaning =
           "The terms of the data: an SPDX licence expression, or LicenseRef-NAME for terms that SPDX does not list.",
       .key_class = key_class,
       .default_text = "none"},
      at(&DataSource::license)));
  table.push_back(bind({.path = list + "[].source",
                        .type = Type::text,
                        .meaning = "Where the data come from, in words.",
                        .key_class = key_class,
                        .default_text = "none"},
                       at(&DataSource::source)));
  table.push_back(bind({.path = list + "[].sha256",
                        .type = Type::text,
                        .meaning = "SHA-256 that the file must have (several files: of the lines of their digests).",
                        .key_class = key_class,
                        .default_text = "none"},
                       at(&DataSource::sha256)));
}

}  // namespace

void add_data_fields(std::vector<Field>& table) {
  table.push_back({.path = "data", .type = Type::section, .meaning = "What is read, and in which portions."});
  table.push_back({.path = "data.train",
                   .type = Type::list,
                   .meaning = "The sources to train on.",
                   .required = kAll,
                   .foreign = {"train_data", "datasets", "dataset", "train_dataset", "data_blend"}});
  add_source(
      table, "data.train", KeyClass::asked, [](Recipe& r, std::size_t i) -> DataSource& { return r.data.train.at(i); },
      true);
  table.push_back({.path = "data.validation",
                   .type = Type::list,
                   .meaning = "The sources to evaluate on, or `{holdout: share}` of the training data.",
                   .key_class = KeyClass::fixed,
                   .default_text = "none: nothing is evaluated",
                   .foreign = {"valid_data", "eval_dataset", "validation_data", "val_data"}});
  add_source(
      table, "data.validation", KeyClass::fixed,
      [](Recipe& r, std::size_t i) -> DataSource& { return r.data.validation.at(i); }, false);
  table.push_back(bind({.path = "data.validation.holdout",
                        .type = Type::number,
                        .meaning = "This share of the training data is never trained on and is evaluated on.",
                        .unit = "share",
                        .key_class = KeyClass::fixed,
                        .least = 0,
                        .most = 0.5,
                        .above_least = true,
                        .default_text = "none",
                        .foreign = {"val_set_size", "validation_split", "split", "test_size"}},
                       FOURMI_AT(data.holdout)));
  table.push_back(
      bind({.path = "data.tokenizer",
            .type = Type::text,
            .meaning = "bytes: ids 0 to 255 are bytes, 256 ends a document; model: that of model.from, with "
                       "its begin_of_text and end_of_document; else a path: a BPE tokenizer.json, or the "
                       "folder that holds one.",
            .key_class = KeyClass::fixed,
            .foreign = {"tokenizer_path", "tokenizer_model", "tokenizer_type", "tokenizer_name_or_path"}},
           FOURMI_AT(data.tokenizer)));
  table.push_back(
      bind({.path = "data.end_of_document",
            .type = Type::text,
            .meaning = "The added token of the tokenizer that ends a document, as it is written.",
            .default_text = "the first of <|endoftext|>, <|end_of_text|>, <｜end▁of▁sentence｜>, [EOS], </s>, "
                            "<eos> that the tokenizer has",
            .foreign = {"eos_token", "eod_token", "append_eod"}},
           FOURMI_AT(data.end_of_document)));
  table.push_back(bind(
      {.path = "data.begin_of_text",
       .type = Type::text,
       .meaning = "What a document opens with, and a text that is to be gone on with: "
                  "end_of_document, or a token of the tokenizer as it is written. none: nothing "
                  "before a text that is to be gone on with, end_of_document in training.",
       .default_text = "end_of_document; of an imported model, and with `tokenizer: model`, what its tokenizer says",
       .foreign = {"add_bos_token", "bos_token"}},
      FOURMI_AT(data.begin_of_text)));
  table.push_back(bind({.path = "data.tokenizer_sha256",
                        .type = Type::text,
                        .meaning = "The SHA-256 that tokenizer.json must have; another file is refused.",
                        .key_class = KeyClass::fixed,
                        .default_text = "that of the file at the first launch"},
                       FOURMI_AT(data.tokenizer_sha256)));
  table.push_back(bind({.path = "data.sequence_length",
                        .type = Type::whole,
                        .meaning = "Input tokens of one sequence.",
                        .unit = "tokens",
                        .key_class = KeyClass::fixed,
                        .required = kAll,
                        .least = 1,
                        .most = 16777216,
                        .foreign = {"seq_length", "seq_len", "max_seq_length", "max_seq_len", "sequence_len",
                                    "block_size", "cutoff_len", "model_max_length", "max_sequence_length"}},
                       FOURMI_AT(data.sequence_length)));
  table.push_back(bind(
      {.path = "data.global_batch_size",
       .type = Type::stepped,
       .meaning = "Sequences of one step, over all ranks. A ramp's size holds from the first step that begins with "
                  "its tokens read.",
       .unit = "sequences",
       .required = kAll,
       .least = 1,
       .most = 1048576,
       .whole_values = true,
       .foreign = {"train_batch_size", "batch_size", "gradient_accumulation_steps", "global_train_batch_size"}},
      FOURMI_AT(data.global_batch_size.over_tokens)));
  table.push_back(bind({.path = "data.micro_batch_size",
                        .type = Type::whole,
                        .meaning = "Sequences that a rank computes at once; the rest of its share follows.",
                        .unit = "sequences",
                        .key_class = KeyClass::free,
                        .least = 1,
                        .most = 1048576,
                        .foreign = {"per_device_train_batch_size", "per_device_batch_size", "local_batch_size",
                                    "train_micro_batch_size_per_gpu", "device_train_microbatch_size"}},
                       FOURMI_AT(data.micro_batch_size)));
  table.push_back(
      bind({.path = "data.packing",
            .type = Type::boolean,
            .meaning = "true: sequences are cut from documents in a row; false: each document is a sequence "
                       "of its own, padded.",
            .foreign = {"pack_samples", "pack_sequences", "packed_sequence", "sample_pack"}},
           FOURMI_AT(data.packing)));
  table.push_back(
      bind({.path = "data.overlong",
            .type = Type::choice,
            .meaning = "Of conversations, and without packing: what becomes of documents that are longer than a "
                       "sequence.",
            .choices = {"error", "drop", "truncate"},
            .foreign = {"truncation", "max_length_strategy", "overlength"}},
           FOURMI_AT(data.overlong)));
  table.push_back(bind({.path = "data.chat_template",
                        .type = Type::text,
                        .meaning = "How conversations are written as a text: model (the template that came with "
                                   "model.from, or lies beside the tokenizer), or a Jinja file.",
                        .foreign = {"chat_template_path", "prompt_template", "template", "conversation_template"}},
                       FOURMI_AT(data.chat_template)));
  table.push_back(
      bind({.path = "data.chat_date",
            .type = Type::text,
            .meaning = "The date, YYYY-MM-DD, that a chat template is told as today's, so that a text is the "
                       "same on every day.",
            .default_text = "none: a template that asks for it is refused",
            .foreign = {"date_string"}},
           FOURMI_AT(data.chat_date)));
  table.push_back(
      bind({.path = "data.cross_document_attention",
            .type = Type::boolean,
            .meaning = "Whether tokens see the documents before theirs in the same sequence.",
            .foreign = {"reset_attention_mask", "reset_position_ids", "sample_packing", "document_masking"}},
           FOURMI_AT(data.cross_document_attention)));
  table.push_back(bind({.path = "data.repeat",
                        .type = Type::whole,
                        .meaning = "Passes that a run may make over any of its sources; one that needs more is refused "
                                   "before its first step.",
                        .unit = "epochs",
                        .nullable = true,
                        .least = 1,
                        .most = 1e9,
                        .default_text = "none: as many as the run takes",
                        .foreign = {"max_repeats", "epochs_per_source", "max_epochs_per_source"}},
                       FOURMI_AT(data.repeat)));
}

}  // namespace fourmi::recipe
