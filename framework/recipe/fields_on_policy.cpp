// The keys of distill.on_policy: texts that the student writes itself and learns on.
#include "framework/recipe/access.h"

namespace fourmi::recipe {

void add_on_policy_fields(std::vector<Field>& table) {
  table.push_back({.path = "distill.on_policy",
                   .type = Type::section,
                   .meaning = "Of mode on-policy: which samples the student writes itself, and how."});
  table.back().get = [](const Recipe& r, std::size_t) {
    return r.distill.on_policy != OnPolicySection{} ? Value(true) : Value{};
  };
  table.push_back(bind({.path = "distill.on_policy.rate",
                        .type = Type::number,
                        .meaning = "The probability with which a sample's text is the student's own behind its prompt; "
                                   "all others are the data's.",
                        .unit = "share",
                        .least = 0,
                        .most = 1},
                       FOURMI_AT(distill.on_policy.rate)));
  table.push_back(bind({.path = "distill.on_policy.temperature",
                        .type = Type::number,
                        .meaning = "At which the student writes; 0: always its likeliest token.",
                        .least = 0,
                        .most = 100},
                       FOURMI_AT(distill.on_policy.temperature)));
  table.push_back(bind({.path = "distill.on_policy.top_p",
                        .type = Type::number,
                        .meaning = "It writes only tokens of the smallest set that holds so much probability.",
                        .unit = "share",
                        .least = 0,
                        .most = 1,
                        .above_least = true},
                       FOURMI_AT(distill.on_policy.top_p)));
  table.push_back(
      bind({.path = "distill.on_policy.prompt_tokens",
            .type = Type::whole,
            .meaning = "The prompt of a text: its first tokens. That of a conversation ends where its first "
                       "learned token begins.",
            .unit = "tokens",
            .nullable = true,
            .least = 1,
            .most = 1 << 30,
            .default_text = "half of `data.sequence_length`"},
           FOURMI_AT(distill.on_policy.prompt_tokens)));
  table.push_back(bind({.path = "distill.on_policy.max_new_tokens",
                        .type = Type::whole,
                        .meaning = "So many tokens are written behind a prompt at most.",
                        .unit = "tokens",
                        .nullable = true,
                        .least = 1,
                        .most = 1 << 30,
                        .default_text = "to the end of the sequence"},
                       FOURMI_AT(distill.on_policy.max_new_tokens)));
  table.push_back(bind({.path = "distill.on_policy.texts",
                        .type = Type::whole,
                        .meaning = "Texts that a rank writes at once: memory for speed, no bit of them changes.",
                        .unit = "texts",
                        .least = 1,
                        .most = 4096},
                       FOURMI_AT(distill.on_policy.texts)));
}

}  // namespace fourmi::recipe
