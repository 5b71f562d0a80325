// How products are cut into tiles and stages for Hopper, and the rules of its tensor maps: plain values, no card.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "kernels/cuda/hopper/operand.h"
#include "kernels/cuda/hopper/plan.h"

namespace fourmi::cuda::hopper {
namespace {

MappedTensor good() {
  alignas(16) static std::byte memory[16];
  return {memory, MappedTensor::Element::u8, 2, {100, 7}, {112}, {128, 64}, Swizzle::span_128};
}
template <class Change>
const char* trouble_of(Change change) {
  MappedTensor t = good();
  change(t);
  return trouble(t);
}

TEST(HopperTensorMap, RulesAreChecked) {
  EXPECT_EQ(trouble(good()), nullptr);
  EXPECT_EQ(good().box_bytes(), 128 * 64);
  EXPECT_TRUE(trouble_of([](auto& t) { t.rank = 0; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.rank = 6; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.address = nullptr; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.address = static_cast<const std::byte*>(t.address) + 8; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.dims[1] = 0; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.dims[0] = (std::int64_t{1} << 32) + 1; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.box[1] = 257; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.box[1] = 0; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.strides[0] = 100; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.strides[0] = std::int64_t{1} << 40; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.box[0] = 120; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.box[0] = 144; }));  // beyond the swizzle's span
  EXPECT_TRUE(trouble_of([](auto& t) { t.swizzle = Swizzle::span_64; }));
  EXPECT_FALSE(trouble_of([](auto& t) { t.swizzle = Swizzle::none, t.box[0] = 256; }));
  EXPECT_FALSE(trouble_of([](auto& t) { t.element = MappedTensor::Element::f32, t.box[0] = 32; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.element = MappedTensor::Element::f32, t.box[0] = 36; }));
  EXPECT_FALSE(trouble_of([](auto& t) { t.element = MappedTensor::Element::bf16, t.box[0] = 64; }));
  EXPECT_TRUE(trouble_of([](auto& t) { t.element = MappedTensor::Element::bf16, t.box[0] = 72; }));
}

TEST(HopperTensorMap, SwizzlesArePermutationsOfTheirPattern) {
  for (const Swizzle s : {Swizzle::none, Swizzle::span_32, Swizzle::span_64, Swizzle::span_128}) {
    std::vector<int> seen(4096);
    for (std::uint32_t a = 0; a < 4096; ++a) {
      const std::uint32_t to = swizzled(s, a);
      ++seen.at(to);
      EXPECT_EQ(to % 16, a % 16);
      EXPECT_EQ(to / swizzle_span(s), a / swizzle_span(s));
    }
    for (const int n : seen) EXPECT_EQ(n, 1);
  }
  // The example of the PTX ISA: row r of 128 bytes has its piece p at p ^ r.
  for (std::uint32_t row = 0; row < 8; ++row)
    for (std::uint32_t piece = 0; piece < 8; ++piece)
      EXPECT_EQ(swizzled(Swizzle::span_128, row * 128 + piece * 16), row * 128 + (piece ^ row) * 16);
}

TEST(HopperOperand, FieldsAreWhereTheIsaPutsThem) {
  const Operand o = operand_of_rows(0x12400);
  EXPECT_EQ(o & 0x3fff, 0x1240u);
  EXPECT_EQ(o >> 32 & 0x3fff, 1024u / 16);
  EXPECT_EQ(o >> 49 & 7, 0u);
  EXPECT_EQ(o >> 62, 1u);  // 128 bytes
  EXPECT_EQ(advanced(o, 96), operand_of_rows(0x12400 + 96));
}

TEST(HopperOperand, SlabsAreTold) {
  const Operand o = operand_of_columns(0x12400, slab_bytes);
  EXPECT_EQ(o & 0x3fff, 0x1240u);
  EXPECT_EQ(o >> 16 & 0x3fff, 8192u / 16);  // 64 elements of the sum, 64 lines each, to the next 64 lines
  EXPECT_EQ(o >> 32 & 0x3fff, 1024u / 16);  // to the next 8 elements of the sum
  EXPECT_EQ(o >> 49 & 7, 0u);
  EXPECT_EQ(o >> 62, 1u);
  EXPECT_EQ(advanced(o, 16 * 128), operand_of_columns(0x12400 + 2048, slab_bytes));
}

TEST(HopperStages, LieApartAndAligned) {
  enum class Kind { product, gradient, bf16 };
  for (const int panels : {1, 2})
    for (const Kind kind : {Kind::product, Kind::gradient, Kind::bf16}) {
      const bool gradient = kind == Kind::gradient;
      const Stages s = kind == Kind::bf16 ? bf16_stages(panels)
                       : gradient         ? gradient_stages(panels)
                                          : product_stages(panels);
      EXPECT_GE(s.count(), 4);
      EXPECT_LE(s.bytes(), 227 << 10);
      std::map<int, int> pieces;  // begin, bytes
      const auto add = [&](int begin, int bytes, int alignment) {
        EXPECT_EQ(begin % alignment, 0);
        EXPECT_TRUE(pieces.emplace(begin, bytes).second);
      };
      for (int i = 0; i < s.count(); ++i) {
        add(s.rows(i), s.rows_bytes, 1024);
        for (int p = 0; p < panels; ++p) add(s.panel(i, p), s.panel_bytes, 1024);
        add(s.tile(i), s.tile_bytes, 16);
        add(s.barriers() + i * s.barrier_bytes, s.barrier_bytes, 8);
      }
      EXPECT_EQ(s.bytes_of_step(panels, true), s.rows_bytes + panels * s.panel_bytes + s.entry_bytes());
      for (int i = 0; i < s.entries() && s.entry_bytes() > 0; ++i) {
        add(s.row_scales(i), s.row_scale_bytes, 128);
        for (int p = 0; p < panels; ++p) add(s.panel_scales(i, p), s.panel_scale_bytes, gradient ? 128 : 16);
      }
      add(s.table(), s.table_bytes, 4);
      int end = 0;
      for (const auto& [begin, bytes] : pieces) {
        EXPECT_EQ(begin, end);
        end = begin + bytes;
      }
      EXPECT_EQ(end, s.bytes());
      EXPECT_LT(s.bytes(), 1 << 18);  // operands' addresses
      // A product of bf16 reads the slabs of all its panels, and rows of 128 bytes, as one.
      for (int p = 0; p < panels; ++p)
        EXPECT_EQ(s.panel(1, p), s.panel(1, 0) + p * (panel_columns / slab_lines) * slab_bytes);
      static_assert(Stages::panel_bytes == panel_columns / slab_lines * slab_bytes);
      static_assert(Stages::rows_bytes == tile_rows / slab_lines * slab_bytes);
    }
}

GroupTable table_of(const std::vector<int>& offsets, int tiles) {
  GroupTable t;
  int first = 0;
  for (std::size_t g = 0; g < offsets.size(); ++g) {
    t.row[g] = offsets[g], t.first[g] = first;
    if (g + 1 < offsets.size()) first += (offsets[g + 1] - offsets[g] + tile_rows - 1) / tile_rows * tiles;
  }
  return t;
}

TEST(HopperTiles, CoverEachRowAndPanelOnce) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<int> offsets{trial % 3 == 0 ? 17 : 0};
    const int groups = 1 + static_cast<int>(random() % 9);
    for (int g = 0; g < groups; ++g)
      offsets.push_back(offsets.back() + (random() % 3 == 0 ? 0 : static_cast<int>(random() % 700)));
    TileOrder order;
    order.groups = groups, order.panels = 1 + static_cast<int>(random() % 2);
    order.column_tiles = 1 + static_cast<int>(random() % 9), order.band = 1 << random() % 6;
    const GroupTable table = table_of(offsets, order.column_tiles);
    std::map<std::pair<int, int>, int> seen;  // row, panel
    Tile tile;
    int index = 0;
    for (; order.find(table, index, tile); ++index) {
      ASSERT_GE(tile.row, offsets[static_cast<std::size_t>(tile.group)]);
      ASSERT_LT(tile.row, tile.row_end);
      ASSERT_LE(tile.row_end, offsets[static_cast<std::size_t>(tile.group) + 1]);
      ASSERT_EQ(tile.panel % order.panels, 0);
      ASSERT_LT(tile.panel, order.column_tiles * order.panels);
      for (int r = tile.row; r < tile.row_end; ++r) ASSERT_EQ(++(seen[{r, tile.panel}]), 1);
    }
    ASSERT_EQ(index, table.first[groups]);
    ASSERT_EQ(seen.size(), static_cast<std::size_t>((offsets.back() - offsets.front()) * order.column_tiles));
  }
}

