#include "framework/train/on_policy/on_policy.h"

#include <algorithm>

#include "framework/tokenizer/choose.h"
#include "framework/tokenizer/special_token.h"
#include "framework/train/run_context.h"
#include "kernels/numerics/random.h"

namespace fourmi {

OnPolicy::OnPolicy(const Recipe& recipe, const StageMap& stages, const Mesh& mesh, Arena& arena)
    : recipe_(&recipe),
      writer_(recipe, arena),
      weights_(recipe, stages, mesh, writer_.store(), arena),
      texts_(recipe.data.global_batch_size.most(), recipe.data.sequence_length, mesh.ranks(), arena) {
  if (!arena.measuring()) tokenizer_ = make_tokenizer(recipe.data, recipe.model.vocab_size);
}

bool OnPolicy::knows(const StepPlan& plan) const {
  return known_ && plan.samples == step_.samples && plan.next.samples == step_.next.samples;
}

/// The step's texts, and of those for this rank the drafts.
void OnPolicy::choose(const Loader& loader, const StepPlan& plan, int rank) {
  const std::uint64_t seed = recipe_->run.seed;
  const RandomKey chosen = random_key(seed, "on-policy", "chosen"), text_seed = random_key(seed, "on-policy", "text");
  const auto is_special = [&](std::int32_t token) { return is_special_token(*tokenizer_, token); };
  const OnPolicySection& o = recipe_->distill.on_policy;
  // Numbers in the run; padding, which has none, comes last.
  const auto real =
      std::count_if(plan.samples.begin(), plan.samples.end(), [](const Sample& s) { return s.source >= 0; });
  const std::int64_t first = plan.next.samples - real;
  texts_.begin(loader.shape()), drafts_.clear();
  for (std::int64_t i = 0; i < real; ++i) {
    const auto number = static_cast<std::uint64_t>(first + i);
    if (random_uniform(chosen, number) >= o.rate) continue;
    loader.batch(plan, i, 1, sample_);
    const OwnPrompt prompt = prompt_of(sample_, loader.shape(),
                                       loader.learns_a_part(plan.samples[static_cast<std::size_t>(i)]), o, is_special);
    if (prompt.most == 0) continue;
    if (texts_.is_for(rank, texts_.texts().size()))
      drafts_.push_back({.tokens = {sample_.tokens.begin(), sample_.tokens.begin() + prompt.tokens},
                         .written = {},
                         .most = prompt.most,
                         .end = prompt.end,
                         .seed = random_bits(text_seed, number)});
    texts_.add({i, prompt});
  }
}

const StepPlan& OnPolicy::write(const Loader& loader, const StepPlan& plan, const Optimizer& optimizer,
                                const ParameterStore& mine, Group& world, const Stream& stream) {
  const OwningSpan span(stream.timeline(), Work::other, "student_texts");
  const Clock::time_point begun = Clock::now();
  step_ = plan;
  choose(loader, plan, world.rank());
  if (!texts_.texts().empty()) {
    weights_.fill(optimizer, mine, world);
    writer_.write(stream, loader.shape(), tokenizer_->vocab_size(), drafts_);
    texts_.share(world, drafts_);
    for (const WrittenTexts::Text& text : texts_.texts()) {
      step_.num_targets -= text.prompt.targets;
      step_.num_mtp_targets -= text.prompt.mtp_targets;
    }
    step_.num_rewritten = texts_.num_tokens();
    step_.num_targets += step_.num_rewritten;
    step_.rewritten = &texts_;
  }
  known_ = true;
  seconds_ = seconds_since(begun);
  return step_;
}

}  // namespace fourmi
