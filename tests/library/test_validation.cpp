// The table of bad input that a library can meet: what is refused, with which code, and in words
// that name function, argument, rule and value; and what looks odd but must be fitted.

#include <cmath>
#include <limits>

#include "library_case.hpp"

namespace thresher::testing_library {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A call that is right; each test spoils one thing.
struct Spoiled {
  Table table{12, 5, 3};
  Data data = table.data();
  Options options;
  CvOptions cv;
  std::vector<double> weight = std::vector<double>(12, 1.0);
  std::vector<double> factor = std::vector<double>(5, 1.0);
  std::vector<double> grid = {2.0, 1.0, 0.5};
  std::vector<double> matrix;
  std::vector<Index> fold = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2};

  Spoiled() { cv.n_folds = 3; }

  void use_grid(Index n_rows) {
    options.lambda_grid = MatrixView<const double>::row_major(
        grid.data(), n_rows, static_cast<Index>(grid.size()) / n_rows);
  }
};

template <class Run>
void expect_refusal(const std::string& message, Run&& run) {
  try {
    run();
    ADD_FAILURE() << "accepted; expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kInvalidArgument);
    EXPECT_EQ(std::string(error.what()), message);
  }
}

/// Every call refuses with its own name in front, and the inputs stay as they are.
void expect_refused(Spoiled& call, const std::string& rest) {
  const std::vector<double> X = call.table.X, Y = call.table.Y;
  expect_refusal("fit_path" + rest, [&] { fit_path(call.data, call.options); });
  expect_refusal("cross_validate" + rest,
                 [&] { cross_validate(call.data, call.options, call.cv); });
  expect_refusal("plan_path" + rest, [&] { plan_path(call.data, call.options); });
  expect_refusal("plan_cross_validation" + rest,
                 [&] { plan_cross_validation(call.data, call.options, call.cv); });
  expect_same_bits(call.table.X, X, "X");
  expect_same_bits(call.table.Y, Y, "Y");
}

void expect_folds_refused(const Spoiled& call, const std::string& rest) {
  expect_refusal("cross_validate: " + rest,
                 [&] { cross_validate(call.data, call.options, call.cv); });
}

void expect_said(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks: " << part;
}

TEST(Validation, TheUnspoiledCallIsAccepted) {
  Spoiled call;
  call.data.sample_weight = call.weight;
  call.data.l1_factor = call.data.l2_factor = call.data.fixed_l2 = call.factor;
  call.use_grid(1);
  call.cv.fold_id = call.fold;
  EXPECT_EQ(fit_path(call.data, call.options).stats.n_not_converged, 0);
  EXPECT_EQ(cross_validate(call.data, call.options, call.cv).stats.n_not_converged, 0);
}

TEST(Validation, NaNOrInfinityInXIsRefusedAtTheFirstPlaceInColumnOrder) {
  for (const double bad : {kNaN, kInfinity, -kInfinity}) {
    Spoiled call;
    call.table.X[at(3 * 12 + 1)] = bad;
    call.table.X[at(2 * 12 + 7)] = bad;
    for (const bool cv : {false, true}) {
      try {
        cv ? cross_validate(call.data, call.options, call.cv) : fit_path(call.data, call.options);
        ADD_FAILURE() << "accepted " << bad;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Errc::kInvalidArgument);
        expect_said(error.what(), "X must be finite, got ");
        expect_said(error.what(), "row 7");
        expect_said(error.what(), "column 2");
      }
    }
  }
}

TEST(Validation, NaNInXIsRefusedInARowWithoutWeightToo) {
  Spoiled call;
  call.weight[4] = 0.0;
  call.data.sample_weight = call.weight;
  call.table.X[at(4)] = kNaN;
  EXPECT_THROW(fit_path(call.data, call.options), Error);
}

TEST(Validation, NaNOrInfinityInFloatXIsRefused) {
  Spoiled call;
  std::vector<float> X(call.table.X.begin(), call.table.X.end());
  X[at(2 * 12 + 7)] = std::numeric_limits<float>::infinity();
  call.data.X = MatrixView<const float>::column_major(X.data(), 12, 5);
  try {
    fit_path(call.data, call.options);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    expect_said(error.what(), "row 7");
    expect_said(error.what(), "column 2");
  }
}

