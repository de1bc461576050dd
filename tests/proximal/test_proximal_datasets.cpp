// Real tables against tests/data/*/reference.json: objectives within 1e-9 of the null loss.

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "proximal_case.hpp"
#include "readers/matrix_file.hpp"

namespace thresher::testing_proximal {
namespace {

using nlohmann::json;

struct DataSet {
  MatrixFile X, Y, weights;
  json reference;

  explicit DataSet(const std::string& name) {
    const std::string folder = std::string(THRESHER_TEST_DATA) + "/" + name + "/";
    X = read_matrix(folder + "X.npy");
    Y = read_matrix(folder + "Y.npy");
    weights = read_matrix(folder + "weights.npy");
    std::ifstream(folder + "reference.json") >> reference;
  }

  std::vector<double> response(Index r) const {
    std::vector<double> y(at(Y.rows));
    for (Index i = 0; i < Y.rows; ++i) y[at(i)] = element(Y.view(), i, r);
    return y;
  }
};

void expect_reference_objectives(const std::string& name) {
  const DataSet set(name);
  for (const json& block : set.reference.at("blocks")) {
    const std::string variant = block.at("variant");
    SCOPED_TRACE(name + " " + variant + " " + block.at("penalty").get<std::string>() +
                 " response " + std::to_string(block.at("response").get<int>()));
    Options options;
    options.tol = 1e-12;
    options.standardize = variant == "standardized";
    options.max_iterations = 20'000;
    Wish wish{set.response(block.at("response")), {}, block.at("l1_ratio"), {}, {}};
    if (variant == "weighted") wish.weight = set.weights.f64;
    Data factors;
    std::vector<double> l2_factor;
    for (const json& fit : block.at("fits")) wish.lambda.push_back(fit.at("lambda"));
    if (wish.l1_ratio < 1.0) {
      const json& first = block.at("fits").front();
      const double plain = first.at("lambda").get<double>() * (1.0 - wish.l1_ratio);
      l2_factor.assign(at(set.X.cols), first.at("l2_penalty").get<double>() / plain);
      factors.l2_factor = l2_factor;
    }

    const EngineRun run(set.X.view(), {wish}, options, factors);

    const double null_loss = block.at("null_loss");
    for (std::size_t l = 0; l < wish.lambda.size(); ++l) {
      const Fit& fit = run.fit(0, static_cast<Index>(l));
      EXPECT_NEAR(fit.objective / null_loss,
                  block.at("fits")[l].at("objective").get<double>() / null_loss, 1e-9)
          << "ratio " << block.at("fits")[l].at("ratio") << ", gap " << fit.gap << ", "
          << thresher::name(fit.status) << " after " << fit.iterations << " iterations";
      EXPECT_LE(fit.gap, 1e-10) << "ratio " << block.at("fits")[l].at("ratio");
    }
  }
}

TEST(ProximalDatasets, DiabetesMatchesItsReference) { expect_reference_objectives("diabetes"); }
TEST(ProximalDatasets, MeatsMatchesItsReference) { expect_reference_objectives("meats"); }

}  // namespace
}  // namespace thresher::testing_proximal
