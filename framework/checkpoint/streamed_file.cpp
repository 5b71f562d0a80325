#include "framework/checkpoint/streamed_file.h"

#include "framework/checkpoint/extents.h"
#include "framework/checkpoint/stream.h"
#include "framework/digest/sha256.h"
#include "kernels/numerics/digest.h"

namespace fourmi {

RankFile write_streamed_file(Disk& disk, const std::filesystem::path& path, std::span<const StreamedTensor> tensors,
                             const TensorSource& source) {
  std::vector<H5Dataset> datasets;
  std::int64_t most_bytes = 0;
  for (const StreamedTensor& t : tensors) {
    FOURMI_CHECK(is_dataset_name(t.name) && can_hold(t.dtype) && t.shape.num_elements() > 0, "{}", t.name);
    datasets.push_back({t.name, t.alias, t.dtype, t.shape, whole(t.shape)});
    most_bytes += datasets.back().bytes() + 4096;  // more than the metadata of a dataset
  }
  check_file_size_limit(path, most_bytes);
  const H5Skeleton skeleton(datasets);

  std::vector<uint128> digests(tensors.size(), 0);
  std::vector<std::byte> piece;
  Sha256 hash;
  StreamWriter writer(disk, path);
  for_each_chunk(extents_of(skeleton, datasets), [&](const Extent& e, std::int64_t begin, std::int64_t bytes) {
    piece.resize(static_cast<std::size_t>(bytes));
    if (e.dataset == Extent::metadata) {
      skeleton.read(piece, e.offset + begin);
    } else {
      const auto index = static_cast<std::size_t>(e.dataset);
      const StreamedTensor& t = tensors[index];
      source(index, begin, piece);
      const std::int64_t element = size_of(t.dtype);
      digests[index] +=
          digest(t.name, Tensor(piece.data(), t.dtype, {bytes / element}), static_cast<std::uint64_t>(begin / element));
    }
    writer.append(piece);
    hash.add(piece);
  });
  writer.finish();

  RankFile result{{path.filename().string(), skeleton.size(), hash.finish()}, {}};
  Sha256 back;
  StreamReader reader(disk, path);
  for (std::int64_t done = 0; done < skeleton.size();) {
    const auto bytes = reader.next(static_cast<std::size_t>(std::min(chunk_bytes, skeleton.size() - done)));
    back.add(bytes);
    done += static_cast<std::int64_t>(bytes.size());
  }
  if (back.finish() != result.file.sha256)
    throw Error(ExitStatus::environment, path.string(), "other bytes than written came back, expected the same",
                "The disk, its driver or the memory is failing");
  // The library may have run out of memory without saying so when it laid the file out: let it read what it made.
  check_h5_structure(path, datasets, skeleton.offsets());

  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const StreamedTensor& t = tensors[i];
    result.tensors.push_back(
        {t.name, t.alias, t.dtype, t.shape, digests[i], {{0, skeleton.offsets()[i], whole(t.shape), digests[i]}}});
  }
  return result;
}

}  // namespace fourmi
