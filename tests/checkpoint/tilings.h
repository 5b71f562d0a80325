// Tensors cut into rectangles, one a rank, in any way that tiles them.
#pragma once

#include <random>

#include "framework/checkpoint/rectangle.h"
#include "tests/checkpoint/sample.h"

namespace fourmi::testing {

/// One rectangle a rank, some of them empty.
using Tiling = std::vector<Rectangle>;

/// Cuts a tensor at random, again and again, until each of `size` ranks has a part.
inline Tiling random_tiling(const Shape& shape, int size, std::mt19937& random) {
  Tiling tiling(static_cast<std::size_t>(size));
  const auto below = [&](std::int64_t n) { return static_cast<std::int64_t>(random() % static_cast<unsigned>(n)); };
  const std::function<void(int, int, Rectangle)> cut = [&](int first, int end, Rectangle r) {
    if (end - first == 1) {
      tiling[static_cast<std::size_t>(first)] = r;
      return;
    }
    const int middle = first + 1 + static_cast<int>(below(end - first - 1));
    Rectangle a = r, b = r;
    if (below(2) == 0 || shape.rank == 1) {
      a.num_rows = below(r.num_rows + 1);
      b.first_row += a.num_rows, b.num_rows -= a.num_rows;
    } else {
      a.num_columns = below(r.num_columns + 1);
      b.first_column += a.num_columns, b.num_columns -= a.num_columns;
    }
    cut(first, middle, a), cut(middle, end, b);
  };
  cut(0, size, whole(shape));
  std::shuffle(tiling.begin(), tiling.end(), random);
  return tiling;
}

/// `rows` x `columns` parts, as even as they get; rank = row * columns + column.
inline Tiling grid_tiling(const Shape& shape, int rows, int columns) {
  Tiling tiling;
  const auto cut = [](std::int64_t n, int i, int parts) { return n * i / parts; };
  const std::int64_t R = shape[0], C = columns_of(shape);
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c)
      tiling.push_back({cut(R, r, rows), cut(R, r + 1, rows) - cut(R, r, rows), cut(C, c, columns),
                        cut(C, c + 1, columns) - cut(C, c, columns)});
  return tiling;
}

/// The boxes of one rank, whose bytes are either the sample's or 0xee.
class CutBoxes {
 public:
  CutBoxes(const std::vector<TensorSpec>& specs, const std::vector<Tiling>& tilings, int rank, bool fill,
           int variant = 0) {
    for (std::size_t t = 0; t < specs.size(); ++t) {
      const TensorSpec& s = specs[t];
      const Rectangle part = tilings[t][static_cast<std::size_t>(rank)];
      Box b{s.name,           s.alias, s.shape, part.first_row, Tensor(nullptr, s.dtype, shape_of(part, s.shape)),
            part.first_column};
      const std::int64_t size = size_of(s.dtype), n = b.data.num_elements();
      storage_.push_back(std::make_unique<std::byte[]>(static_cast<std::size_t>(n * size) + 1));
      b.data.data = storage_.back().get();
      std::byte* p = storage_.back().get();
      const std::int64_t cell = cell_elements(s.shape), columns = columns_of(s.shape);
      for (std::int64_t r = part.first_row; r < part.end_row(); ++r)
        for (std::int64_t i = part.first_column * cell * size; i < part.end_column() * cell * size; ++i)
          *p++ = fill ? sample_byte(t, r * columns * cell * size + i, variant) : std::byte{0xee};
      boxes_.push_back(b);
    }
  }
  std::vector<Box>& list() { return boxes_; }
  std::span<const Box> get() const { return boxes_; }

 private:
  std::vector<Box> boxes_;
  std::vector<std::unique_ptr<std::byte[]>> storage_;
};

inline std::vector<Tiling> tilings_of(const std::vector<TensorSpec>& specs,
                                      const std::function<Tiling(const Shape&)>& cut) {
  std::vector<Tiling> tilings;
  for (const TensorSpec& s : specs) tilings.push_back(cut(s.shape));
  return tilings;
}

inline SaveOutcome save_cut(const std::vector<TensorSpec>& specs, const std::vector<Tiling>& tilings,
                            const std::filesystem::path& checkpoints, std::int64_t step, int variant = 0) {
  SaveOutcome outcome;
  on_ranks(static_cast<int>(tilings[0].size()), [&](Group& group) {
    const CutBoxes boxes(specs, tilings, group.rank(), true, variant);
    SaveOutcome o = save_checkpoint(group, checkpoints, boxes.get(), sample_state(step));
    if (group.rank() == 0) outcome = o;
  });
  EXPECT_TRUE(outcome.committed()) << outcome.error->what();
  return outcome;
}

inline void expect_loads_cut(const std::vector<TensorSpec>& specs, const std::vector<Tiling>& tilings,
                             const std::filesystem::path& folder, int variant = 0) {
  on_ranks(static_cast<int>(tilings[0].size()), [&](Group& group) {
    const Checkpoint c = prove_checkpoint(group, folder);
    const CutBoxes expected(specs, tilings, group.rank(), true, variant), loaded(specs, tilings, group.rank(), false);
    load_boxes(group, c, loaded.get());
    prove_live_state(group, c, loaded.get());
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const Tensor &a = expected.get()[i].data, &b = loaded.get()[i].data;
      ASSERT_EQ(0, std::memcmp(a.data, b.data, static_cast<std::size_t>(a.bytes()))) << specs[i].name;
    }
  });
}

}  // namespace fourmi::testing
