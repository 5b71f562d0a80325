#include "launch/gpu_check/places.h"

#include <initializer_list>

#include "launch/in_path.h"

namespace fourmi::gpu_check {

namespace fs = std::filesystem;

Places find_places(const std::string& started_as) {
  Places places;
  std::error_code ignored;
  places.program = started_as.find('/') != std::string::npos ? started_as : in_path(started_as);
  if (places.program.empty()) places.program = fs::read_symlink("/proc/self/exe", ignored);
  places.program = fs::absolute(places.program, ignored).lexically_normal();
  places.beside = fs::path(places.program).parent_path();
  // A bundle's or an installation's bin/, a build's bin/, the top of the tree.
  for (const fs::path& folder : {places.beside / "../recipes", places.beside / "../share/fourmi/recipes",
                                 places.beside / "../../../recipes", fs::path("recipes")})
    if (places.recipes.empty() && fs::exists(folder / "tiny.yaml", ignored))
      places.recipes = fs::absolute(folder, ignored).lexically_normal();
  const fs::path text = places.beside / "../corpus/gcide.dict.dz";
  if (fs::exists(text, ignored)) places.text = text.lexically_normal();
  return places;
}

std::string find_tool(const std::string& name) {
  return in_path(name, "/usr/local/cuda/bin:/usr/local/nvidia/bin:/opt/cuda/bin");
}

}  // namespace fourmi::gpu_check
