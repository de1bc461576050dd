#include "relations/relation_case.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numbers>
#include <ostream>
#include <utility>

namespace thresher {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

double to_float(double value) { return static_cast<double>(static_cast<float>(value)); }

/// AR(1) columns with the given correlation, a sparse truth and noise.
Case simulated(Index n, Index p, double correlation, double offset, Index support, double noise,
               std::uint64_t seed) {
  Random random(seed);
  Case out;
  out.n = n;
  out.p = p;
  out.X.resize(at(n * p));
  out.Y.resize(at(n));
  const double fresh = std::sqrt(1 - correlation * correlation);
  for (Index i = 0; i < n; ++i) {
    double previous = random.normal();
    for (Index j = 0; j < p; ++j) {
      const double value = j == 0 ? previous : correlation * previous + fresh * random.normal();
      previous = value;
      out.x(i, j) = to_float(value + offset);
    }
  }
  for (Index i = 0; i < n; ++i) {
    double fitted = 1.5;
    for (Index k = 0; k < support; ++k) {
      const Index j = k * p / support;
      fitted += (k % 2 == 0 ? 1.0 : -0.7) * (out.x(i, j) - offset);
    }
    out.y(i) = fitted + noise * random.normal();
  }
  return out;
}

template <class T>
MatrixView<const double> column_view(const std::vector<T>& values, Index rows, Index cols) {
  return MatrixView<const double>::column_major(values.data(), rows, cols);
}

}  // namespace

std::vector<double> EngineUnderTest::l1_ratios() const {
  if (is_ridge()) return {0.0};
  return {1.0, 0.5};
}

void PrintTo(const EngineUnderTest& engine, std::ostream* out) { *out << engine.name; }

const std::vector<EngineUnderTest>& engines_under_test() {
  static const std::vector<EngineUnderTest> engines = [] {
    std::vector<EngineUnderTest> out;
    for (bool is_float : {false, true}) {
      const std::string suffix = is_float ? "_float" : "_double";
      out.push_back({"reference" + suffix, Engine::kReference, Mode::kAuto, is_float});
      out.push_back(
          {"proximal_gradient" + suffix, Engine::kProximalGradient, Mode::kAuto, is_float});
      out.push_back({"active_set_gram" + suffix, Engine::kActiveSet, Mode::kGram, is_float});
      out.push_back(
          {"active_set_residual" + suffix, Engine::kActiveSet, Mode::kResidual, is_float});
      out.push_back({"ridge" + suffix, Engine::kRidge, Mode::kAuto, is_float});
      out.push_back({"auto" + suffix, Engine::kAuto, Mode::kAuto, is_float});
    }
    return out;
  }();
  return engines;
}

