#include "framework/checkpoint/reader.h"

#include "framework/checkpoint/agree.h"
#include "framework/checkpoint/slice.h"
#include "kernels/numerics/digest.h"

namespace fourmi {

CheckpointReader::CheckpointReader(const std::filesystem::path& model, Disk& disk) : disk_(disk) {
  const auto alone = make_self_group("reader");
  CheckpointChoice choice = open_model(*alone, model, disk);
  checkpoint_ = std::move(*choice.checkpoint);
  messages_ = std::move(choice.messages);
}

const TensorEntry& CheckpointReader::entry(const std::string& name) const {
  const TensorEntry* t = manifest().find(name);
  if (t == nullptr)
    throw Error(ExitStatus::input, folder().string(), fmt::format("tensor {} is missing, expected it", name),
                "The checkpoint is of another model");
  return *t;
}

void CheckpointReader::read(const std::string& name, const Tensor& out) const {
  const TensorEntry& t = entry(name);
  if (out.shape != t.shape || out.dtype != t.dtype)
    throw Error(ExitStatus::input, folder().string(),
                fmt::format("tensor {} is {} {}, expected {} {}", name, name_of(t.dtype), to_string(t.shape),
                            name_of(out.dtype), to_string(out.shape)),
                "The checkpoint is of another model");
  read_part(disk_, folder(), manifest(), t, whole(t.shape), static_cast<std::byte*>(out.data));
  if (out.num_elements() > 0 && digest(t.name, out, 0) != t.digest)
    throw DamageError(
        folder().string(),
        fmt::format("the bytes of tensor {} do not have the digest that the manifest gives, expected it", t.name));
}

}  // namespace fourmi
