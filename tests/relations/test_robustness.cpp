#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "relations/relation_fixture.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

double tol(const EngineUnderTest& engine) { return engine.tol() * 1.01 + 1e-13; }

TEST_P(Relation, R25_a_warm_start_from_junk_is_a_cold_start) {
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (Case given : {tall(), wide()}) {
      given = dressed(given, 25);
      given.l1_ratio = l1_ratio;
      given = with_grid(given, {1.1, 0.3, 0.05});
      const Answer cold = solve(GetParam(), given);
      Random random(251);
      for (Index j = 0; j < given.p; ++j) given.warm.push_back(100 * random.normal());
      const Answer warm = solve(GetParam(), given);
      expect_good(warm);
      expect_maps_to(warm, given, tol(GetParam()), [](oracle::Solution&) {});
      expect_maps_to(cold, given, tol(GetParam()), [](oracle::Solution&) {});
      if (l1_ratio > 0) {
        EXPECT_EQ(warm.model.n_nonzero[0], 0);
      }
    }
  }
}

TEST_P(Relation, R32_inputs_are_unchanged) {
  Case given = dressed(tall(), 32);
  given.l1_ratio = GetParam().l1_ratios().back();
  given.standardize = true;
  given.R = 2;
  for (Index i = 0; i < given.n; ++i) given.Y.push_back(given.x(i, 2) - given.y(i));
  given.response_weight = random_weights(2 * given.n, 321);
  given.warm.assign(at(2 * given.p), 0.25);
  given = with_grid(given, {0.5, 0.1});
  Call call(GetParam(), given);
  const Case before = call.given;
  std::vector<float> x_before(given.X.begin(), given.X.end());
  fit_path(call.data, call.options);
  CvOptions cv;
  cv.n_folds = 3;
  cross_validate(call.data, call.options, cv);
  auto same = [](const std::vector<double>& one, const std::vector<double>& other) {
    return one.size() == other.size() &&
           std::memcmp(one.data(), other.data(), one.size() * sizeof(double)) == 0;
  };
  EXPECT_TRUE(same(before.X, call.given.X));
  EXPECT_TRUE(same(before.Y, call.given.Y));
  EXPECT_TRUE(same(before.w, call.given.w));
  EXPECT_TRUE(same(before.response_weight, call.given.response_weight));
  EXPECT_TRUE(same(before.u, call.given.u));
  EXPECT_TRUE(same(before.v, call.given.v));
  EXPECT_TRUE(same(before.d, call.given.d));
  EXPECT_TRUE(same(before.grid, call.given.grid));
  EXPECT_TRUE(same(before.warm, call.given.warm));
  for (Index i = 0; i < given.n; ++i) {
    for (Index j = 0; j < given.p; ++j) {
      EXPECT_EQ(element(call.data.X, i, j), before.x(i, j)) << i << ", " << j;
    }
  }
}

template <class T>
void expect_layouts_agree(const EngineUnderTest& engine, const Case& given) {
  Call call(engine, given);
  const Model plain = fit_path(call.data, call.options);
  const Index n = given.n;
  const Index p = given.p;

  std::vector<T> rows;
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < p; ++j) rows.push_back(static_cast<T>(given.x(i, j)));
  }
  call.data.X = MatrixView<const T>::row_major(rows.data(), n, p);
  expect_same_bits(fit_path(call.data, call.options), plain, "row-major");

  // Every third element of every second row of a larger array that holds NaN elsewhere.
  std::vector<T> spread(at(2 * n * 3 * p), std::numeric_limits<T>::quiet_NaN());
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < p; ++j) {
      spread[at(2 * i * 3 * p + 3 * j)] = static_cast<T>(given.x(i, j));
    }
  }
  call.data.X = MatrixView<const T>{spread.data(), n, p, 2 * 3 * p, 3};
  expect_same_bits(fit_path(call.data, call.options), plain, "strided");

  std::vector<T> backwards(rows.rbegin(), rows.rend());
  call.data.X = MatrixView<const T>{backwards.data() + n * p - 1, n, p, -p, -1};
  expect_same_bits(fit_path(call.data, call.options), plain, "negative strides");

  std::vector<double> y_rows(at(n * 2), kNan);
  for (Index i = 0; i < n; ++i) y_rows[at(2 * i)] = given.y(i);
  call.data.Y = MatrixView<const double>{y_rows.data(), n, 1, 2, 1};
  expect_same_bits(fit_path(call.data, call.options), plain, "strided Y");
}