std::uint64_t Random::bits() {
  state_ += 0x9e3779b97f4a7c15ULL;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

double Random::uniform() { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53; }

double Random::normal() {
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

Case tall() { return simulated(40, 8, 0.6, 3.0, 3, 0.5, 1); }
Case wide() { return simulated(15, 25, 0.4, 0.0, 4, 0.3, 2); }
Case narrow() { return simulated(30, 6, 0.3, 0.0, 6, 1.0, 3); }
Case large() { return simulated(200, 1000, 0.5, 0.0, 20, 1.0, 4); }

Case wider() { return simulated(64, 1100, 0.5, 0.0, 20, 1.0, 4); }

Case ties() {
  Random random(5);
  Case out;
  out.n = 24;
  out.p = 9;
  out.X.resize(at(out.n * out.p));
  out.Y.resize(at(out.n));
  for (Index i = 0; i < out.n; ++i) {
    for (Index j = 0; j < 5; ++j) out.x(i, j) = static_cast<double>(random.below(7) - 3);
    out.x(i, 5) = out.x(i, 0);
    out.x(i, 6) = -out.x(i, 1);
    out.x(i, 7) = out.x(i, 0) + out.x(i, 2);
    out.x(i, 8) = out.x(i, 3) - out.x(i, 4);
    out.y(i) = 2 * out.x(i, 0) - out.x(i, 1) + out.x(i, 3) + static_cast<double>(random.below(3));
  }
  return out;
}

std::vector<double> random_weights(Index n, std::uint64_t seed) {
  Random random(seed);
  std::vector<double> out;
  for (Index i = 0; i < n; ++i) out.push_back(0.2 + 1.8 * random.uniform());
  return out;
}

Case dressed(Case given, std::uint64_t seed) {
  Random random(seed);
  given.w = random_weights(given.n, random.bits());
  for (std::vector<double>* factor : {&given.u, &given.v, &given.d}) {
    factor->clear();
    for (Index j = 0; j < given.p; ++j) factor->push_back(0.5 + random.uniform());
  }
  for (double& value : given.d) value *= 0.02;
  return given;
}

Case with_grid(Case given, const std::vector<double>& fractions) {
  given.grid.clear();
  given.grid_rows = given.R;
  for (Index r = 0; r < given.R; ++r) {
    const oracle::Problem problem = oracle_problem(given, r, 1.0);
    oracle::Real top = 0;
    if (given.l1_ratio > 0) {
      top = oracle::lambda_max(problem);
    } else {
      for (Index j = 0; j < given.p; ++j) {
        const oracle::Moments m = oracle::moments(problem, j);
        if (problem.excluded[at(j)] || problem.v[at(j)] == 0) continue;
        top = std::max(top, (given.intercept ? m.sd * m.sd : m.second) / problem.v[at(j)]);
      }
    }
    for (double fraction : fractions) {
      given.grid.push_back(static_cast<double>(top) * fraction);
    }
  }
  return given;
}

Case take_rows(const Case& given, const std::vector<Index>& order) {
  Case out = given;
  out.n = static_cast<Index>(order.size());
  out.X.clear();
  out.Y.clear();
  out.w.clear();
  out.response_weight.clear();
  for (Index j = 0; j < given.p; ++j) {
    for (Index i : order) out.X.push_back(given.x(i, j));
  }
  for (Index r = 0; r < given.R; ++r) {
    for (Index i : order) {
      out.Y.push_back(given.y(i, r));
      if (!given.response_weight.empty()) {
        out.response_weight.push_back(given.response_weight[at(i + r * given.n)]);
      }
    }
  }
  for (Index i : order) {
    if (!given.w.empty()) out.w.push_back(given.w[at(i)]);
  }
  return out;
}

Case take_columns(const Case& given, const std::vector<Index>& order) {
  Case out = given;
  out.p = static_cast<Index>(order.size());
  out.X.clear();
  for (Index j : order) {
    for (Index i = 0; i < given.n; ++i) out.X.push_back(given.x(i, j));
  }
  const std::pair<const std::vector<double>*, std::vector<double>*> factors[] = {
      {&given.u, &out.u}, {&given.v, &out.v}, {&given.d, &out.d}};
  for (auto [from, to] : factors) {
    to->clear();
    for (Index j : order) {
      if (!from->empty()) to->push_back((*from)[at(j)]);
    }
  }
  out.warm.clear();
  return out;
}

namespace {

std::vector<Index> positions(const std::vector<char>& keep) {
  std::vector<Index> out;
  for (std::size_t k = 0; k < keep.size(); ++k) {
    if (keep[k]) out.push_back(static_cast<Index>(k));
  }
  return out;
}

}  // namespace

Case keep_rows(const Case& given, const std::vector<char>& keep) {
  return take_rows(given, positions(keep));
}

Case keep_columns(const Case& given, const std::vector<char>& keep) {
  return take_columns(given, positions(keep));
}

Case one_response(const Case& given, Index r) {
  Case out = given;
  out.R = 1;
  auto part = [&](const std::vector<double>& values, Index size) {
    return std::vector<double>(values.begin() + r * size, values.begin() + (r + 1) * size);
  };
  out.Y = part(given.Y, given.n);
  if (!given.response_weight.empty()) out.response_weight = part(given.response_weight, given.n);
  if (!given.warm.empty()) out.warm = part(given.warm, given.p);
  if (given.grid_rows > 1) {
    out.grid = part(given.grid, static_cast<Index>(given.grid.size()) / given.grid_rows);
    out.grid_rows = 1;
  }
  return out;
}

Call::Call(const EngineUnderTest& engine, const Case& as_given) : given(as_given) {
  if (engine.is_float) {
    for (double& value : given.X) {
      x_float_.push_back(static_cast<float>(value));
      value = static_cast<double>(x_float_.back());
    }
    data.X = MatrixView<const float>::column_major(x_float_.data(), given.n, given.p);
  } else {
    data.X = column_view(given.X, given.n, given.p);
  }
  data.Y = column_view(given.Y, given.n, given.R);
  data.sample_weight = given.w;
  if (!given.response_weight.empty()) {
    data.response_weight = column_view(given.response_weight, given.n, given.R);
  }
  data.l1_factor = given.u;
  data.l2_factor = given.v;
  data.fixed_l2 = given.d;
  data.missing_responses = given.missing;

  options.intercept = given.intercept;
  options.standardize = given.standardize;
  options.dropout_rate = given.dropout;
  options.l1_ratio = {given.l1_ratio};
  if (!given.grid.empty()) {
    const Index n_lambdas = static_cast<Index>(given.grid.size()) / given.grid_rows;
    options.lambda_grid =
        MatrixView<const double>::row_major(given.grid.data(), given.grid_rows, n_lambdas);
  }
  if (!given.warm.empty()) options.warm_start = column_view(given.warm, given.p, given.R);
  options.tol = engine.tol();
  options.early_stop.reset();
  options.engine = engine.engine;
  options.mode = engine.mode;
  options.threads = 1;
  // THRESHER_TEST_DEVICE=cuda runs every engine that knows a device on the library that
  // THRESHER_CUDA_LIBRARY names: a GPU's, or the emulator's of tests/cuda_on_cpu.
  const char* device = std::getenv("THRESHER_TEST_DEVICE");
  if (device != nullptr && std::string(device) == "cuda" && engine.engine != Engine::kReference) {
    options.device = Device::kCuda;
  }
}

Answer solve(const EngineUnderTest& engine, const Case& given, const Tweak& tweak) {
  Call call(engine, given);
  if (tweak) tweak(call);
  Model model = fit_path(call.data, call.options);
  return {call.given, std::move(model)};
}

Answer cross_validated(const EngineUnderTest& engine, const Case& given, const CvOptions& cv,
                       const Tweak& tweak) {
  Call call(engine, given);
  if (tweak) tweak(call);
  Model model = cross_validate(call.data, call.options, cv);
  return {call.given, std::move(model)};
}

oracle::Problem oracle_problem(const Case& given, Index r, double lambda) {
  using oracle::Real;
  oracle::Problem out;
  out.n = given.n;
  out.p = given.p;
  out.X.assign(given.X.begin(), given.X.end());
  out.l1_ratio = given.l1_ratio;
  out.lambda = lambda;
  out.intercept = given.intercept;
  Real total = 0;
  for (Index i = 0; i < given.n; ++i) {
    Real weight = given.w.empty() ? 1 : given.w[at(i)];
    if (!given.response_weight.empty()) weight *= given.response_weight[at(i + r * given.n)];
    const bool missing = std::isnan(given.y(i, r));
    out.w.push_back(missing ? 0 : weight);
    out.y.push_back(missing ? 0 : given.y(i, r));
    total += out.w.back();
  }
  for (Real& weight : out.w) weight /= total;

  for (Index j = 0; j < given.p; ++j) {
    Real u = given.u.empty() ? 1 : given.u[at(j)];
    Real v = given.v.empty() ? 1 : given.v[at(j)];
    Real d = given.d.empty() ? 0 : given.d[at(j)];
    bool excluded = std::isinf(u) || std::isinf(v);
    const oracle::Moments m = oracle::moments(out, j);
    if (given.standardize && !excluded) {
      excluded = m.sd <= Real(given.n) * std::numeric_limits<double>::epsilon() * m.largest;
      u *= m.sd;
      v *= m.sd * m.sd;
    }
    d += Real(given.dropout) / (1 - Real(given.dropout)) * m.second;
    out.excluded.push_back(excluded);
    out.u.push_back(excluded ? 0 : u);
    out.v.push_back(excluded ? 0 : v);
    out.d.push_back(excluded ? 0 : d);
  }
  return out;
}

oracle::Solution solution(const Model& model, Index r, Index l) {
  oracle::Solution out;
  const std::vector<double> coef = coefficients(model, r, l);
  out.coef.assign(coef.begin(), coef.end());
  out.intercept = model.intercept[at(model.fit(r, 0, l))];
  return out;
}

std::vector<double> coefficients(const Model& model, Index r, Index l) {
  std::vector<double> out(at(model.n_features), 0.0);
  const Index f = model.fit(r, 0, l);
  for (Index k = model.coef_indptr[at(f)]; k < model.coef_indptr[at(f + 1)]; ++k) {
    out[at(model.coef_indices[at(k)])] = model.coef_values[at(k)];
  }
  return out;
}

void for_each_fit(const Answer& answer,
                  const std::function<void(const oracle::Problem&, const oracle::Solution&, Index,
                                           Index)>& check) {
  const Model& model = answer.model;
  for (Index r = 0; r < model.n_responses; ++r) {
    for (Index l = 0; l < model.n_lambdas; ++l) {
      const Index f = model.fit(r, 0, l);
      SCOPED_TRACE("response " + std::to_string(r) + ", lambda " + std::to_string(l));
      check(oracle_problem(answer.given, r, model.lambda[at(f)]), solution(model, r, l), f, l);
    }
  }
}

void expect_good(const Answer& answer) {
  for (std::size_t f = 0; f < answer.model.status.size(); ++f) {
    EXPECT_TRUE(is_good(static_cast<Status>(answer.model.status[f])))
        << "fit " << f << " ended as " << name(static_cast<Status>(answer.model.status[f]))
        << " with gap " << answer.model.gap[f];
  }
}

void expect_optimal(const oracle::Problem& problem, const oracle::Solution& solution_at, double tol,
                    const std::string& what) {
  const double gap = static_cast<double>(oracle::relative_gap(problem, solution_at));
  EXPECT_GE(gap, -1e-12) << what;
  EXPECT_LE(gap, tol) << what;
}

void expect_maps_to(const Answer& answer, const Case& original, double tol,
                    const std::function<void(oracle::Solution&)>& map) {
  const Index n_lambdas = static_cast<Index>(original.grid.size()) / original.grid_rows;
  ASSERT_EQ(answer.model.n_lambdas, n_lambdas);
  for (Index r = 0; r < original.R; ++r) {
    for (Index l = 0; l < n_lambdas; ++l) {
      const Index row = original.grid_rows > 1 ? r : 0;
      oracle::Solution mapped = solution(answer.model, r, l);
      map(mapped);
      expect_optimal(oracle_problem(original, r, original.grid[at(row * n_lambdas + l)]), mapped,
                     tol, "response " + std::to_string(r) + ", lambda " + std::to_string(l));
    }
  }
}

namespace {

template <class T>
void expect_equal_bits(const std::vector<T>& one, const std::vector<T>& other,
                       const std::string& what) {
  ASSERT_EQ(one.size(), other.size()) << what;
  if (one.empty()) return;
  EXPECT_EQ(std::memcmp(one.data(), other.data(), one.size() * sizeof(T)), 0) << what;
}

}  // namespace

void expect_same_bits(const Model& one, const Model& other, const std::string& what) {
  expect_equal_bits(one.lambda, other.lambda, what + ": lambda");
  expect_equal_bits(one.intercept, other.intercept, what + ": intercept");
  expect_equal_bits(one.objective, other.objective, what + ": objective");
  expect_equal_bits(one.gap, other.gap, what + ": gap");
  expect_equal_bits(one.deviance, other.deviance, what + ": deviance");
  expect_equal_bits(one.status, other.status, what + ": status");
  expect_equal_bits(one.coef_indptr, other.coef_indptr, what + ": coef_indptr");
  expect_equal_bits(one.coef_indices, other.coef_indices, what + ": coef_indices");
  expect_equal_bits(one.coef_values, other.coef_values, what + ": coef_values");
  ASSERT_EQ(one.cv.has_value(), other.cv.has_value()) << what;
  if (!one.cv) return;
  expect_equal_bits(one.cv->error, other.cv->error, what + ": cv.error");
  expect_equal_bits(one.cv->se, other.cv->se, what + ": cv.se");
  expect_equal_bits(one.cv->fold_error, other.cv->fold_error, what + ": cv.fold_error");
  expect_equal_bits(one.cv->best, other.cv->best, what + ": cv.best");
}

}  // namespace thresher
