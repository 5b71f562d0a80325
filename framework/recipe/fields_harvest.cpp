// The keys of distill that name a teacher, and those that ask one behind an endpoint for texts.
#include "framework/recipe/access.h"

namespace fourmi::recipe {
namespace {

template <class Given>
void add_section(std::vector<Field>& table, const char* path, const char* meaning, Given is_given) {
  Field field{.path = path, .type = Type::section, .meaning = meaning};
  field.get = [is_given](const Recipe& r, std::size_t) { return is_given(r.distill) ? Value(true) : Value{}; };
  table.push_back(std::move(field));
}

void add_teacher(std::vector<Field>& table) {
  const auto text = [&](const char* key, const char* meaning, auto member) {
    table.push_back(bind(
        {.path = std::string("distill.teacher.") + key, .type = Type::text, .meaning = meaning, .default_text = "none"},
        member));
  };
  add_section(table, "distill.teacher", "Whom the student learns from.",
              [](const DistillSection& d) { return d.teacher != TeacherSection{}; });
  text("name", "The teacher's name in provenance, model cards and the ledger.", FOURMI_AT(distill.teacher.name));
  text("endpoint",
       "Where an OpenAI-compatible server answers, with its version: https://HOST/v1; /chat/completions is "
       "added. Without user, key or query.",
       FOURMI_AT(distill.teacher.endpoint));
  text("model", "The model's name in requests to the endpoint.", FOURMI_AT(distill.teacher.model));
  text("api_key_file",
       "A file whose first line is the endpoint's key; `~/` is the user's home. The key itself is never written.",
       FOURMI_AT(distill.teacher.api_key_file));
  text("ca_file",
       "A file of certificates (PEM); the endpoint's must be signed by one of them. Without it by one of the system's.",
       FOURMI_AT(distill.teacher.ca_file));
  text("license",
       "The terms of the teacher's texts: an SPDX licence expression, or LicenseRef-NAME for terms that SPDX does not "
       "list.",
       FOURMI_AT(distill.teacher.license));
  add_section(table, "distill.teacher.terms", "The terms of use under which the teacher answers, as you read them.",
              [](const DistillSection& d) { return d.teacher.terms != TeacherTerms{}; });
  text("terms.file", "A saved copy of the terms; its SHA-256 goes into the harvest's log.",
       FOURMI_AT(distill.teacher.terms.file));
  text("terms.url", "Where the terms were found.", FOURMI_AT(distill.teacher.terms.url));
  const auto words = [&](const char* key, const char* meaning, auto member) {
    table.push_back(bind({.path = std::string("distill.teacher.terms.") + key,
                          .type = Type::words,
                          .meaning = meaning,
                          .default_text = "[]"},
                         member));
  };
  words("allows", "What the terms allow, in your words; where this is given without `distill`, a harvest is refused.",
        FOURMI_AT(distill.teacher.terms.allows));
  words("obligations",
        "What the terms ask of what is made from what the teacher said. `name-prefix:NAME` and `notice:TEXT` bind "
        "every export (its folder's name, its model card); other words are recorded, and written into the card.",
        FOURMI_AT(distill.teacher.terms.obligations));
}

void add_prompts(std::vector<Field>& table) {
  table.push_back({.path = "distill.harvest.prompts",
                   .type = Type::list,
                   .meaning = "JSON lines to take prompts from; a prompt whose text came before is asked once."});
  const auto part = [&](const char* key, const char* meaning, std::string DataSource::*member, Families required,
                        const char* absent) {
    Field row{.path = std::string("distill.harvest.prompts[].") + key,
              .type = Type::text,
              .meaning = meaning,
              .required = required,
              .default_text = absent};
    table.push_back(bind(std::move(row), [member](Recipe& r, std::size_t i) -> std::string& {
      return r.distill.harvest.prompts.at(i).*member;
    }));
  };
  part("name", "Names the source in provenance and overrides; each once.", &DataSource::name, kAll, "");
  part("path", "A file, a folder or a glob of JSON lines; gzip and zstd are decompressed.", &DataSource::path, kAll,
       "");
  part("column", "The key of a line that holds the prompt's text.", &DataSource::field, 0, "text");
  part("reference", "The key of a line that holds what the verifier holds an answer against.", &DataSource::reference,
       0, "none");
  part("license", "The terms of the prompts: an SPDX licence expression, or LicenseRef-NAME.", &DataSource::license, 0,
       "none");
}

/// Rows under distill.harvest with what they have in common said once.
class Rows {
 public:
  explicit Rows(std::vector<Field>& table) : table_(table) {}
  template <class Member>
  void operator()(Field field, Member member) {
    field.path = "distill.harvest." + field.path;
    table_.push_back(bind(std::move(field), member));
  }

