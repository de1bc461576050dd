#pragma once

#include <gtest/gtest.h>

#include <string>

#include "relations/relation_table.hpp"

namespace thresher {

/// A relation's number stands in its test's name (R09_...); where the table has a gap the test
/// skips with the table's reason.
class Relation : public testing::TestWithParam<EngineUnderTest> {
 protected:
  void SetUp() override {
    const std::string test = testing::UnitTest::GetInstance()->current_test_info()->name();
    const std::string reason = reason_for_gap(std::stoi(test.substr(1, 2)), GetParam());
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

}  // namespace thresher