TEST_P(Relation, R33_layouts_give_the_same_bits) {
  Case given = dressed(tall(), 33);
  given.l1_ratio = GetParam().l1_ratios().back();
  given = with_grid(given, {0.5, 0.1});
  if (GetParam().is_float) {
    expect_layouts_agree<float>(GetParam(), given);
  } else {
    expect_layouts_agree<double>(GetParam(), given);
  }
}

/// The call is refused as an invalid argument, and the message contains every one of `words`.
void expect_refused(const EngineUnderTest& engine, const Case& given,
                    const std::vector<std::string>& words, const Tweak& tweak = {}) {
  SCOPED_TRACE("about " + words.front());
  try {
    solve(engine, given, tweak);
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kInvalidArgument) << error.what();
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
          << "'" << error.what() << "' does not mention " << word;
    }
  }
}

TEST_P(Relation, R36_values_that_are_not_finite_are_refused) {
  Case good = dressed(tall(), 36);
  good.l1_ratio = GetParam().l1_ratios().back();
  good = with_grid(good, {0.5, 0.1});
  for (double bad : {kNan, kInfinity, -kInfinity}) {
    Case given = good;
    given.x(7, 5) = bad;
    expect_refused(GetParam(), given, {"X", "7", "5"});
    given = good;
    given.y(11) = bad;
    expect_refused(GetParam(), given, {"Y", "11"});
    given = good;
    given.w[6] = bad;
    expect_refused(GetParam(), given, {"weight", "6"});
    given = good;
    given.response_weight.assign(at(given.n), 1.0);
    given.response_weight[9] = bad;
    expect_refused(GetParam(), given, {"weight", "9"});
    given = good;
    given.grid[0] = bad;
    expect_refused(GetParam(), given, {"lambda"});
    given = good;
    given.d[3] = bad;
    expect_refused(GetParam(), given, {"fixed_l2", "3"});
    given = good;
    given.warm.assign(at(given.p), 0.0);
    given.warm[2] = bad;
    expect_refused(GetParam(), given, {"warm_start"});
    if (bad == kInfinity) continue;  // infinite l1 and l2 factors exclude
    given = good;
    given.u[3] = bad;
    expect_refused(GetParam(), given, {"l1_factor", "3"});
    given = good;
    given.v[4] = bad;
    expect_refused(GetParam(), given, {"l2_factor", "4"});
  }
  // A row without weight is no excuse.
  Case given = good;
  given.w[7] = 0.0;
  given.x(7, 5) = kNan;
  expect_refused(GetParam(), given, {"X", "7", "5"});
  // With the missing option NaN in Y is a missing value, infinity is not.
  given = good;
  given.missing = true;
  given.y(11) = kInfinity;
  expect_refused(GetParam(), given, {"Y", "11"});

  expect_refused(GetParam(), good, {"tol"}, [](Call& call) { call.options.tol = kNan; });
  expect_refused(GetParam(), good, {"dropout"},
                 [](Call& call) { call.options.dropout_rate = kNan; });
  expect_refused(GetParam(), good, {"l1_ratio"},
                 [](Call& call) { call.options.l1_ratio = {kNan}; });
}

