#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <set>

#include "framework/checkpoint/h5_file.h"
#include "framework/checkpoint/h5_handles.h"

namespace fourmi {

using h5::Handle;

namespace {

void check(bool good, const std::string& what) {
  if (!good)
    throw Error(ExitStatus::environment, "HDF5", fmt::format("{} failed, expected it to work", what),
                "The layout is made in memory: /dev/shm must be there and have a few MB left");
}

void write_attribute(hid_t dataset, const char* name, hid_t type, const Handle& space, const void* value) {
  const Handle attribute(H5Acreate2(dataset, name, type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  check(attribute && H5Awrite(attribute, type, value) >= 0, fmt::format("writing the attribute {}", name));
}

void write_attributes(hid_t dataset, const H5Dataset& d) {
  const Handle scalar(H5Screate(H5S_SCALAR), H5Sclose);
  const auto rank = static_cast<hsize_t>(d.global.rank);
  const Handle vector(H5Screate_simple(1, &rank, nullptr), H5Sclose);
  const Handle text(H5Tcopy(H5T_C_S1), H5Tclose);
  const std::string dtype(name_of(d.dtype));
  check(H5Tset_size(text, dtype.size()) >= 0, "a string type");
  write_attribute(dataset, "global_shape", H5T_STD_I64LE, vector, d.global.dims.data());
  write_attribute(dataset, "first_row", H5T_STD_I64LE, scalar, &d.part.first_row);
  if (!holds_whole_rows(d.part, d.global))
    write_attribute(dataset, "first_column", H5T_STD_I64LE, scalar, &d.part.first_column);
  write_attribute(dataset, "dtype", text, scalar, dtype.data());
}

/// Makes the groups on the way to `path`; by hand, because automatically made ones would carry times.
void make_groups(hid_t file, const std::string& path, std::set<std::string>& made) {
  for (std::size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
    const std::string group = path.substr(0, end);
    if (!made.insert(group).second) continue;
    const Handle list(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
    check(list && H5Pset_obj_track_times(list, false) >= 0, "a group's properties");
    check(bool(Handle(H5Gcreate2(file, group.c_str(), H5P_DEFAULT, list, H5P_DEFAULT), H5Gclose)),
          "making the group " + group);
  }
}

Handle make_dataset(hid_t file, const H5Dataset& d) {
  const Handle list(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  check(list && H5Pset_layout(list, H5D_CONTIGUOUS) >= 0 && H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY) >= 0 &&
            H5Pset_fill_time(list, H5D_FILL_TIME_NEVER) >= 0 && H5Pset_obj_track_times(list, false) >= 0,
        "a dataset's properties");
  const Shape shape = d.shape();
  std::array<hsize_t, 5> dims{};
  for (int i = 0; i < shape.rank; ++i) dims[static_cast<std::size_t>(i)] = static_cast<hsize_t>(shape[i]);
  const Handle space(H5Screate_simple(shape.rank, dims.data(), nullptr), H5Sclose);
  return Handle(H5Dcreate2(file, d.name.c_str(), h5::file_type(d.dtype), space, H5P_DEFAULT, list, H5P_DEFAULT),
                H5Dclose);
}

/// A file in memory. It has a name until the library has opened it (which resolves names, so a nameless one is
/// refused); then it goes with its last descriptor, however the process ends.
class ScratchFile {
 public:
  ScratchFile() : file_(mkostemp(path_.data(), O_CLOEXEC)) { check(file_ >= 0, "making a file in /dev/shm"); }
  ~ScratchFile() {
    drop_name();
    if (file_ >= 0) ::close(file_);
  }
  const std::string& path() const { return path_; }
  int descriptor() const { return file_; }
  int release() { return std::exchange(file_, -1); }
  void drop_name() {
    if (named_) ::unlink(path_.c_str());
    named_ = false;
  }

 private:
  std::string path_ = "/dev/shm/fourmi-checkpoint-XXXXXX";
  int file_;
  bool named_ = true;
};

std::vector<std::int64_t> lay_out(const h5::Session&, ScratchFile& scratch, std::span<const H5Dataset> datasets) {
  const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  check(creation && H5Pset_obj_track_times(creation, false) >= 0, "a file's properties");
  const Handle access = h5::access_list();
  Handle file(H5Fcreate(scratch.path().c_str(), H5F_ACC_TRUNC, creation, access), H5Fclose);
  check(bool(file), "creating the file");
  scratch.drop_name();
  std::vector<std::int64_t> offsets;
  std::set<std::string> groups;
  for (const H5Dataset& d : datasets) {
    make_groups(file, d.name, groups);
    const Handle dataset = make_dataset(file, d);
    check(bool(dataset), "making the dataset " + d.name);
    write_attributes(dataset, d);
    const haddr_t offset = H5Dget_offset(dataset);
    check(offset != HADDR_UNDEF, "allocating the dataset " + d.name);
    offsets.push_back(static_cast<std::int64_t>(offset));
    if (d.alias.empty()) continue;
    make_groups(file, d.alias, groups);
    check(H5Lcreate_hard(file, d.name.c_str(), file, d.alias.c_str(), H5P_DEFAULT, H5P_DEFAULT) >= 0,
          "linking " + d.alias);
  }
  check(file.close(), "closing the file");
  return offsets;
}

}  // namespace

H5Skeleton::H5Skeleton(std::span<const H5Dataset> datasets) {
  const h5::Session session(
      datasets.size());  // first: the file has its name only for as long as the library needs to open it
  ScratchFile scratch;
  offsets_ = lay_out(session, scratch, datasets);
  struct stat status {};
  check(::fstat(scratch.descriptor(), &status) == 0, "the size of the file");
  size_ = status.st_size;
  file_ = scratch.release();
}

H5Skeleton::~H5Skeleton() {
  ::close(file_);
}

void H5Skeleton::read(std::span<std::byte> bytes, std::int64_t offset) const {
  while (!bytes.empty()) {
    const ssize_t n = ::pread(file_, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    check(n > 0, "reading metadata");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
}

}  // namespace fourmi
