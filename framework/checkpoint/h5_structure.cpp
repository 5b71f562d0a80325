#include <array>
#include <map>

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/h5_file.h"
#include "framework/checkpoint/h5_handles.h"

namespace fourmi {
namespace {

using h5::Handle;

struct Expected {
  const H5Dataset* dataset;
  std::int64_t offset;
  bool seen = false;
};

struct Walk {
  std::string path;
  std::map<std::string, Expected> datasets;  // by path, aliases too
  std::string prefix;                        // of the group that is being walked
  int depth = 0;
  std::int64_t groups_left = 1 << 20;  // hard links could make a cycle
  std::string problem;                 // no exception may cross the library's C code

  bool fail(std::string text) {
    if (problem.empty()) problem = std::move(text);
    return false;
  }
  bool check_dataset(hid_t dataset, const std::string& name);
  bool visit(hid_t group, const char* link, H5L_type_t kind);
  bool walk(hid_t group);
};

bool Walk::check_dataset(hid_t dataset, const std::string& name) {
  const auto it = datasets.find(name);
  if (it == datasets.end()) return fail("the dataset " + name + " is not in the manifest");
  const H5Dataset& expected = *it->second.dataset;
  const Handle list(H5Dget_create_plist(dataset), H5Pclose);
  if (!list || H5Pget_layout(list) != H5D_CONTIGUOUS || H5Pget_external_count(list) != 0 || H5Pget_nfilters(list) != 0)
    return fail("the dataset " + name + " is not contiguous, or stored elsewhere, or filtered");
  const Handle type(H5Dget_type(dataset), H5Tclose);
  if (!type || H5Tequal(type, h5::file_type(expected.dtype)) <= 0)
    return fail(fmt::format("the dataset {} is not of type {}", name, name_of(expected.dtype)));
  const Handle space(H5Dget_space(dataset), H5Sclose);
  std::array<hsize_t, H5S_MAX_RANK> dims{};
  if (!space || H5Sget_simple_extent_ndims(space) != expected.global.rank ||
      H5Sget_simple_extent_dims(space, dims.data(), nullptr) < 0)
    return fail("the dataset " + name + " has another number of dims than the manifest says");
  const Shape shape = expected.shape();
  for (int i = 0; i < shape.rank; ++i)
    if (dims[static_cast<std::size_t>(i)] != static_cast<hsize_t>(shape[i]))
      return fail("the dataset " + name + " has another shape than the manifest says");
  if (H5Dget_offset(dataset) != static_cast<haddr_t>(it->second.offset))
    return fail("the dataset " + name + " lies elsewhere than the manifest says");
  it->second.seen = true;
  return true;
}

bool Walk::visit(hid_t group, const char* link, H5L_type_t kind) {
  const std::string name = prefix + "/" + link;
  if (kind != H5L_TYPE_HARD) return fail(name + " is a soft or an external link");
  const Handle object(H5Oopen(group, link, H5P_DEFAULT), H5Oclose);
  const H5I_type_t type = object ? H5Iget_type(object) : H5I_BADID;
  if (type == H5I_DATASET) return check_dataset(object, name);
  if (type != H5I_GROUP) return fail(name + " is neither a group nor a dataset");
  const std::string outer = std::exchange(prefix, name);
  const bool good = walk(object);
  prefix = outer;
  return good;
}

bool Walk::walk(hid_t group) {
  if (++depth > 64 || --groups_left < 0) return fail("groups are nested without end");
  const auto each = [](hid_t parent, const char* link, const H5L_info_t* info, void* self) -> herr_t {
    auto& walk = *static_cast<Walk*>(self);
    try {
      return walk.visit(parent, link, info->type) ? 0 : -1;
    } catch (const std::exception& e) {
      walk.fail(e.what());
      return -1;
    }
  };
  if (H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, each, this) < 0)
    return fail("the group " + prefix + "/ cannot be read");
  --depth;
  return true;
}

}  // namespace

void check_h5_structure(const std::filesystem::path& path, std::span<const H5Dataset> datasets,
                        std::span<const std::int64_t> offsets) {
  FOURMI_CHECK(datasets.size() == offsets.size());
  Walk walk;
  for (std::size_t i = 0; i < datasets.size(); ++i) {
    walk.datasets.emplace(datasets[i].name, Expected{&datasets[i], offsets[i]});
    if (!datasets[i].alias.empty()) walk.datasets.emplace(datasets[i].alias, Expected{&datasets[i], offsets[i]});
  }
  const h5::Session session(datasets.size());
  const Handle access = h5::access_list();
  const Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
  if (!file) throw DamageError(path.string(), "HDF5 cannot open it, expected a file of ours");
  walk.walk(file);
  for (const auto& [name, expected] : walk.datasets)
    if (!expected.seen) walk.fail("the dataset " + name + " is missing");
  if (!walk.problem.empty()) throw DamageError(path.string(), walk.problem + ", expected what the manifest lists");
}

}  // namespace fourmi
