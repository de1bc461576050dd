#include <fstream>
#include <iostream>
#include <iterator>
#include <set>
#include <string>

#include "relations/relation_fixture.hpp"

namespace thresher {
namespace {

INSTANTIATE_TEST_SUITE_P(Engines, Relation, testing::ValuesIn(engines_under_test()),
                         [](const testing::TestParamInfo<EngineUnderTest>& engine) {
                           return engine.param.name;
                         });

TEST(RelationTable, IsTheCommittedPage) {
  std::ifstream page(THRESHER_RELATIONS_PAGE);
  const std::string committed{std::istreambuf_iterator<char>(page), {}};
  const std::string printed = relation_document();
  if (committed != printed) std::cout << printed;
  EXPECT_TRUE(committed == printed)
      << "write the page printed above to " << THRESHER_RELATIONS_PAGE;
}

/// Every relation has at least one test for every engine (skipped where the table says why).
TEST(RelationTable, EveryRelationHasATestForEveryEngine) {
  std::set<std::pair<int, std::string>> found;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int s = 0; s < all.total_test_suite_count(); ++s) {
    const testing::TestSuite& suite = *all.GetTestSuite(s);
    if (std::string(suite.name()) != "Engines/Relation") continue;
    for (int t = 0; t < suite.total_test_count(); ++t) {
      const std::string test = suite.GetTestInfo(t)->name();
      found.insert({std::stoi(test.substr(1, 2)), test.substr(test.find('/') + 1)});
    }
  }
  for (const RelationRow& relation : relations()) {
    for (const EngineUnderTest& engine : engines_under_test()) {
      EXPECT_TRUE(found.count({relation.number, engine.name}))
          << "relation " << relation.number << " for " << engine.name;
    }
  }
}

}  // namespace
}  // namespace thresher
