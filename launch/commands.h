// The commands of the program, one file each in commands/. A command adds its subcommand; its callback sets `status`,
// or throws fourmi::Error, which main() prints once and turns into the exit status.
#pragma once

#include "kernels/runtime/error.h"
#include "launch/command_line.h"

namespace fourmi {

void add_validate(CLI::App& app, ExitStatus& status);
void add_schema(CLI::App& app, ExitStatus& status);
void add_explain(CLI::App& app, ExitStatus& status);
void add_train(CLI::App& app, ExitStatus& status);
void add_generate(CLI::App& app, ExitStatus& status);
void add_serve(CLI::App& app, ExitStatus& status);
void add_eval(CLI::App& app, ExitStatus& status);
void add_checkpoint(CLI::App& app, ExitStatus& status);
void add_data(CLI::App& app, ExitStatus& status);
void add_bench(CLI::App& app, ExitStatus& status);
void add_ledger(CLI::App& app, ExitStatus& status);
void add_doctor(CLI::App& app, ExitStatus& status);
void add_gpu_check(CLI::App& app, ExitStatus& status);
void add_tokenize(CLI::App& app, ExitStatus& status);
void add_import(CLI::App& app, ExitStatus& status);
void add_export(CLI::App& app, ExitStatus& status);
void add_teacher(CLI::App& app, ExitStatus& status);

}  // namespace fourmi