/// Runs with every accelerator on and off; all answers must be optimal and share one support where
/// it is unique.
void expect_accelerators_change_nothing(const EngineUnderTest& engine, const Case& given) {
  for (bool proven_skip : {true, false}) {
    for (bool low_precision : {true, false}) {
      for (Index look_ahead : {1, 8}) {
        SCOPED_TRACE("proven_skip " + std::to_string(proven_skip) + ", low_precision " +
                     std::to_string(low_precision) + ", look_ahead " + std::to_string(look_ahead));
        const Answer answer = solve(engine, given, [&](Call& call) {
          call.options.proven_skip = proven_skip;
          call.options.low_precision = low_precision;
          call.options.look_ahead = look_ahead;
        });
        expect_good(answer);
        expect_maps_to(answer, given, tol(engine), [](oracle::Solution&) {});
      }
    }
  }
}

TEST_P(Relation, R38_accelerators_change_nothing) {
  for (double l1_ratio : {1.0, 0.5}) {
    Case given = dressed(wide(), 38);
    given.l1_ratio = l1_ratio;
    std::vector<double> fractions;
    for (int k = 0; k < 20; ++k) fractions.push_back(std::pow(0.8, k));
    expect_accelerators_change_nothing(GetParam(), with_grid(given, fractions));
  }
}

TEST_P(Relation, R38_accelerators_change_nothing_on_200_rows_and_1000_columns) {
  std::vector<double> fractions;
  for (int k = 0; k < 15; ++k) fractions.push_back(std::pow(0.85, k));
  expect_accelerators_change_nothing(GetParam(), with_grid(large(), fractions));
}

// Supports stay below what ends solving ahead (ResidualBackend::max_look_ahead).
TEST_P(Relation, R38_accelerators_change_nothing_where_lambdas_are_solved_ahead) {
  std::vector<double> fractions;
  for (int k = 0; k < 20; ++k) fractions.push_back(std::pow(0.75, k));
  expect_accelerators_change_nothing(GetParam(), with_grid(wider(), fractions));
}

/// A column that must enter, while its product in half precision is below a_j by nearly all of the
/// bound |x - xh| |z|: every x_i lies just off a half-precision number, on the side of z_i. The
/// first guess of the working set is filled with 400 decoys, shrunk copies of the one true feature.
/// Bounds that are 10 % too small take the column for inactive.
TEST_P(Relation, R38_an_adversarial_column_is_not_missed) {
  const Index n = 64;
  const Index n_decoys = 400;
  const double off = 0x1p-12 * 0.999;  // half precision is 2^-11 apart in [1/2, 1)
  const double excess = 2e-5;          // how far its correlation exceeds a_j
  Random random(381);
  std::vector<double> s, adversary, t;
  double mean = 0;
  for (Index i = 0; i < n; ++i) {
    s.push_back(i % 2 == 0 ? 1.0 : -1.0);
    const double half = (0.55 + 0.4 * random.uniform()) * 2048;
    const double side = i % 6 < 4 ? s.back() : -s.back();
    adversary.push_back(side * std::floor(half) / 2048 + s.back() * off);
    mean += s.back() * adversary.back() / static_cast<double>(n);
    t.push_back(random.normal());
  }
  double along = 0;
  for (Index i = 0; i < n; ++i) along += s[at(i)] * t[at(i)] / static_cast<double>(n);

  Case given;
  given.n = n;
  given.p = n_decoys + 2;
  given.intercept = false;
  double product = 0;
  for (Index i = 0; i < n; ++i) {
    const double value = mean / (1 + excess) * s[at(i)] + t[at(i)] - along * s[at(i)];
    given.X.push_back(static_cast<double>(static_cast<float>(value)));
    product += s[at(i)] * given.X.back() / static_cast<double>(n);
    given.Y.push_back(4 * given.X.back() + s[at(i)]);
  }
  for (Index k = 0; k < n_decoys; ++k) {
    const double share = 0.9 + 0.05 * static_cast<double>(k) / static_cast<double>(n_decoys);
    for (Index i = 0; i < n; ++i) {
      given.X.push_back(static_cast<double>(static_cast<float>(share * given.x(i, 0))));
    }
  }
  given.X.insert(given.X.end(), adversary.begin(), adversary.end());
  // At the first lambda the residual of the first feature alone is s; the others make passes enough
  // for a half-precision copy to be made.
  given.grid = {product, 0.9 * product, 0.8 * product, 0.7 * product};

  const Answer answer = solve(GetParam(), given, [](Call& call) { call.options.tol = 1e-8; });
  expect_good(answer);
  expect_maps_to(answer, given, 1.01e-8, [](oracle::Solution&) {});
  EXPECT_NE(coefficients(answer.model, 0, 0).back(), 0.0);
}

