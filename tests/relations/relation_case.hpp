#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "relations/oracle.hpp"
#include "thresher/fit.hpp"

namespace thresher {

/// One row of the engine x relation table.
struct EngineUnderTest {
  std::string name;  ///< such as "active_set_gram_float"
  Engine engine = Engine::kAuto;
  Mode mode = Mode::kAuto;
  bool is_float = false;

  /// Relative gap asked for: a tight one in double, the default for float X.
  double tol() const { return is_float ? 1e-5 : 1e-10; }
  bool is_ridge() const { return engine == Engine::kRidge; }
  /// The l1_ratios it can solve.
  std::vector<double> l1_ratios() const;
};

/// What GoogleTest prints.
void PrintTo(const EngineUnderTest& engine, std::ostream* out);

const std::vector<EngineUnderTest>& engines_under_test();

/// What a call is given, in plain arrays (empty means default). X, Y and warm are column-major,
/// response_weight too; grid is row-major (grid_rows, L).
struct Case {
  Index n = 0, p = 0, R = 1;
  std::vector<double> X, Y, w, response_weight, u, v, d, grid, warm;
  Index grid_rows = 1;
  double l1_ratio = 1.0;
  bool intercept = true, standardize = false, missing = false;
  double dropout = 0.0;

  double& x(Index i, Index j) { return X[static_cast<std::size_t>(i + j * n)]; }
  double x(Index i, Index j) const { return X[static_cast<std::size_t>(i + j * n)]; }
  double& y(Index i, Index r = 0) { return Y[static_cast<std::size_t>(i + r * n)]; }
  double y(Index i, Index r = 0) const { return Y[static_cast<std::size_t>(i + r * n)]; }
};

/// Reproducible random numbers: SplitMix64, normals by Box and Muller.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits();
  double uniform();  ///< in (0, 1)
  double normal();
  Index below(Index n) { return static_cast<Index>(bits() % static_cast<std::uint64_t>(n)); }

 private:
  std::uint64_t state_;
};

// The data sets of the list. Every value of X is a float, so that both precisions see one matrix.
Case tall();    ///< 40 x 8, correlated, offset 3
Case wide();    ///< 15 x 25
Case narrow();  ///< 30 x 6
Case large();   ///< 200 x 1000
Case wider();   ///< 64 x 1100
Case ties();    ///< 24 x 9, integers with equal, opposite and summed columns

/// `given` with random row weights, factors and a fixed L2 term.
Case dressed(Case given, std::uint64_t seed);

/// Random weights between 0.2 and 2.
std::vector<double> random_weights(Index n, std::uint64_t seed);

/// Sets the grid to `fractions` of lambda_max (of each response); for Ridge, of the largest
/// diagonal entry of the problem's matrix.
Case with_grid(Case given, const std::vector<double>& fractions);

/// `given` without the rows where keep[i] is 0, or the columns.
Case keep_rows(const Case& given, const std::vector<char>& keep);
Case keep_columns(const Case& given, const std::vector<char>& keep);
/// Rows or columns in another order, or repeated: new row k is old row order[k].
Case take_rows(const Case& given, const std::vector<Index>& order);
Case take_columns(const Case& given, const std::vector<Index>& order);
/// One response of several, with its grid row.
Case one_response(const Case& given, Index r);

/// Keeps arrays alive that Data and Options borrow. X is stored as float if the engine wants it.
class Call {
 public:
  Call(const EngineUnderTest& engine, const Case& given);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  Data data;
  Options options;
  /// What the library is given: X rounded to float where it is handed over as float.
  Case given;

 private:
  std::vector<float> x_float_;
};

using Tweak = std::function<void(Call&)>;

struct Answer {
  Case given;
  Model model;
};

/// fit_path on `given` with the engine forced; `tweak` may change options first.
Answer solve(const EngineUnderTest& engine, const Case& given, const Tweak& tweak = {});
Answer cross_validated(const EngineUnderTest& engine, const Case& given, const CvOptions& cv,
                       const Tweak& tweak = {});

oracle::Problem oracle_problem(const Case& given, Index r, double lambda);
oracle::Solution solution(const Model& model, Index r, Index l);
/// The coefficients alone, dense.
std::vector<double> coefficients(const Model& model, Index r, Index l);

/// Runs check(problem, solution, fit number, lambda index) on every fit of the answer.
void for_each_fit(const Answer& answer,
                  const std::function<void(const oracle::Problem&, const oracle::Solution&, Index,
                                           Index)>& check);

/// Every fit ended well.
void expect_good(const Answer& answer);

/// `at` minimises `problem`: its recomputed relative gap is at most `tol`.
void expect_optimal(const oracle::Problem& problem, const oracle::Solution& at, double tol,
                    const std::string& what);

/// The answer, carried over to another statement of the same problem by `map`, is optimal there.
/// `original` has the same responses and the same number of lambdas.
void expect_maps_to(const Answer& answer, const Case& original, double tol,
                    const std::function<void(oracle::Solution&)>& map);

/// Equal to the last bit: everything a model holds but the clock.
void expect_same_bits(const Model& one, const Model& other, const std::string& what);

}  // namespace thresher