TEST(Validation, NaNInYNeedsTheMissingResponsesOption) {
  Spoiled call;
  call.table.y(4, 1) = kNaN;
  expect_refused(call,
                 ": Y must be finite (missing responses need the missing-responses option), got "
                 "NaN in row 4, column 1");
  call.data.missing_responses = true;
  EXPECT_EQ(fit_path(call.data, call.options).stats.n_not_converged, 0);
}

TEST(Validation, InfinityInYIsRefusedEvenWhereMissingIsAllowed) {
  Spoiled call;
  call.table.y(4, 1) = kInfinity;
  expect_refused(call, ": Y must be finite, got infinity in row 4, column 1");
  call.data.missing_responses = true;
  expect_refused(call, ": Y must be finite, got infinity in row 4, column 1");
  call.table.y(4, 1) = -kInfinity;
  expect_refused(call, ": Y must be finite, got -infinity in row 4, column 1");
}

TEST(Validation, AResponseThatIsMissingEverywhereIsRefused) {
  Spoiled call;
  for (Index i = 0; i < 12; ++i) call.table.y(i, 1) = kNaN;
  call.data.missing_responses = true;
  expect_refused(call,
                 ": Y must have an observed row with positive weight in every column, got none in "
                 "column 1");
}

TEST(Validation, BadWeightsAreRefused) {
  const struct {
    double value;
    const char* got;
  } bad[] = {{kNaN, "NaN"}, {kInfinity, "infinity"}, {-1.0, "-1"}};
  for (const auto& [value, got] : bad) {
    Spoiled call;
    call.weight[6] = value;
    call.data.sample_weight = call.weight;
    expect_refused(call, std::string(": sample_weight[6] must be finite and >= 0, got ") + got);

    Spoiled own;
    own.matrix.assign(36, 1.0);
    own.matrix[at(2 * 12 + 5)] = value;
    own.data.response_weight = MatrixView<const double>::column_major(own.matrix.data(), 12, 3);
    expect_refused(own, std::string(": response_weight must be finite and >= 0, got ") + got +
                            " in row 5, column 2");
  }
  Spoiled zeros;
  zeros.weight.assign(12, 0.0);
  zeros.data.sample_weight = zeros.weight;
  expect_refused(zeros, ": sample_weight must have a positive entry, got only zeros");

  Spoiled one;
  one.matrix.assign(36, 1.0);
  std::fill(one.matrix.begin() + 12, one.matrix.begin() + 24, 0.0);
  one.data.response_weight = MatrixView<const double>::column_major(one.matrix.data(), 12, 3);
  expect_refused(one,
                 ": Y must have an observed row with positive weight in every column, got none in "
                 "column 1");
}

TEST(Validation, BadFactorsAreRefusedInfinityExcepted) {
  for (const double value : {kNaN, -0.5}) {
    const std::string got = std::isnan(value) ? "NaN" : "-0.5";
    Spoiled call;
    call.factor[3] = value;
    call.data.l1_factor = call.factor;
    expect_refused(call, ": l1_factor[3] must be >= 0, got " + got);
    call.data.l1_factor = {};
    call.data.l2_factor = call.factor;
    expect_refused(call, ": l2_factor[3] must be >= 0, got " + got);
    call.data.l2_factor = {};
    call.data.fixed_l2 = call.factor;
    expect_refused(call, ": fixed_l2[3] must be finite and >= 0, got " + got);
  }
  Spoiled call;
  call.factor[3] = kInfinity;
  call.data.fixed_l2 = call.factor;
  expect_refused(call, ": fixed_l2[3] must be finite and >= 0, got infinity");
  for (const bool first : {true, false}) {
    Spoiled excluding;
    excluding.factor[3] = kInfinity;
    (first ? excluding.data.l1_factor : excluding.data.l2_factor) = excluding.factor;
    const Model model = fit_path(excluding.data, excluding.options);
    EXPECT_EQ(model.stats.n_not_converged, 0);
    for (const Index j : model.coef_indices) EXPECT_NE(j, 3);
  }
}

