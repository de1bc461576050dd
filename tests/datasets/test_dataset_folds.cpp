// The cross-validation blocks of tests/data/*/reference.json: errors of every fold with the folds
// that are stored beside the data.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <tuple>

#include "dataset_case.hpp"
#include "dataset_ways.hpp"

namespace thresher::testing_datasets {
namespace {

class DatasetFolds : public testing::TestWithParam<std::tuple<std::string, Way>> {};

TEST_P(DatasetFolds, Errors) {
  const auto& [set_name, way] = GetParam();
  const DataSet& set = data_set(set_name);
  double worst = 0.0;
  for (const double l1_ratio : {1.0, 0.5}) {
    std::vector<const FoldBlock*> blocks;
    for (const FoldBlock& block : set.folds) {
      if (block.l1_ratio == l1_ratio) blocks.push_back(&block);
    }
    if (blocks.empty()) continue;  // susie_n2 has no Lasso errors: they are not unique there
    ASSERT_EQ(static_cast<Index>(blocks.size()), set.n_responses);
    std::vector<double> lambda;
    for (Index r = 0; r < set.n_responses; ++r) {
      ASSERT_EQ(blocks[at(r)]->response, r);
      lambda.insert(lambda.end(), blocks[at(r)]->lambda.begin(), blocks[at(r)]->lambda.end());
    }
    const auto n_lambdas = static_cast<Index>(blocks.front()->lambda.size());
    Options options;
    way.apply(options);
    options.l1_ratio = {l1_ratio};
    options.lambda_grid =
        MatrixView<const double>::row_major(lambda.data(), set.n_responses, n_lambdas);
    CvOptions cv;
    cv.fold_id = set.fold_id;
    const Model model = cross_validate(set.data(false), options, cv);
    ASSERT_TRUE(model.cv);
    for (Index r = 0; r < set.n_responses; ++r) {
      const FoldBlock& block = *blocks[at(r)];
      for (Index l = 0; l < n_lambdas; ++l) {
        SCOPED_TRACE("l1_ratio " + std::to_string(l1_ratio) + " response " + std::to_string(r) +
                     " lambda " + std::to_string(l));
        const Index f = model.fit(r, 0, l);
        const std::size_t n_folds = block.fold_error.size();
        ASSERT_EQ(model.cv->n_folds, static_cast<Index>(n_folds));
        for (std::size_t k = 0; k < n_folds; ++k) {
          const double stored = block.fold_error[k][at(l)];
          const double error = model.cv->fold_error[at(f) * n_folds + k];
          EXPECT_NEAR(error / stored, 1.0, 1e-7) << "fold " << k;
          worst = std::max(worst, std::fabs(error / stored - 1.0));
        }
        EXPECT_NEAR(model.cv->error[at(f)] / block.error[at(l)], 1.0, 1e-7);
      }
      EXPECT_EQ(model.cv->best[at(2 * r + 1)], block.best) << "response " << r;
    }
  }
  std::printf("%-12s %-10s worst relative difference of fold errors %.1e\n", set_name.c_str(),
              way.name, worst);
}

INSTANTIATE_TEST_SUITE_P(
    Sets, DatasetFolds,
    testing::Combine(testing::ValuesIn(kSets),
                     testing::Values(kAuto, kGram, kResidual, kProximal, kReference)),
    [](const auto& one) { return std::get<0>(one.param) + "_" + std::get<1>(one.param).name; });

}  // namespace
}  // namespace thresher::testing_datasets
