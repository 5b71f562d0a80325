#include <fmt/format.h>

#include "launch/gpu_check/figures.h"
#include "launch/gpu_check/table.h"

namespace fourmi::gpu_check {

/// What CUDA says, and beside it what the driver's own tool says of clocks, ECC and links.
Outcome check_facts(const Job& job, const Places& places) {
  Outcome outcome = run_measuring(job, places.program, "facts", 20);
  std::string name = "a GPU", memory, driver;
  for (const ordered_json& line : outcome.figures["figures"]) {
    if (line.value("name", "") == "GPU") name = line.value("value", "");
    if (line.value("name", "") == "memory") memory = line.value("value", "");
  }
  const std::string tool = find_tool("nvidia-smi");
  if (!tool.empty()) {
    const char* asked =
        "--query-gpu=index,name,driver_version,pstate,clocks.sm,clocks.max.sm,clocks.mem,ecc.mode.current,power.limit,"
        "temperature.gpu,mig.mode.current";
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{tool, asked, "--format=csv"}, {tool, "nvlink", "--status"}, {tool, "topo", "-m"}}) {
      const ChildEnd end = job.run(words, {.seconds = 8});
      outcome.figures["nvidia-smi"].push_back(
          {{"asked", words[1]}, {"end", describe(end)}, {"said", last_words(end, 4000)}});
    }
  }
  if (outcome.verdict == Verdict::passed)
    outcome.text = fmt::format("{}, {}{}", name, memory, tool.empty() ? "; no nvidia-smi" : "");
  return outcome;
}

}  // namespace fourmi::gpu_check