/// The same for the bound of a proven skip, |s| |x_j' z_ref| + |x_j| |z - s z_ref|: the column lies
/// along z - s z_ref, z_ref being y, so that nothing of the bound is given away. All other columns
/// are far too small to matter.
TEST_P(Relation, R38_an_adversarial_column_is_not_missed_by_the_skip) {
  const Index n = 64;
  const Index n_small = 320;
  const double n_rows = static_cast<double>(n);
  Random random(382);
  auto dot = [&](const std::vector<double>& u, const std::vector<double>& v) {
    double sum = 0;
    for (Index i = 0; i < n; ++i) sum += u[at(i)] * v[at(i)] / n_rows;
    return sum;
  };
  // Two directions of length 1, x and t; y = x + t, and the residual at lambda is lambda x + t.
  std::vector<double> x, t, along;
  for (Index i = 0; i < n; ++i) {
    x.push_back(static_cast<double>(static_cast<float>(random.normal())));
    t.push_back(random.normal());
  }
  const double length = std::sqrt(dot(x, x));
  for (double& value : x) value /= length;
  const double share = dot(x, t);
  for (Index i = 0; i < n; ++i) t[at(i)] -= share * x[at(i)];
  const double t_length = std::sqrt(dot(t, t));
  for (double& value : t) value /= t_length;

  const double lambda = 0.7;
  const double s = (lambda + 1) / 2;  // of the residual on y
  for (Index i = 0; i < n; ++i) along.push_back((lambda - s) * x[at(i)] + (1 - s) * t[at(i)]);
  const double scale = 1.001 * lambda / dot(along, along);

  Case given;
  given.n = n;
  given.p = n_small + 2;
  given.intercept = false;
  given.X = x;
  for (Index k = 0; k < n_small * n; ++k) given.X.push_back(1e-3 * random.normal());
  for (Index i = 0; i < n; ++i) given.X.push_back(scale * along[at(i)]);
  for (Index i = 0; i < n; ++i) given.Y.push_back(x[at(i)] + t[at(i)]);
  given.grid = {lambda};

  const Answer answer = solve(GetParam(), given, [](Call& call) { call.options.tol = 1e-8; });
  expect_good(answer);
  expect_maps_to(answer, given, 1.01e-8, [](oracle::Solution&) {});
  EXPECT_NE(coefficients(answer.model, 0, 0).back(), 0.0);
}

TEST_P(Relation, R39_gram_mode_is_residual_mode) {
  EngineUnderTest other = GetParam();
  other.mode = other.mode == Mode::kGram ? Mode::kResidual : Mode::kGram;
  for (double l1_ratio : GetParam().l1_ratios()) {
    for (Case given : {tall(), wide(), narrow(), ties()}) {
      given = dressed(given, 39);
      given.l1_ratio = l1_ratio;
      given = with_grid(given, {0.9, 0.3, 0.05, 0.01});
      const Answer one = solve(GetParam(), given);
      const Answer two = solve(other, given);
      expect_maps_to(one, given, tol(GetParam()), [](oracle::Solution&) {});
      expect_maps_to(two, given, tol(GetParam()), [](oracle::Solution&) {});
      for (std::size_t f = 0; f < one.model.objective.size(); ++f) {
        EXPECT_EQ(one.model.mode[f], static_cast<int>(GetParam().mode));
        EXPECT_EQ(two.model.mode[f], static_cast<int>(other.mode));
        EXPECT_NEAR(one.model.objective[f], two.model.objective[f],
                    tol(GetParam()) *
                        static_cast<double>(oracle::null_loss(oracle_problem(given, 0, 1.0))));
      }
    }
  }
}

}  // namespace
}  // namespace thresher
