// Every path of tests/data/*/reference.json: lambda_max, objectives and gaps. The bounds are those
// of the project's acceptance test and are not to be widened for an engine.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <tuple>

#include "dataset_case.hpp"
#include "dataset_ways.hpp"

namespace thresher::testing_datasets {
namespace {

constexpr double kTightObjective = 1e-9;
constexpr double kDefaultObjective = 1e-7;

struct Worst {
  double objective = 0.0;
  double gap = 0.0;
  int not_good = 0;
};

/// Blocks of one variant that share l1_ratio and factors, so that one call fits them all.
struct Call {
  std::vector<Block> blocks;
  std::vector<double> lambda;  ///< [block, L]
};

std::vector<Call> calls_of(const DataSet& set, const std::string& variant) {
  std::vector<Call> out;
  for (const Block& block : set.blocks_of(variant)) {
    const auto same = std::find_if(out.begin(), out.end(), [&](const Call& call) {
      const Block& first = call.blocks.front();
      return first.l1_ratio == block.l1_ratio && first.l2_factor == block.l2_factor &&
             first.fits.size() == block.fits.size();
    });
    Call& call = same == out.end() ? out.emplace_back() : *same;
    call.blocks.push_back(block);
    for (const ReferenceFit& fit : block.fits) call.lambda.push_back(fit.lambda);
  }
  return out;
}

/// The chosen responses of the set, copied side by side.
std::vector<double> responses(const DataSet& set, const Call& call) {
  std::vector<double> out;
  for (const Block& block : call.blocks) {
    const auto first = set.Y.begin() + block.response * set.n;
    out.insert(out.end(), first, first + set.n);
  }
  return out;
}

/// Fits every block of the variant and compares with the stored objectives, the reported and the
/// recomputed ones.
Worst run_variant(const DataSet& set, const std::string& variant, Options options, double bound) {
  Worst worst;
  options.standardize = variant == "standardized";
  options.early_stop.reset();
  const bool weighted = variant == "weighted";
  const Judge judge(set, weighted, options.standardize);
  for (const Call& call : calls_of(set, variant)) {
    const std::vector<double> Y = responses(set, call);
    Data data = set.data(weighted);
    const auto n_responses = static_cast<Index>(call.blocks.size());
    data.Y = MatrixView<const double>::column_major(Y.data(), set.n, n_responses);
    const std::vector<double> l2_factor(at(set.p), call.blocks.front().l2_factor);
    data.l2_factor = l2_factor;
    options.l1_ratio = {call.blocks.front().l1_ratio};
    options.lambda_grid = MatrixView<const double>::row_major(
        call.lambda.data(), n_responses, static_cast<Index>(call.lambda.size()) / n_responses);
    const Model model = fit_path(data, options);
    for (Index r = 0; r < n_responses; ++r) {
      const Block& block = call.blocks[at(r)];
      for (std::size_t l = 0; l < block.fits.size(); ++l) {
        SCOPED_TRACE(set.name + " " + block.text() + " lambda " + std::to_string(l));
        const Index f = model.fit(r, 0, static_cast<Index>(l));
        const auto status = static_cast<Status>(model.status[at(f)]);
        if (!is_good(status)) ++worst.not_good;
        const Judge::Verdict verdict = judge.verdict(
            model, f, block.response, {block.fits[l].lambda, block.l1_ratio, block.l2_factor});
        const double reported =
            std::fabs(model.objective[at(f)] - block.fits[l].objective) / block.null_loss;
        const double recomputed =
            std::fabs(verdict.objective - block.fits[l].objective) / block.null_loss;
        EXPECT_LE(reported, bound) << name(status) << ", gap " << model.gap[at(f)] << ", "
                                   << model.iterations[at(f)] << " iterations";
        EXPECT_LE(recomputed, bound) << name(status) << ", gap " << verdict.relative_gap;
        worst.objective = std::max({worst.objective, reported, recomputed});
        worst.gap = std::max(worst.gap, verdict.relative_gap);
      }
    }
  }
  std::printf("%-12s %-12s worst objective difference %.1e, worst gap %.1e, not good %d\n",
              set.name.c_str(), variant.c_str(), worst.objective, worst.gap, worst.not_good);
  return worst;
}

using SetVariant = std::tuple<std::string, std::string>;

class DatasetDefaults : public testing::TestWithParam<SetVariant> {};

TEST_P(DatasetDefaults, ObjectiveAndGapAtDefaults) {
  const auto& [name, variant] = GetParam();
  const Worst worst = run_variant(data_set(name), variant, {}, kDefaultObjective);
  EXPECT_LE(worst.gap, 1e-7);
  EXPECT_EQ(worst.not_good, 0);
}

TEST_P(DatasetDefaults, GapAtTolerance1em10) {
  const auto& [name, variant] = GetParam();
  Options options;
  options.tol = 1e-10;
  const Worst worst = run_variant(data_set(name), variant, options, kDefaultObjective);
  EXPECT_LE(worst.gap, 1e-10);
  EXPECT_EQ(worst.not_good, 0);
}

/// The automatic grid starts at lambda_max.
TEST_P(DatasetDefaults, LambdaMax) {
  const auto& [name, variant] = GetParam();
  const DataSet& set = data_set(name);
  for (const Block& block : set.blocks_of(variant)) {
    SCOPED_TRACE(block.text());
    Data data = set.data(block.variant == "weighted");
    data.Y =
        MatrixView<const double>::column_major(set.Y.data() + block.response * set.n, set.n, 1);
    const std::vector<double> l2_factor(at(set.p), block.l2_factor);
    data.l2_factor = l2_factor;
    Options options;
    options.standardize = block.variant == "standardized";
    options.l1_ratio = {block.l1_ratio};
    options.n_lambdas = 1;
    const Model model = fit_path(data, options);
    EXPECT_NEAR(model.lambda[0] / block.lambda_max, 1.0, 1e-12);
    EXPECT_EQ(model.n_nonzero[0], 0);
    options.engine = Engine::kReference;  // by its own pass, not by half-precision bounds
    options.low_precision = false;
    EXPECT_NEAR(fit_path(data, options).lambda[0] / block.lambda_max, 1.0, 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, DatasetDefaults,
                         testing::Combine(testing::ValuesIn(kSets),
                                          testing::Values("plain", "standardized", "weighted")),
                         [](const auto& one) {
                           return std::get<0>(one.param) + "_" + std::get<1>(one.param);
                         });

using SetVariantWay = std::tuple<std::string, std::string, Way>;

class DatasetTightest : public testing::TestWithParam<SetVariantWay> {};

TEST_P(DatasetTightest, Objective) {
  const auto& [name, variant, way] = GetParam();
  Options options;
  way.apply(options);
  run_variant(data_set(name), variant, options, kTightObjective);
}

INSTANTIATE_TEST_SUITE_P(Sets, DatasetTightest,
                         testing::Combine(testing::ValuesIn(kSets),
                                          testing::Values("plain", "standardized", "weighted"),
                                          testing::Values(kGram, kResidual, kProximal, kReference)),
                         [](const auto& one) {
                           return std::get<0>(one.param) + "_" + std::get<1>(one.param) + "_" +
                                  std::get<2>(one.param).name;
                         });

class DatasetRidge : public testing::TestWithParam<std::tuple<std::string, Way>> {};

TEST_P(DatasetRidge, Objective) {
  const auto& [set_name, way] = GetParam();
  const DataSet& set = data_set(set_name);
  std::vector<double> lambda;
  for (const RidgeBlock& block : set.ridge) lambda.push_back(block.lambda);
  ASSERT_TRUE(std::is_sorted(lambda.rbegin(), lambda.rend()));
  Options options;
  way.apply(options);
  options.l1_ratio = {0.0};
  options.lambda_grid =
      MatrixView<const double>::row_major(lambda.data(), 1, static_cast<Index>(lambda.size()));
  const Judge judge(set, false, false);
  const auto check = [&](double objective_bound, double gap_bound) {
    const Model model = fit_path(set.data(false), options);
    double worst_objective = 0.0, worst_gap = 0.0;
    for (Index r = 0; r < set.n_responses; ++r) {
      for (std::size_t l = 0; l < lambda.size(); ++l) {
        SCOPED_TRACE("response " + std::to_string(r) + " lambda " + std::to_string(l));
        const Index f = model.fit(r, 0, static_cast<Index>(l));
        const Judge::Verdict verdict = judge.verdict(model, f, r, {lambda[l], 0.0, 1.0});
        const double stored = set.ridge[l].objective[at(r)];
        const double null = set.null_loss(r);
        EXPECT_NEAR(model.objective[at(f)], stored, objective_bound * null);
        EXPECT_NEAR(verdict.objective, stored, objective_bound * null)
            << name(static_cast<Status>(model.status[at(f)]));
        EXPECT_LE(verdict.relative_gap, gap_bound);
        worst_objective = std::max(worst_objective, std::fabs(verdict.objective - stored) / null);
        worst_gap = std::max(worst_gap, verdict.relative_gap);
      }
    }
    std::printf("%-12s ridge        worst objective difference %.1e, worst gap %.1e\n",
                set.name.c_str(), worst_objective, worst_gap);
  };
  check(kTightObjective, 1e-10);
  options.tol.reset();
  check(kDefaultObjective, 1e-7);
}

INSTANTIATE_TEST_SUITE_P(
    Sets, DatasetRidge,
    testing::Combine(testing::ValuesIn(kSets),
                     testing::Values(kAuto, kRidge, kResidual, kProximal, kReference)),
    [](const auto& one) { return std::get<0>(one.param) + "_" + std::get<1>(one.param).name; });

}  // namespace
}  // namespace thresher::testing_datasets
