// fourmi eval MODEL [--data FILE]: loss, perplexity and bits per byte on a text, or on what the model's recipe held
// out. Also under mpirun.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "framework/checkpoint/agree.h"
#include "framework/train/inference.h"
#include "launch/commands.h"
#include "parallel/world.h"

namespace fourmi {

namespace {

struct Arguments {
  std::string model, data;
  bool json = false, zero_routed = false;
};

std::string as_json(const Arguments& a, const InferenceModel& inference, const EvaluationResult& e) {
  nlohmann::ordered_json j;
  j["loss"] = e.loss;
  j["perplexity"] = e.perplexity();
  j["tokens"] = e.tokens;
  if (e.bits_per_byte > 0) j["bits_per_byte"] = e.bits_per_byte;
  if (inference.recipe().model.num_nextn_predict_layers > 0) j["loss_mtp"] = e.loss_mtp;
  j["zero_routed_experts"] = a.zero_routed;
  j["checkpoint"] = inference.checkpoint().string();
  j["step"] = inference.step();
  return j.dump(2);
}

void evaluate_on_ranks(const Arguments& a, World& world) {
  Group& group = world.group();
  ThreadPool pool(1);
  const Stream stream(pool);
  InferenceModel inference(group, a.model, stream);
  if (world.rank() == 0)
    for (const std::string& m : inference.messages()) std::cerr << "fourmi: warning: " << m << "\n";
  const Recipe& r = inference.recipe();
  DataSection data = r.data;
  std::vector<LoadedSource> sources;
  if (!a.data.empty()) {
    DataSource file;
    file.name = "data";
    file.path = a.data;
    file.format = format_of_name(a.data);
    data.validation = {file};
    data.holdout = 0;
  }
  std::optional<Validation> validation;
  agreed(group, [&] {
    if (a.data.empty()) sources = load_sources(data.train, "data.train");
    validation.emplace(data, sources, r.run.seed, r.model.vocab_size);
  });
  inference.model().set_zero_routed(a.zero_routed);
  // No larger batches than a rank has windows: what fills up a batch costs as much as text.
  const std::int64_t share = (validation->num_windows() + group.size() - 1) / group.size();
  const EvaluationResult e = inference.evaluate_on(*validation, group, stream, std::clamp<std::int64_t>(share, 1, 8));
  if (world.rank() != 0) return;
  if (a.json) {
    std::cout << as_json(a, inference, e) << "\n";
    return;
  }
  std::cout << fmt::format("{} (step {}){}\n", inference.checkpoint().string(), inference.step(),
                           a.zero_routed ? ", routed experts zeroed" : "")
            << fmt::format("loss {:.4f}  perplexity {:.3f}  {} tokens", e.loss, e.perplexity(), e.tokens)
            << (e.bits_per_byte > 0 ? fmt::format("  {:.4f} bits/byte", e.bits_per_byte) : "") << "\n";
}

void evaluate_model(const Arguments& a) {
  World world;
  try {
    evaluate_on_ranks(a, world);
  } catch (const Error& error) {
    // All ranks agree on what fails; rank 0 says it. The others leave it the time: a launcher kills all when one ends
    // with an error.
    if (world.rank() == 0) throw;
    std::this_thread::sleep_for(std::chrono::seconds(2));
    World::end_process(static_cast<int>(error.status()));
  }
}

}  // namespace

void add_eval(CLI::App& app, ExitStatus& status) {
  auto a = std::make_shared<Arguments>();
  CLI::App* c = app.add_subcommand("eval", "loss of a trained model on held-out text or on a file");
  c->add_option("MODEL", a->model,
                "a run directory (its newest proven checkpoint), a checkpoint, a Hugging Face folder or a GGUF file")
      ->required();
  c->add_option("--data", a->data,
                "text, JSON lines (.jsonl) or token files (.bin); without it, what the model's recipe held out");
  c->add_flag("--zero-routed-experts", a->zero_routed,
              "count the chosen experts' outputs as zero: what do they contribute?");
  c->add_flag("--json", a->json, "one JSON object");
  c->callback([a, &status] {
    evaluate_model(*a);
    status = ExitStatus::ok;
  });
}

}  // namespace fourmi
