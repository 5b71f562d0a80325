// Rows of the section model that look alike.
#pragma once

#include <string>

#include "framework/recipe/access.h"

namespace fourmi::recipe {

inline constexpr double kMostSize =
    16777216;  // sizes past this are slips of the pen; products of two still fit in 64 bits

using SizeMember = std::int64_t ModelSection::*;

Field size_row(const std::string& name, const std::string& meaning, SizeMember member, Families families,
               double least = 1, double most = kMostSize);
Field optional_size_row(const std::string& name, const std::string& meaning, SizeMember member, Families families,
                        double least, double most, std::string shown_default = {});
/// A key of config.json of which only one value is built; it has no storage.
Field only_row(const std::string& name, Type type, const std::string& meaning, Families families, std::string value,
               bool nullable = false);

void add_expert_rows(std::vector<Field>& table);
void add_attention_rows(std::vector<Field>& table);
void add_rope_rows(std::vector<Field>& table);

}  // namespace fourmi::recipe
