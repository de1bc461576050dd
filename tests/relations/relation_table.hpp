#pragma once

#include <string>
#include <vector>

#include "relations/relation_case.hpp"

namespace thresher {

/// One relation every engine must satisfy.
struct RelationRow {
  int number;
  const char* text;
};

const std::vector<RelationRow>& relations();

/// Why a relation is not run for an engine; empty where it is run.
std::string reason_for_gap(int relation, const EngineUnderTest& engine);

/// docs/relations.md.
std::string relation_document();

}  // namespace thresher