 private:
  std::vector<Field>& table_;
};

void add_asking(std::vector<Field>& table) {
  Rows row(table);
  row({.path = "output",
       .type = Type::text,
       .meaning = "A folder of the harvest's own: messages.jsonl, and below .harvest/ the log of what was asked and "
                  "answered. The same folder goes on with the same harvest.",
       .default_text = "none"},
      FOURMI_AT(distill.harvest.output));
  row({.path = "samples",
       .type = Type::whole,
       .meaning = "Answers asked for a prompt; with `verify.keep` one after the other, until so many were right.",
       .unit = "answers",
       .least = 1,
       .most = 1024},
      FOURMI_AT(distill.harvest.samples));
  add_section(table, "distill.harvest.sampling", "How the teacher draws its answers; what is absent is the server's.",
              [](const DistillSection& d) { return d.harvest.temperature || d.harvest.top_p || d.harvest.max_tokens; });
  row({.path = "sampling.temperature",
       .type = Type::number,
       .meaning = "0: the likeliest token always.",
       .nullable = true,
       .least = 0,
       .most = 10,
       .default_text = "the server's"},
      FOURMI_AT(distill.harvest.temperature));
  row({.path = "sampling.top_p",
       .type = Type::number,
       .meaning = "Drawn among the likeliest tokens that have this share together.",
       .unit = "share",
       .nullable = true,
       .least = 0,
       .most = 1,
       .above_least = true,
       .default_text = "the server's"},
      FOURMI_AT(distill.harvest.top_p));
  row({.path = "sampling.max_tokens",
       .type = Type::whole,
       .meaning = "The longest answer, reasoning included; a budget reserves this for each request.",
       .unit = "tokens",
       .nullable = true,
       .least = 1,
       .most = 1e8,
       .default_text = "the server's; required with `budget.cost`"},
      FOURMI_AT(distill.harvest.max_tokens));
  row({.path = "concurrency",
       .type = Type::whole,
       .meaning = "Requests under way at once.",
       .unit = "requests",
       .least = 1,
       .most = 1024},
      FOURMI_AT(distill.harvest.concurrency));
  row({.path = "timeout",
       .type = Type::duration,
       .meaning = "For one request, from its first byte to the answer's last.",
       .least = 0,
       .above_least = true},
      FOURMI_AT(distill.harvest.timeout_seconds));
  row({.path = "retries",
       .type = Type::whole,
       .meaning = "Times that a request is sent again after status 429 or 5xx, a time-out, a lost connection or an "
                  "answer that cannot be read; after that the harvest ends, and the same command goes on with it.",
       .least = 0,
       .most = 1000},
      FOURMI_AT(distill.harvest.retries));
  row({.path = "keep_unfinished",
       .type = Type::boolean,
       .meaning = "Whether answers that `max_tokens` cut off are kept."},
      FOURMI_AT(distill.harvest.keep_unfinished));
}

void add_verify_and_budget(std::vector<Field>& table) {
  Rows row(table);
  add_section(table, "distill.harvest.verify", "A program that says which answers are right.",
              [](const DistillSection& d) { return !d.harvest.verify_command.empty() || d.harvest.verify_keep; });
  row({.path = "verify.command",
       .type = Type::words,
       .meaning =
           "The program and its arguments. It gets one JSON object on standard input: prompt, reasoning, answer, "
           "reference; exit status 0 keeps the answer.",
       .default_text = "[]: every answer is kept"},
      FOURMI_AT(distill.harvest.verify_command));
  row({.path = "verify.timeout",
       .type = Type::duration,
       .meaning = "After this the program and all that it started are killed, and the answer is not kept.",
       .least = 0,
       .above_least = true},
      FOURMI_AT(distill.harvest.verify_timeout_seconds));
  row({.path = "verify.keep",
       .type = Type::whole,
       .meaning = "The most right answers that are kept of a prompt; no more are asked for once they are there.",
       .unit = "answers",
       .nullable = true,
       .least = 1,
       .most = 1024,
       .default_text = "none: all that are right"},
      FOURMI_AT(distill.harvest.verify_keep));
  add_section(table, "distill.harvest.budget",
              "What all launches of the harvest together may cost; then exit status 8.", [](const DistillSection& d) {
                const HarvestSection& h = d.harvest;
                return h.cost || h.price_input || h.price_output || !h.currency.empty();
              });
  row({.path = "budget.cost",
       .type = Type::number,
       .meaning = "What is spent and reserved together never exceeds this.",
       .unit = "`currency`",
       .nullable = true,
       .least = 0,
       .most = 1e6,
       .above_least = true},
      FOURMI_AT(distill.harvest.cost));
  row({.path = "budget.currency",
       .type = Type::text,
       .meaning = "Of cost and prices: three capital letters, such as EUR (ISO 4217).",
       .default_text = "none"},
      FOURMI_AT(distill.harvest.currency));
  add_section(table, "distill.harvest.budget.price_per_million_tokens", "What the endpoint charges.",
              [](const DistillSection& d) { return d.harvest.price_input || d.harvest.price_output; });
  row({.path = "budget.price_per_million_tokens.input",
       .type = Type::number,
       .meaning = "Of a million tokens of prompts; kept to a millionth of `currency`.",
       .unit = "`currency`",
       .nullable = true,
       .least = 0,
       .most = 1e6},
      FOURMI_AT(distill.harvest.price_input));
  row({.path = "budget.price_per_million_tokens.output",
       .type = Type::number,
       .meaning = "Of a million tokens of answers, reasoning included.",
       .unit = "`currency`",
       .nullable = true,
       .least = 0,
       .most = 1e6},
      FOURMI_AT(distill.harvest.price_output));
}

}  // namespace

void add_harvest_fields(std::vector<Field>& table) {
  add_teacher(table);
  add_teacher_layout_fields(table);
  add_section(table, "distill.harvest", "Texts to ask the teacher's endpoint for.",
              [](const DistillSection& d) { return d.harvest != HarvestSection{}; });
  add_prompts(table);
  add_asking(table);
  add_verify_and_budget(table);
  table.push_back(
      bind({.path = "distill.allow_incomplete",
            .type = Type::boolean,
            .meaning = "Whether `train` takes what a harvest has left that has not come to its end; it says so, "
                       "and without this it refuses."},
           FOURMI_AT(distill.allow_incomplete)));
}

}  // namespace fourmi::recipe
