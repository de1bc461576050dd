#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "thresher/error.hpp"
#include "thresher/fit.hpp"

namespace thresher {
namespace {

using Choice = std::vector<std::pair<Index, Index>>;

// A model of one l1_ratio and one lambda; response r uses each feature with probability density[r].
Model random_model(Index n_features, const std::vector<double>& density, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  Model model;
  model.n_samples = 1;
  model.n_features = n_features;
  model.n_responses = static_cast<Index>(density.size());
  model.n_l1_ratios = model.n_lambdas = 1;
  model.coef_indptr.push_back(0);
  for (const double share : density) {
    model.status.push_back(0);
    model.coef_kept.push_back(1);
    model.intercept.push_back(normal(random));
    for (Index j = 0; j < n_features; ++j) {
      if (uniform(random) >= share) continue;
      model.coef_indices.push_back(j);
      model.coef_values.push_back(normal(random));
    }
    model.coef_indptr.push_back(static_cast<Index>(model.coef_indices.size()));
  }
  return model;
}

double plain(const Model& model, const AnyMatrix& X, Index i, Index r) {
  const auto fit = static_cast<std::size_t>(r);
  double sum = model.intercept[fit];
  for (Index k = model.coef_indptr[fit]; k < model.coef_indptr[fit + 1]; ++k) {
    const auto entry = static_cast<std::size_t>(k);
    sum += element(X, i, model.coef_indices[entry]) * model.coef_values[entry];
  }
  return sum;
}

// The order of the sums is that of the plain loop, so all digits must agree.
void expect_plain(const Model& model, const AnyMatrix& X, MatrixView<double> out) {
  predict(model, X, Choice(static_cast<std::size_t>(model.n_responses), {0, 0}), out);
  for (Index r = 0; r < model.n_responses; ++r) {
    for (Index i = 0; i < rows(X); ++i) {
      ASSERT_EQ(out(i, r), plain(model, X, i, r)) << i << " " << r;
    }
  }
}

// Every layout of an n x p matrix in one array with room between the elements.
template <class T>
std::vector<MatrixView<const T>> layouts(const std::vector<T>& values, Index n, Index p) {
  const T* first = values.data();
  const T* last = first + 6 * n * p - 1;
  return {
      {first, n, p, 1, n},          {first, n, p, p, 1},
      {first, n, p, 2, 2 * n},      {first, n, p, 3 * p, 3},
      {last, n, p, -1, -n},         {last, n, p, -p, -1},
      {last, n, p, -2, -2 * n},     {first + n - 1, n, p, -1, n},
      {first + p - 1, n, p, p, -1}, {first + (p - 1) * n, n, p, 1, -n},
  };
}

template <class T>
void check_all_layouts(Index n, Index p, const std::vector<double>& density) {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal;
  std::vector<T> values(static_cast<std::size_t>(6 * n * p));
  for (T& value : values) value = static_cast<T>(normal(random));
  const std::vector<T> untouched = values;
  const Model model = random_model(p, density, 7);
  for (const auto& X : layouts(values, n, p)) {
    std::vector<double> out(density.size() * static_cast<std::size_t>(n) * 2,
                            std::numeric_limits<double>::quiet_NaN());
    const auto r = static_cast<Index>(density.size());
    expect_plain(model, X, MatrixView<double>::column_major(out.data(), n, r));
    expect_plain(model, X, MatrixView<double>::row_major(out.data(), n, r));
    expect_plain(model, X, {out.data() + 2 * n * r - 2, n, r, -2, -2 * n});
  }
  EXPECT_EQ(values, untouched);
}

TEST(Predict, EqualsPlainLoopsInEveryLayout) {
  const std::vector<double> mixed = {0.1, 1.0, 0.9, 1.0, 0.8, 0.0, 1.0, 0.3, 1.0, 1.0, 1.0};
  for (const Index n : {1, 7, 8, 31, 33, 300}) {
    check_all_layouts<double>(n, 13, mixed);
    check_all_layouts<float>(n, 13, mixed);
  }
  check_all_layouts<double>(5, 1, mixed);
  check_all_layouts<double>(70, 6000, {0.01, 0.9, 0.9, 1.0, 1.0, 0.5});  // several row blocks
}

// Columns that no response uses are not copied, which shifts the places of the others.
TEST(Predict, EqualsPlainLoopsWithUnusedColumns) {
  const Index n = 50;
  std::vector<double> values(static_cast<std::size_t>(n * 40));
  std::mt19937_64 random(9);
  for (double& value : values) value = std::normal_distribution<double>()(random);
  for (const double density : {0.1, 0.9}) {
    Model model = random_model(20, std::vector<double>(9, density), 11);
    model.n_features = 40;
    for (Index& j : model.coef_indices) j = 2 * j + 1;
    std::vector<double> out(9 * 50);
    expect_plain(model, MatrixView<const double>::row_major(values.data(), n, 40),
                 MatrixView<double>::column_major(out.data(), n, 9));
  }
}

TEST(Predict, NoCoefficientsGiveTheIntercept) {
  const std::vector<double> values(20, 3.0);
  std::vector<double> out(10);
  expect_plain(random_model(4, {0.0, 0.0}, 1), MatrixView<const double>{values.data(), 5, 4, 1, 5},
               MatrixView<double>::column_major(out.data(), 5, 2));
}

TEST(Predict, NoRowsGiveNothing) {
  const Model model = random_model(4, {1.0}, 1);
  predict(model, MatrixView<const double>{nullptr, 0, 4, 1, 0}, {{0, 0}},
          MatrixView<double>::column_major(nullptr, 0, 1));
}

TEST(Predict, UsesTheChosenFit) {
  Model model = random_model(3, {1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}, 3);
  model.n_responses = 2;
  model.n_l1_ratios = 2;
  model.n_lambdas = 2;
  const std::vector<double> values = {1.0, 0.5, -2.0};
  const MatrixView<const double> X{values.data(), 1, 3, 1, 1};
  double out[2] = {0, 0};
  predict(model, X, {{1, 0}, {0, 1}}, MatrixView<double>::row_major(out, 1, 2));
  EXPECT_EQ(out[0], plain(model, X, 0, 2));
  EXPECT_EQ(out[1], plain(model, X, 0, 5));
}

template <class Call>
void expect_refused(const std::string& words, Call&& call) {
  try {
    call();
    ADD_FAILURE() << words;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Errc::kInvalidArgument);
    EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
  }
}

TEST(Predict, RefusesWhatDoesNotFit) {
  Model model = random_model(4, {1.0, 0.5}, 3);
  const std::vector<double> values(40, 1.0);
  std::vector<double> storage(20, -7.0);
  const MatrixView<const double> X{values.data(), 5, 4, 1, 5};
  const auto out = MatrixView<double>::column_major(storage.data(), 5, 2);
  const Choice best = {{0, 0}, {0, 0}};
  expect_refused("4 columns, got 5", [&] {
    predict(model, MatrixView<const double>{values.data(), 5, 5, 1, 5}, best, out);
  });
  expect_refused("2 responses, got 1", [&] { predict(model, X, {{0, 0}}, out); });
  expect_refused("5 x 2, got 4 x 2", [&] {
    predict(model, X, best, MatrixView<double>::column_major(storage.data(), 4, 2));
  });
  expect_refused("fit (1, 0) of response 1", [&] { predict(model, X, {{0, 0}, {1, 0}}, out); });
  expect_refused("fit (0, -1) of response 0", [&] { predict(model, X, {{0, -1}, {0, 0}}, out); });
  model.coef_kept[1] = 0;
  expect_refused("coefficients were kept, got fit (0, 0) of response 1",
                 [&] { predict(model, X, best, out); });
  model.status[1] = static_cast<std::uint8_t>(Status::kNotComputed);
  expect_refused("computed, got fit (0, 0) of response 1", [&] { predict(model, X, best, out); });
  EXPECT_EQ(storage, std::vector<double>(20, -7.0));
}

template <class T>
void check_not_finite() {
  const Model model = random_model(4, {0.0}, 3);  // refused in columns without coefficient too
  std::vector<double> storage(5, -7.0);
  const auto out = MatrixView<double>::column_major(storage.data(), 5, 1);
  for (const T bad : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(),
                      -std::numeric_limits<T>::infinity()}) {
    for (const bool row_major : {false, true}) {
      std::vector<T> values(20, std::numeric_limits<T>::max());
      const MatrixView<const T> X = row_major
                                        ? MatrixView<const T>::row_major(values.data(), 5, 4)
                                        : MatrixView<const T>::column_major(values.data(), 5, 4);
      predict(model, X, {{0, 0}}, out);
      storage.assign(5, -7.0);
      values[static_cast<std::size_t>(&X(3, 1) - X.data)] = bad;
      values[static_cast<std::size_t>(&X(2, 3) - X.data)] = bad;
      expect_refused("row 2, column 3", [&] { predict(model, X, {{0, 0}}, out); });
      EXPECT_EQ(storage, std::vector<double>(5, -7.0));
    }
  }
}

TEST(Predict, RefusesValuesThatAreNotFinite) {
  check_not_finite<double>();
  check_not_finite<float>();
}

}  // namespace
}  // namespace thresher
