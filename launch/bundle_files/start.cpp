// What bin/fourmi, bin/mpirun and the other names in a bundle's bin/ are: starts libexec/<the same name> by the
// bundle's own loader, C library and libraries, wherever the bundle lies. Linked statically, so that it needs nothing
// of the machine, no shell either.
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace {

/// Where machines keep the driver's libcuda.so.1 and CUDA's own libraries, after what LD_LIBRARY_PATH names and before
/// the loader's cache. What the bundle brings is found before any of these.
constexpr const char* host_folders =
    "/usr/local/nvidia/lib64:/usr/local/nvidia/lib:/usr/lib/wsl/lib:/run/opengl-driver/lib:"
    "/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu:/usr/lib64:/lib64:"
    "/usr/local/cuda/targets/x86_64-linux/lib:/usr/local/cuda/lib64:/usr/local/cuda/compat";

int fail(const char* found, const std::string& expected) {
  fprintf(stderr, "fourmi: error: the bundle: %s, %s. Unpack the archive again, as a whole\n", found, expected.c_str());
  return 3;
}

bool in_path(const std::string& program) {
  const char* path = getenv("PATH");
  const std::string folders = std::string(path != nullptr ? path : "/usr/bin:/bin") + ":";
  for (size_t at = 0, end; (end = folders.find(':', at)) != std::string::npos; at = end + 1)
    if (access((folders.substr(at, end - at) + "/" + program).c_str(), X_OK) == 0) return true;
  return false;
}

/// One machine: root may, more ranks than cores yield, and shared memory is all that is needed. A value of the user's
/// stays.
void set_mpi_defaults() {
  constexpr const char* defaults[][2] = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                                         {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                                         {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
                                         {"OMPI_MCA_hwloc_base_binding_policy", "none"},
                                         {"OMPI_MCA_mpi_yield_when_idle", "1"},
                                         {"OMPI_MCA_pml", "ob1"},
                                         {"OMPI_MCA_btl_vader_single_copy_mechanism", "none"},
                                         {"OMPI_MCA_orte_execute_quiet", "1"}};
  for (const auto& [name, value] : defaults) setenv(name, value, 0);
  // It refuses to start without a way to other machines, asked for or not.
  if (!in_path("ssh") && !in_path("rsh")) setenv("OMPI_MCA_plm", "isolated", 0);
}

}  // namespace

int main(int argc, char** argv) {
  char self[4096];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
  if (length <= 0) return fail("/proc is not there", "this program's own place was expected in it");
  self[length] = '\0';
  const std::string root = dirname(dirname(self));
  const std::string name = basename(argv[0]);
  const std::string program = root + "/libexec/" + name, loader = root + "/lib/system/ld-linux-x86-64.so.2";
  if (access(program.c_str(), X_OK) != 0) return fail(program.c_str(), "a program of the bundle was expected there");
  if (access(loader.c_str(), X_OK) != 0) return fail(loader.c_str(), "the bundle's loader was expected there");

  // Open MPI and PMIx were built for other folders.
  setenv("OPAL_PREFIX", root.c_str(), 1);
  setenv("OPAL_LIBDIR", (root + "/lib").c_str(), 1);
  setenv("OPAL_PKGLIBDIR", (root + "/lib/openmpi").c_str(), 1);
  setenv("OPAL_PKGDATADIR", (root + "/share/openmpi").c_str(), 1);
  setenv("OPAL_SYSCONFDIR", (root + "/etc").c_str(), 1);
  setenv("PMIX_PREFIX", root.c_str(), 1);
  setenv("PMIX_PKGLIBDIR", (root + "/lib/pmix").c_str(), 1);
  setenv("PMIX_PKGDATADIR", (root + "/share/pmix").c_str(), 1);
  setenv("PMIX_SYSCONFDIR", (root + "/etc").c_str(), 1);
  if (name == "mpirun") set_mpi_defaults();

  std::string libraries = root + "/lib/system:" + root + "/lib:";
  if (const char* users = getenv("LD_LIBRARY_PATH"); users != nullptr && *users != '\0')
    libraries += users + std::string(":");
  libraries += host_folders;

  // The program knows itself by this name: /proc/self/exe is the loader.
  std::string own = root + "/bin/" + name;
  std::string words[] = {own, "--argv0", own, "--library-path", libraries, program};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  for (int i = 1; i < argc; ++i) arguments.push_back(argv[i]);
  arguments.push_back(nullptr);
  execv(loader.c_str(), arguments.data());
  perror(loader.c_str());
  return 3;
}
