#include "framework/checkpoint/rank_file.h"

#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "framework/checkpoint/extents.h"
#include "framework/checkpoint/stream.h"
#include "framework/digest/sha256.h"
#include "kernels/numerics/digest.h"

namespace fourmi {
namespace {

/// Calls visit(offset, bytes) over the whole file in chunks.
template <class Visit>
void for_each_piece(const H5Skeleton& skeleton, const std::vector<Extent>& extents, std::span<const Box> boxes,
                    const std::atomic<bool>& abandon, Visit visit) {
  std::vector<std::byte> metadata;
  for_each_chunk(extents, [&](const Extent& e, std::int64_t begin, std::int64_t bytes) {
    if (abandon.load(std::memory_order_relaxed))
      throw Error(ExitStatus::stopped, "checkpoint", "the save was abandoned, expected it to be waited for");
    const auto n = static_cast<std::size_t>(bytes);
    if (e.dataset == Extent::metadata) {
      metadata.resize(n);
      skeleton.read(metadata, e.offset + begin);
      visit(e.offset + begin, std::span<const std::byte>(metadata));
    } else {
      const Tensor& data = boxes[static_cast<std::size_t>(e.dataset)].data;
      visit(e.offset + begin, std::span(static_cast<const std::byte*>(data.data) + begin, n));
    }
  });
}

}  // namespace

void check_boxes(std::span<const Box> boxes) {
  std::set<std::string> names;
  for (const Box& b : boxes) {
    FOURMI_CHECK(is_dataset_name(b.name) && names.insert(b.name).second, "box {}", b.name);
    FOURMI_CHECK(b.alias.empty() || (is_dataset_name(b.alias) && names.insert(b.alias).second), "alias {} of box {}",
                 b.alias, b.name);
    FOURMI_CHECK(can_hold(b.data.dtype) && (b.data.device == Device::cpu) == !b.device, "box {}", b.name);
    FOURMI_CHECK(b.global.rank >= 1 && checked_bytes(b.global, b.data.dtype), "box {}", b.name);
    FOURMI_CHECK(b.data.shape == shape_of(b.part(), b.global) && is_inside(b.part(), b.global),
                 "box {}: {} from row {}, column {} of {}", b.name, to_string(b.data.shape), b.first_row,
                 b.first_column, to_string(b.global));
  }
}

RankFile write_rank_file(Disk& disk, const std::filesystem::path& path, std::span<const Box> all_boxes,
                         const std::atomic<bool>& abandon) {
  RankFile result;
  std::vector<Box> boxes;
  std::vector<H5Dataset> datasets;
  for (const Box& b : all_boxes) {
    if (b.data.num_elements() == 0) continue;
    boxes.push_back(b);
    datasets.push_back({b.name, b.alias, b.data.dtype, b.global, b.part()});
  }
  std::int64_t most_bytes = 0;
  for (const H5Dataset& d : datasets) most_bytes += d.bytes() + 4096;  // more than the metadata of a dataset
  check_file_size_limit(path, most_bytes);
  const H5Skeleton skeleton(datasets);
  const std::vector<Extent> extents = extents_of(skeleton, datasets);

  Sha256 hash;
  StreamWriter writer(disk, path);
  for_each_piece(skeleton, extents, boxes, abandon, [&](std::int64_t, std::span<const std::byte> bytes) {
    writer.append(bytes);
    hash.add(bytes);
  });
  writer.finish();

  StreamReader reader(disk, path);
  for_each_piece(skeleton, extents, boxes, abandon, [&](std::int64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto back = reader.next(bytes.size());
      if (std::memcmp(back.data(), bytes.data(), back.size()) != 0)
        throw Error(
            ExitStatus::environment, path.string(),
            fmt::format("other bytes than written came back in the {} from {}, expected the same", back.size(), offset),
            "The disk, its driver or the memory is failing");
      bytes = bytes.subspan(back.size());
      offset += static_cast<std::int64_t>(back.size());
    }
  });

  // The library may have run out of memory without saying so when it laid the file out: let it read what it made.
  check_h5_structure(path, datasets, skeleton.offsets());

  result.file = {path.filename().string(), skeleton.size(), hash.finish()};
  std::size_t i = 0;
  for (const Box& b : all_boxes) {
    TensorEntry t{b.name, b.alias, b.data.dtype, b.global, 0, {}};
    if (b.data.num_elements() > 0)
      t.boxes.push_back({0, skeleton.offsets()[i++], b.part(), digest(b.name, b.data, runs_of(b.part(), b.global))});
    result.tensors.push_back(t);
  }
  return result;
}

std::string to_text(const RankFile& f) {
  using nlohmann::json;
  json tensors = json::array();
  for (const TensorEntry& t : f.tensors) {
    json shape = json::array(), boxes = json::array();
    for (int i = 0; i < t.shape.rank; ++i) shape.push_back(t.shape[i]);
    for (const BoxEntry& b : t.boxes)
      boxes.push_back(json::array({b.offset, b.part.first_row, b.part.num_rows, b.part.first_column, b.part.num_columns,
                                   digest_text(b.digest)}));
    tensors.push_back(json::array({t.name, t.alias, name_of(t.dtype), shape, boxes}));
  }
  return json::array({f.file.name, f.file.bytes, f.file.sha256, tensors}).dump();
}

RankFile parse_rank_file(const std::string& text) {
  const auto j = nlohmann::json::parse(text);
  RankFile f;
  f.file = {j[0].get<std::string>(), j[1].get<std::int64_t>(), j[2].get<std::string>()};
  for (const auto& e : j[3]) {
    TensorEntry t;
    t.name = e[0].get<std::string>();
    t.alias = e[1].get<std::string>();
    t.dtype = parse_dtype(e[2].get<std::string>()).value();
    for (const auto& d : e[3]) t.shape.dims[static_cast<std::size_t>(t.shape.rank++)] = d.get<std::int64_t>();
    for (const auto& b : e[4])
      t.boxes.push_back(
          {0,
           b[0].get<std::int64_t>(),
           {b[1].get<std::int64_t>(), b[2].get<std::int64_t>(), b[3].get<std::int64_t>(), b[4].get<std::int64_t>()},
           parse_digest(b[5].get<std::string>()).value()});
    f.tensors.push_back(t);
  }
  return f;
}

}  // namespace fourmi