TEST(Validation, SizesThatDisagreeAreRefusedNamingBoth) {
  Spoiled call;
  call.data.Y = MatrixView<const double>::column_major(call.table.Y.data(), 11, 3);
  expect_refused(call, ": Y must have as many rows as X, 12, got 11");

  Spoiled weights;
  weights.weight.pop_back();
  weights.data.sample_weight = weights.weight;
  expect_refused(weights, ": sample_weight must have size 12, got 11");

  Spoiled own;
  own.matrix.assign(36, 1.0);
  own.data.response_weight = MatrixView<const double>::column_major(own.matrix.data(), 12, 2);
  expect_refused(own, ": response_weight must have the shape of Y, 12 x 3, got 12 x 2");

  Spoiled factors;
  factors.factor.push_back(1.0);
  factors.data.l1_factor = factors.factor;
  expect_refused(factors, ": l1_factor must have size 5, got 6");
  factors.data.l1_factor = {};
  factors.data.l2_factor = factors.factor;
  expect_refused(factors, ": l2_factor must have size 5, got 6");
  factors.data.l2_factor = {};
  factors.data.fixed_l2 = factors.factor;
  expect_refused(factors, ": fixed_l2 must have size 5, got 6");

  Spoiled start;
  start.matrix.assign(20, 0.0);
  start.options.warm_start = MatrixView<const double>::column_major(start.matrix.data(), 5, 2);
  expect_refused(start, ": warm_start must have shape 5 x 3, got 5 x 2");
}

TEST(Validation, NoRowsOrNoColumnsAreRefused) {
  Spoiled call;
  call.data.X = MatrixView<const double>::column_major(call.table.X.data(), 0, 5);
  expect_refused(call, ": X must have at least one row and one column, got 0 x 5");
  call.data.X = MatrixView<const double>::column_major(call.table.X.data(), 12, 0);
  expect_refused(call, ": X must have at least one row and one column, got 12 x 0");
  Spoiled none;
  none.data.Y = MatrixView<const double>::column_major(none.table.Y.data(), 12, 0);
  expect_refused(none, ": Y must have at least one column, got 0");
}

/// Sizes are judged before anything of X or Y is read.
TEST(Validation, SizesBeyondWhatCountsAreRefusedNotWrapped) {
  Spoiled call;
  const Index huge = Index{1} << 40;
  call.data.X = MatrixView<const double>::column_major(call.table.X.data(), huge, huge);
  call.data.Y = MatrixView<const double>::column_major(call.table.Y.data(), huge, 1);
  expect_refused(call, ": X must have fewer than 2^57 elements, got " + std::to_string(huge) +
                           " x " + std::to_string(huge));
}

TEST(Validation, BadLambdasAreRefused) {
  Spoiled call;
  call.grid = {2.0, -1.0, -2.0};
  call.use_grid(1);
  expect_refused(call, ": lambda_grid[1] must be finite and >= 0, got -1");
  call.grid = {2.0, kNaN, 1.0};
  call.use_grid(1);
  expect_refused(call, ": lambda_grid[1] must be finite and >= 0, got NaN");
  call.grid = {kInfinity, 2.0, 1.0};
  call.use_grid(1);
  expect_refused(call, ": lambda_grid[0] must be finite and >= 0, got infinity");
  call.grid = {1.0, 2.0, 0.5};
  call.use_grid(1);
  expect_refused(call,
                 ": lambda_grid[1] must not be above the value before it (the grid descends), got "
                 "2 after 1");
  call.grid = {2.0, 1.0, 2.0, 1.0, 1.0, 3.0};
  call.use_grid(3);
  expect_refused(call,
                 ": lambda_grid[2, 1] must not be above the value before it (the grid descends), "
                 "got 3 after 1");
  call.grid = {2.0, 1.0};
  call.use_grid(2);
  expect_refused(call, ": lambda_grid must have 1 row or one per response, 3, got 2");
  call.options.lambda_grid = MatrixView<const double>::row_major(call.grid.data(), 1, 0);
  expect_refused(call, ": lambda_grid must have at least one value, got 1 x 0");
}

