#include "framework/checkpoint/extents.h"

namespace fourmi {

std::vector<Extent> extents_of(const H5Skeleton& skeleton, std::span<const H5Dataset> datasets) {
  std::vector<Extent> data, all;
  for (std::size_t i = 0; i < datasets.size(); ++i)
    data.push_back({skeleton.offsets()[i], datasets[i].bytes(), static_cast<std::ptrdiff_t>(i)});
  std::sort(data.begin(), data.end(), [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
  std::int64_t next = 0;
  for (const Extent& e : data) {
    FOURMI_CHECK(e.offset >= next, "datasets overlap in the file");
    if (e.offset > next) all.push_back({next, e.offset - next});
    all.push_back(e);
    next = e.offset + e.bytes;
  }
  FOURMI_CHECK(next <= skeleton.size(), "the last dataset ends at {} of {}", next, skeleton.size());
  if (skeleton.size() > next) all.push_back({next, skeleton.size() - next});
  return all;
}

}  // namespace fourmi