TEST(HopperTiles, CoverEachMatrixOnce) {
  for (const int rows : {1, 128, 300, 1000})
    for (const int band : {1, 2, 8}) {
      const TileOrder order{3, 5, 2, band};
      std::map<std::array<int, 3>, int> seen;
      Tile tile;
      int index = 0;
      for (; order.find(rows, index, tile); ++index) {
        ASSERT_EQ(tile.row % tile_rows, 0);
        ASSERT_EQ(tile.row_end, std::min(rows, tile.row + tile_rows));
        ASSERT_EQ(++(seen[{tile.group, tile.row, tile.panel}]), 1);
        ASSERT_LT(tile.row, rows);
        ASSERT_LT(tile.panel, 10);
      }
      ASSERT_EQ(index, 3 * blocks_of(rows, tile_rows) * 5);
    }
}

TEST(HopperTiles, ThoseThatRunTogetherLieTogether) {
  const Plan plan = plan_product(8192, 8192, 1, 132);
  const GroupTable table = table_of({0, 8192}, plan.column_tiles);
  const TileOrder order{1, plan.column_tiles, plan.panels, plan.band};
  std::map<int, int> rows, panels;
  for (int i = 0; i < 132; ++i) {
    Tile tile;
    ASSERT_TRUE(order.find(table, i, tile));
    ++rows[tile.row], ++panels[tile.panel];
  }
  EXPECT_LE(rows.size(), 16u);
  EXPECT_LE(panels.size(), 9u);
}

TEST(HopperPlan, FillsTheCardOrReadsLess) {
  EXPECT_EQ(plan_product(8192, 7168, 1, 132).panels, 2);
  EXPECT_EQ(plan_product(512, 4096, 1, 132).panels, 1);  // 128 narrow tiles or 64 wide ones
  EXPECT_EQ(plan_product(512, 4096, 1, 132).blocks, 128);
  EXPECT_EQ(plan_product(8192, 7168, 1, 132).blocks, 132);
  EXPECT_EQ(plan_product(1, 128, 1, 132).blocks, 1);
  EXPECT_EQ(plan_product(1, 128, 1, 132).column_tiles, 1);
  EXPECT_EQ(plan_product(16384, 4096, 8, 132).panels, 2);
  for (const int groups : {1, 3, 200})
    for (const int rows : {1, 100, 5000})
      for (const int columns : {16, 200, 3000}) {
        const Plan p = plan_product(rows, columns, groups, 132);
        EXPECT_GE(p.blocks, 1);
        EXPECT_LE(p.blocks, 132);
        EXPECT_GE(p.column_tiles * p.panels * panel_columns, columns);
      }
}

}  // namespace
}  // namespace fourmi::cuda::hopper