TEST(Validation, BadScalarOptionsAreRefused) {
  const struct {
    std::function<void(Options&)> spoil;
    const char* rest;
  } rows[] = {
      {[](Options& o) { o.l1_ratio = {1.5}; }, ": l1_ratio must lie in [0, 1], got 1.5"},
      {[](Options& o) {
         o.l1_ratio = {0.5, -0.25};
       },
       ": l1_ratio must lie in [0, 1], got -0.25"},
      {[](Options& o) { o.l1_ratio = {kNaN}; }, ": l1_ratio must lie in [0, 1], got NaN"},
      {[](Options& o) { o.l1_ratio = {}; }, ": l1_ratio must have at least one value, got none"},
      {[](Options& o) { o.tol = 0.0; }, ": tol must be > 0, got 0"},
      {[](Options& o) { o.tol = -1.0; }, ": tol must be > 0, got -1"},
      {[](Options& o) { o.tol = kNaN; }, ": tol must be > 0, got NaN"},
      {[](Options& o) { o.tol = kInfinity; }, ": tol must be > 0, got infinity"},
      {[](Options& o) { o.max_iterations = 0; }, ": max_iterations must be at least 1, got 0"},
      {[](Options& o) { o.n_lambdas = 0; }, ": n_lambdas must be at least 1, got 0"},
      {[](Options& o) { o.lambda_min_ratio = 1.0; },
       ": lambda_min_ratio must lie in (0, 1), got 1"},
      {[](Options& o) { o.lambda_min_ratio = 0.0; },
       ": lambda_min_ratio must lie in (0, 1), got 0"},
      {[](Options& o) { o.lambda_min_ratio = kNaN; },
       ": lambda_min_ratio must lie in (0, 1), got NaN"},
      {[](Options& o) { o.dropout_rate = 1.0; }, ": dropout_rate must lie in [0, 1), got 1"},
      {[](Options& o) { o.dropout_rate = -0.5; }, ": dropout_rate must lie in [0, 1), got -0.5"},
      {[](Options& o) { o.dropout_rate = kNaN; }, ": dropout_rate must lie in [0, 1), got NaN"},
      {[](Options& o) { o.time_limit = 0.0; }, ": time_limit must be > 0, got 0"},
      {[](Options& o) { o.time_limit = kNaN; }, ": time_limit must be > 0, got NaN"},
      {[](Options& o) { o.early_stop = 0.0; }, ": early_stop must lie in (0, 1], got 0"},
      {[](Options& o) { o.early_stop = 1.5; }, ": early_stop must lie in (0, 1], got 1.5"},
      {[](Options& o) { o.early_stop = kNaN; }, ": early_stop must lie in (0, 1], got NaN"},
      {[](Options& o) { o.threads = -1; }, ": threads must be >= 0, got -1"},
      {[](Options& o) { o.look_ahead = 0; }, ": look_ahead must be at least 1, got 0"},
      {[](Options& o) { o.engine = Engine::kRidge; },
       ": l1_ratio must be 0 for engine ridge, got 1"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.rest);
    Spoiled call;
    row.spoil(call.options);
    expect_refused(call, row.rest);
  }
}

TEST(Validation, BadWarmStartsAreRefused) {
  Spoiled call;
  call.matrix.assign(15, 0.0);
  call.matrix[at(2 * 5 + 4)] = kNaN;
  call.options.warm_start = MatrixView<const double>::column_major(call.matrix.data(), 5, 3);
  expect_refused(call, ": warm_start must be finite, got NaN in row 4, column 2");
}

TEST(Validation, BadFoldsAreRefusedWithTheRule) {
  Spoiled call;
  call.cv.n_folds = 1;
  expect_folds_refused(call, "n_folds must lie between 2 and the number of rows, 12, got 1");
  call.cv.n_folds = 13;
  expect_folds_refused(call, "n_folds must lie between 2 and the number of rows, 12, got 13");
  call.fold.assign(12, 0);
  call.cv.fold_id = call.fold;
  expect_folds_refused(call, "fold_id must name at least 2 folds, got 1");
  call.fold = {1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2};
  call.cv.fold_id = call.fold;
  expect_folds_refused(call, "fold_id must start at 0, got 1");
  call.fold[5] = -1;
  expect_folds_refused(call, "fold_id must start at 0, got -1");
  call.fold = {0, 1, 3, 0, 1, 3, 0, 1, 3, 0, 1, 3};
  call.cv.fold_id = call.fold;
  expect_folds_refused(call,
                       "fold_id must use every fold from 0 to its largest, got no row in fold 2");
  call.fold[2] = std::numeric_limits<Index>::max();
  EXPECT_THROW(cross_validate(call.data, call.options, call.cv), Error);
  call.fold = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1};
  call.cv.fold_id = call.fold;
  expect_folds_refused(call, "fold_id must have one entry per row, 12, got 11");
}

TEST(Validation, FoldsThatWeightsLeaveWithoutRowsAreRefused) {
  Spoiled call;
  call.cv.fold_id = call.fold;
  for (Index i = 0; i < 12; ++i) call.weight[at(i)] = call.fold[at(i)] == 1 ? 0.0 : 1.0;
  call.data.sample_weight = call.weight;
  expect_folds_refused(
      call,
      "fold_id must leave every fold a held-out row with positive weight, got none in fold 1");
  for (Index i = 0; i < 12; ++i) call.weight[at(i)] = call.fold[at(i)] == 1 ? 1.0 : 0.0;
  expect_folds_refused(call,
                       "fold_id must leave every fold a training row with positive weight, got "
                       "none without fold 1 for response 0");
}

/// A fold's held-out rows may be missing for one response: that fold does not count there.
TEST(Validation, AFoldWithoutObservedHeldOutRowsIsSkippedForThatResponse) {
  Spoiled call;
  call.cv.fold_id = call.fold;
  for (Index i = 0; i < 12; ++i) {
    if (call.fold[at(i)] == 2) call.table.y(i, 1) = kNaN;
  }
  call.data.missing_responses = true;
  const Model model = cross_validate(call.data, call.options, call.cv);
  const Index f = model.fit(1, 0, 3);
  const double* errors = &model.cv->fold_error[at(3 * f)];
  EXPECT_TRUE(std::isnan(errors[2]));
  EXPECT_NEAR(model.cv->error[at(f)], 0.5 * (errors[0] + errors[1]), 1e-12 * errors[0]);
  const double half = 0.5 * std::fabs(errors[0] - errors[1]);
  EXPECT_NEAR(model.cv->se[at(f)], half, 1e-9 * (half + errors[0]));  // sqrt(half^2 / (2 - 1))

  for (Index i = 0; i < 12; ++i) {
    if (call.fold[at(i)] != 2) call.table.y(i, 1) = kNaN;
    if (call.fold[at(i)] == 2) call.table.y(i, 1) = 1.0;
  }
  expect_folds_refused(call,
                       "fold_id must leave every fold a training row with positive weight, got "
                       "none without fold 2 for response 1");
}

TEST(Validation, KeepChosenNeedsCrossValidation) {
  Spoiled call;
  call.options.keep_chosen = true;
  expect_refusal("fit_path: keep_chosen must come with cross-validation, got a plain path",
                 [&] { fit_path(call.data, call.options); });
}

TEST(Validation, MakeFoldsRefusesWhatCannotBe) {
  expect_refusal("make_folds: n_folds must lie between 2 and the number of rows, 5, got 6",
                 [] { make_folds(5, 6, 1); });
  expect_refusal("make_folds: n_folds must lie between 2 and the number of rows, 5, got 1",
                 [] { make_folds(5, 1, 1); });
}

TEST(Validation, ClosedFormRidgeRefusesTheSame) {
  Spoiled call;
  call.options.l1_ratio = {0.0};
  call.weight[6] = -1.0;
  call.data.sample_weight = call.weight;
  try {
    ridge_closed_form(call.data, call.options, ClosedForm::kLeaveOneOut);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kInvalidArgument);
    expect_said(error.what(), "sample_weight[6] must be finite and >= 0, got -1");
  }
}

/// Poor data that must be fitted: zeros where nothing can be learnt.
TEST(Validation, DataWithNothingToLearnIsFittedByZeros) {
  const auto expect_zeros = [](const Table& table, const std::string& what) {
    SCOPED_TRACE(what);
    const Model model = fit_path(table.data());
    EXPECT_TRUE(model.coef_values.empty());
    EXPECT_EQ(model.stats.n_not_converged, 0);
    for (Index r = 0; r < table.n_responses; ++r) {
      const Index f = model.fit(r, 0, 0);
      EXPECT_EQ(status(model, f), Status::kConverged);
      double mean = 0.0;
      for (Index i = 0; i < table.n; ++i) mean += table.y(i, r) / static_cast<double>(table.n);
      EXPECT_NEAR(model.intercept[at(f)], mean, 1e-12 * (1.0 + std::fabs(mean)));
    }
  };
  expect_zeros(Table(1, 5, 2), "one row");
  Table constant(12, 5, 2);
  std::fill(constant.Y.begin(), constant.Y.end(), 0.1);
  expect_zeros(constant, "constant y");
  Table zero(12, 5, 2);
  std::fill(zero.Y.begin(), zero.Y.end(), 0.0);
  expect_zeros(zero, "y = 0");
  Table empty(12, 5, 2);
  std::fill(empty.X.begin(), empty.X.end(), 0.0);
  expect_zeros(empty, "X = 0");
  Table flat(12, 5, 2);
  for (Index j = 0; j < 5; ++j) {
    std::fill_n(flat.X.begin() + j * 12, 12, 0.1 * static_cast<double>(j + 1));
  }
  expect_zeros(flat, "constant columns");
}

TEST(Validation, DuplicatedColumnsAreFittedAndConverge) {
  Table table(30, 6, 2);
  std::copy_n(table.X.begin(), 30, table.X.begin() + 3 * 30);
  const Model model = fit_path(table.data());
  EXPECT_EQ(model.stats.n_not_converged, 0);
  EXPECT_LE(model.stats.worst_gap, 1e-7);
}

/// lambda = 0 is least squares; where that is not unique, the fit says so.
TEST(Validation, LambdaZeroIsLeastSquaresAndFlagsDeficientRank) {
  const double zero = 0.0;
  Options options;
  options.lambda_grid = MatrixView<const double>::row_major(&zero, 1, 1);
  options.early_stop.reset();
  const Table tall(40, 4, 1);
  const Model unique = fit_path(tall.data(), options);
  EXPECT_EQ(unique.rank_deficient[0], 0);
  EXPECT_TRUE(is_good(status(unique, 0)));
  const std::vector<double> b = coefficients(unique, 0);
  for (Index j = 0; j < 4; ++j) {  // the normal equations
    double g = 0.0, size = 0.0;
    for (Index i = 0; i < 40; ++i) {
      double residual = tall.y(i, 0) - unique.intercept[0];
      for (Index k = 0; k < 4; ++k) residual -= tall.x(i, k) * b[at(k)];
      g += tall.x(i, j) * residual;
      size += std::fabs(tall.x(i, j) * tall.y(i, 0));
    }
    EXPECT_NEAR(g / size, 0.0, 1e-10);
  }

  Table twice(40, 4, 1);
  std::copy_n(twice.X.begin(), 40, twice.X.begin() + 2 * 40);
  const Model deficient = fit_path(twice.data(), options);
  EXPECT_EQ(deficient.rank_deficient[0], 1);
  EXPECT_TRUE(is_good(status(deficient, 0)));

  // Ridge at its limit lambda -> 0 takes the least sum of squares: equal columns share equally.
  options.l1_ratio = {0.0};
  const Model least = fit_path(twice.data(), options);
  const std::vector<double> shared = coefficients(least, 0);
  EXPECT_EQ(least.rank_deficient[0], 1);
  EXPECT_NEAR(shared[0], shared[2], 1e-8 * std::fabs(shared[0]));
}

/// Layouts and precisions that hold the same numbers give the same model.
TEST(Validation, StridedReversedAndFloatArraysGiveTheSameModel) {
  Table table(20, 5, 2);
  for (double& x : table.X) x = static_cast<double>(static_cast<float>(x));
  for (double& y : table.Y) y = static_cast<double>(static_cast<float>(y));
  Options options;
  options.tol = 1e-7;
  const Model clean = fit_path(table.data(), options);
  Data data = table.data();

  std::vector<double> padded(at(3 * 20 * 5), kNaN);  // every third entry of a row-major table
  for (Index i = 0; i < 20; ++i) {
    for (Index j = 0; j < 5; ++j) padded[at(3 * (i * 5 + j))] = table.x(i, j);
  }
  data.X = MatrixView<const double>{padded.data(), 20, 5, 15, 3};
  expect_same_model(fit_path(data, options), clean, "strided");

  std::vector<double> reversed(table.X.rbegin(), table.X.rend());
  data.X = MatrixView<const double>{reversed.data() + 99, 20, 5, -1, -20};
  expect_same_model(fit_path(data, options), clean, "negative strides");

  const std::vector<float> X(table.X.begin(), table.X.end()), Y(table.Y.begin(), table.Y.end());
  data.X = MatrixView<const float>::column_major(X.data(), 20, 5);
  data.Y = MatrixView<const float>::column_major(Y.data(), 20, 2);
  expect_same_model(fit_path(data, options), clean, "float");
}

}  // namespace
}  // namespace thresher::testing_library
