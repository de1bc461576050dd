#include "engines/ridge_spectrum.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

#include "backend/accelerator.hpp"
#include "backend/blas.hpp"
#include "backend/simd.hpp"
#include "backend/spectrum_backend.hpp"
#include "engines/engine.hpp"
#include "engines/ridge_nodes.hpp"
#include "engines/ridge_system.hpp"
#include "setup/certificate.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
// Relative gap above which a fit is refined: what double arithmetic reaches nearly always, and
// hundred times below the tightest tolerance that is asked for in practice.
constexpr double kGoal = 1e-12;
constexpr int kMaxRefinements = 2;
// Sums over shrunken coordinates stand for those of the residual if their rounding errors, which
// average out over the m p products behind a Gram matrix, stay below this.
constexpr double kSumsGoal = 1e-12;
// Products have a multiple of so many columns, itself a multiple of the widths of BLAS kernels (4,
// 8, 12): columns at a ragged end go through other kernels, and no bit of a fit may depend on which
// others stand beside it.
constexpr Index kColumnUnit = 24;
constexpr Index kCoefColumns = 21 * kColumnUnit;  // X is read three times for so many
constexpr double kUnit = 0.5 * std::numeric_limits<double>::epsilon();  // one rounding
constexpr Index kColumnsPerTask = 1024;  // untuned: enough for GEMM, small enough to balance
constexpr Index kRotatedAtOnce = 21 * kColumnUnit;  // 8: eigenvectors are packed too often
constexpr Index kMeansAtOnce = 24;                  // untuned
constexpr Index kSlotsAtOnce = 2 * kColumnUnit;     // untuned
constexpr Index kSmallProduct = 1'000'000;          // multiplications; OpenBLAS packs nothing then
constexpr Index kLambdasAtOnce = 32;                // untuned: three filters each stay in the cache
constexpr Index kRefinedNumbers = Index{1} << 21;   // held-out predictions of open fits at a time
constexpr Index kChosenPerTask = kCoefColumns - 1;  // untuned; one more may follow

// |x_j' W r| / (|x_j| |y|) that rounding leaves at lambda = 0. A false alarm costs time alone.
constexpr double kUncorrelated = 1e-11;

constexpr int kModerate = 500;  // powers of two whose products are normal numbers

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

Index padded_columns(Index count) { return (count + kColumnUnit - 1) / kColumnUnit * kColumnUnit; }

/// At lambda = 0 directions below the cutoff are left out, and the gap is that of the others. Yet
/// next to a column 1e8 times longer, a whole column is such a direction: then the residual r still
/// correlates with features that have no penalty.
bool loses_directions(const Columns& columns, const Problem& problem,
                      const std::vector<double>& r) {
  const RowWeighting& rows = *problem.rows;
  const Index n = columns.n_samples();
  std::vector<double> z(r.size(), 0.0);
  for (const Index i : rows.rows) z[at(i)] = rows.weight[at(i)] * r[at(i)];
  const double of_response = kUncorrelated * std::sqrt(2.0 * problem.null_loss);
  for (Index j = 0; j < columns.n_features(); ++j) {
    if (problem.excluded(j) || problem.e(j, 0.0) > 0.0) continue;
    const double* x = rows.column(columns, j);
    const double mean = problem.intercept ? rows.column_mean(j) : 0.0;
    double squares = 0.0;
    for (const Index i : rows.rows) squares += rows.weight[at(i)] * (x[i] - mean) * (x[i] - mean);
    if (!(std::fabs(simd().dot(n, x, z.data())) <= of_response * std::sqrt(squares))) return true;
  }
  return false;
}

/// Copies of the last element up to a multiple of kColumnUnit.
template <class T>
void pad_columns(std::vector<T>& columns) {
  if (columns.empty()) return;
  columns.resize(at(padded_columns(static_cast<Index>(columns.size()))), T(columns.back()));
}

/// Columns of which a matrix with so many rows has 8 MB, within bounds.
Index columns_at_once(Index rows) {
  return std::clamp<Index>((Index{1} << 20) / std::max<Index>(rows, 1) / kColumnUnit, 1, 20) *
         kColumnUnit;
}

/// Problems that share (w, v, d) and whether they hand over coefficients.
struct Group {
  std::vector<Index> problems;
  bool fold = false;
  std::vector<double> mean_products;  // if the group is made from products
};

/// A group with its decomposition and everything its columns share. Slot s is problems[s].
struct Prepared {
  const Group* group = nullptr;
  RidgeGroup matrix;
  std::unique_ptr<Spectrum> spectrum;   // null: the eigensolver failed
  Index rank = 0;                       // directions above the cutoff
  bool any_ridged = false;              // some eliminated feature has its own ridge
  std::vector<double> C, Z;             // (n_eliminated, slots), (k, slots)
  std::vector<double> defect, yy;       // (slots)
  std::vector<Index> held_out;          // rows that some problem holds out, ascending
  std::vector<double> H, HM;            // (held_out, features), (held_out, k)
  std::vector<double> constant;         // (held_out, slots)
  std::vector<double> hidden;           // (k) takes t to the intercept, all data only
  std::vector<double> hidden_constant;  // (slots)

  /// Made from products: fits that must be measured are left to the same group with its columns.
  struct Whole;
  std::unique_ptr<Whole> whole;
};

struct Prepared::Whole {
  std::once_flag once;
  Prepared prepared;
};

/// One fit: slot, index into the problem's lambda grid.
struct Point {
  Index slot;
  Index lambda_index;
};

/// Slots one after another whose points have the same lambdas.
struct Run {
  std::size_t first = 0;  // of its points, which are (lambdas, slots)
  std::vector<double> lambda;
  std::vector<Index> slots;
};

/// Memory of one thread that is kept from chunk to chunk: fresh pages cost as much as products.
struct Scratch {
  std::vector<double> filters, z, sums;
  std::vector<double> T, products, predicted, beta;
};

/// What the spectrum alone says of fits beta = M t.
struct Bounded {
  std::vector<SpectrumColumn> what;
  std::vector<ShrunkSums> sums;
  std::vector<double> hidden;  // share of t in the intercept, all data only
  std::vector<RidgeMeasure> measures;
  std::vector<std::uint8_t> open;  // 1: the bound is too weak, measure the fit by its residuals
};

class RidgeRun {
 public:
  RidgeRun(const Batch& batch, const SpectrumBackend& backend, const ThreadPool& pool,
           RunControl& control, FitSink& sink)
      : batch_(batch),
        backend_(backend),
        pool_(pool),
        control_(control),
        sink_(sink),
        products_(batch.products != nullptr ? *batch.products : own_products_),
        ended_(batch.problems.size(), 0) {}

  void run();

 private:
  struct Combination;
  struct Panel;
  const Problem& problem(const Prepared& prepared, Index slot) const {
    return batch_.problems[at(prepared.group->problems[at(slot)])];
  }
  /// Columns at a time where matrices (p, columns) and (n, columns) are formed.
  Index wide_columns() const {
    return columns_at_once(std::max(batch_.columns.n_features(), batch_.columns.n_samples()));
  }
  /// What the spectrum needs to know of each point.
  std::vector<SpectrumColumn> spectrum_columns(const Prepared& prepared,
                                               const std::vector<Point>& points) const {
    std::vector<SpectrumColumn> out;
    for (const Point& point : points) {
      out.push_back({point.slot, prepared.matrix.effective_lambda(lambda(prepared, point))});
    }
    return out;
  }
  double lambda(const Prepared& prepared, const Point& point) const {
    return problem(prepared, point.slot).lambda[at(point.lambda_index)];
  }

  void multiply_rows(const std::vector<Group>& groups);
  void multiply_means(std::vector<Group>& groups);
  void multiply_columns(const std::vector<Group>& groups);
  bool from_products(const Group& group) const;
  bool all_but_some(const Group& group) const;
  Prepared prepare(const Group& group, std::optional<double> fixed_lambda, bool whole) const;
  const Prepared& with_columns(const Prepared& prepared) const;
  void solve_ladder(const Group& group, Scratch& scratch);
  void solve_points(const Prepared& prepared, const std::vector<Point>& all, Scratch& scratch);
  std::vector<Run> runs_of(const Prepared& prepared, const std::vector<Point>& points) const;
  void add_sums(const Prepared& prepared, const Run& run, Scratch& scratch, Bounded& out) const;
  Bounded bound(const Prepared& prepared, const std::vector<Point>& points, Scratch& scratch) const;
  template <class Use>
  void predict(const Prepared& prepared, const Run& run, Scratch& scratch, Use&& use) const;
  void solve_full(const Prepared& prepared, const std::vector<Point>& points, Scratch& scratch);
  void append(const Prepared& prepared, const std::vector<Point>& points, const Panel& panel,
              const std::vector<Fit*>& fits, Combination& combination) const;
  void add_coefficients(const Prepared& prepared, const std::vector<Point>& points,
                        const std::vector<Fit*>& fits, Scratch& scratch) const;
  void refine(const Prepared& prepared, const std::vector<SpectrumColumn>& what,
              std::vector<double>& T, std::vector<double>& beta,
              std::vector<RidgeMeasure>& measures) const;
  std::vector<Fit> solve_measured(const Prepared& prepared, const std::vector<Point>& points) const;
  Fit of_measure(const Problem& one, const RidgeMeasure& measure, double ridged) const;
  Status judged(const Fit& fit) const;
  std::vector<Fit> solve_fold(const Prepared& prepared, const std::vector<Point>& points,
                              Scratch& scratch) const;
  void expand(const Prepared& prepared, const std::vector<Point>& points, const double* beta,
              double* B) const;
  Combination new_combination(const Prepared& prepared, const std::vector<Point>& points) const;
  bool holds(const Prepared& prepared, const std::vector<Point>& points,
             const Combination& combination) const;
  std::vector<double> certify_batch(const Prepared& prepared, const std::vector<Point>& points,
                                    const std::vector<double>& B, std::vector<double>& R) const;
  void hand_over(Index problem, Index lambda_index, Fit&& fit);

  const Batch& batch_;
  const SpectrumBackend& backend_;
  const ThreadPool& pool_;
  RunControl& control_;
  FitSink& sink_;
  RowProducts own_products_;
  RowProducts& products_;  // where there are more columns than rows, and folds; or none
  // X'X, and X'y of each response, over all rows: where folds are all rows but some; or none.
  std::vector<double> gram_, gram_responses_;
  std::map<const Response*, Index> gram_column_;
  std::vector<std::uint8_t>
      ended_;  // path is finished early; touched by the problem's thread alone
};

std::vector<Group> group_problems(const std::vector<Problem>& problems) {
  std::map<std::tuple<const RowWeighting*, const Penalties*, bool, bool>, std::size_t> seen;
  std::vector<Group> groups;
  for (std::size_t k = 0; k < problems.size(); ++k) {
    const Problem& problem = problems[k];
    const bool fold = problem.fold >= 0;
    const auto [found, fresh] = seen.try_emplace(
        {problem.rows.get(), problem.penalties.get(), problem.intercept, fold}, groups.size());
    if (fresh) {
      groups.emplace_back();
      groups.back().fold = fold;
    }
    groups[found->second].problems.push_back(static_cast<Index>(k));
  }
  return groups;
}

/// Distinct lambdas of a group, descending.
std::vector<double> distinct_lambdas(const std::vector<Problem>& problems, const Group& group) {
  std::vector<double> out;
  for (const Index k : group.problems) {
    out.insert(out.end(), problems[at(k)].lambda.begin(), problems[at(k)].lambda.end());
  }
  std::sort(out.begin(), out.end(), std::greater<>());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

void RidgeRun::hand_over(Index problem, Index lambda_index, Fit&& fit) {
  if (ended_[at(problem)]) return;
  fit.engine = Engine::kRidge;
  if (!sink_.take(problem, lambda_index, std::move(fit))) ended_[at(problem)] = 1;
}

/// Whether a Gram matrix is a part of X D^-1 X': of a fold, found once for less than half of them
/// all, or of every row.
bool RidgeRun::from_products(const Group& group) const {
  const Problem& first = batch_.problems[at(group.problems.front())];
  const Index m = static_cast<Index>(first.rows->rows.size()), n = batch_.columns.n_samples();
  return (group.fold ? 2 * m >= n : m == n) &&
         products_suffice(batch_.columns, *first.rows, *first.penalties) &&
         (products_.l2.empty() || products_.l2 == first.penalties->l2);
}

void RidgeRun::multiply_rows(const std::vector<Group>& groups) {
  if (!products_.K.empty() || !backend_.takes_products()) return;
  for (const Group& group : groups) {
    if (!group.fold || !from_products(group)) continue;
    batch_.columns.build_all(pool_);
    products_ =
        make_row_products(batch_.columns, *batch_.problems[at(group.problems.front())].penalties);
    return;
  }
}

/// Of all groups that are made from products: X is read once for some of them.
void RidgeRun::multiply_means(std::vector<Group>& groups) {
  if (products_.K.empty()) return;
  std::vector<Group*> some;
  std::vector<const RowWeighting*> rows;
  for (Group& group : groups) {
    if (!from_products(group)) continue;
    some.push_back(&group);
    rows.push_back(batch_.problems[at(group.problems.front())].rows.get());
  }
  const Index all = static_cast<Index>(some.size());
  pool_.run((all + kMeansAtOnce - 1) / kMeansAtOnce, [&](Index chunk, int) {
    const Index first = chunk * kMeansAtOnce, last = std::min(all, first + kMeansAtOnce);
    auto found = mean_products(batch_.columns, products_,
                               std::span(rows).subspan(at(first), at(last - first)));
    for (Index g = first; g < last; ++g)
      some[at(g)]->mean_products = std::move(found[at(g - first)]);
  });
}

/// Whether A'A of a fold is that of all rows less that of the rows it leaves out.
bool RidgeRun::all_but_some(const Group& group) const {
  const Problem& first = batch_.problems[at(group.problems.front())];
  return group.fold && backend_.takes_products() &&
         all_but_some_suffice(batch_.columns, *first.rows, *first.penalties);
}

void RidgeRun::multiply_columns(const std::vector<Group>& groups) {
  const Columns& columns = batch_.columns;
  const Index n = columns.n_samples(), p = columns.n_features();
  Index saved = 0;  // rows whose products need not be formed
  std::vector<const Response*> responses;
  for (const Group& group : groups) {
    if (!all_but_some(group)) continue;
    const Problem& first = batch_.problems[at(group.problems.front())];
    saved += 2 * static_cast<Index>(first.rows->rows.size()) - n;
    for (const Index k : group.problems) {
      const Response* y = batch_.problems[at(k)].y.get();
      const bool fresh = gram_column_.try_emplace(y, static_cast<Index>(responses.size())).second;
      if (fresh) responses.push_back(y);
    }
  }
  if (saved <= n) return;
  columns.build_all(pool_);
  gram_.resize(at(p * p));
  blas::syrk_lower(p, n, 1.0, columns.matrix(), n, 0.0, gram_.data(), p);
  blas::mirror_lower(p, gram_.data(), p);
  const Index count = static_cast<Index>(responses.size());
  gram_responses_.resize(at(p * padded_columns(count)));
  pool_.run((count + kRotatedAtOnce - 1) / kRotatedAtOnce, [&](Index chunk, int) {
    const Index begin = chunk * kRotatedAtOnce, some = std::min(kRotatedAtOnce, count - begin);
    const Index padded = padded_columns(some);
    std::vector<double> Y(at(n * padded), 0.0);
    for (Index b = 0; b < some; ++b) {
      const std::vector<double>& y = responses[at(begin + b)]->value;
      std::copy(y.begin(), y.end(), Y.begin() + b * n);
    }
    blas::gemm(true, false, p, padded, n, 1.0, columns.matrix(), n, Y.data(), n, 0.0,
               gram_responses_.data() + begin * p, p);
  });
}

Prepared RidgeRun::prepare(const Group& group, std::optional<double> fixed_lambda,
                           bool whole) const {
  const Columns& columns = batch_.columns;
  const Problem& first = batch_.problems[at(group.problems.front())];
  Prepared out;
  out.group = &group;
  const bool part = !whole && !products_.K.empty() && from_products(group);
  const bool but_some = !whole && !gram_.empty() && all_but_some(group);
  if (part) {
    out.matrix = make_ridge_group(columns, *first.rows, *first.penalties, first.intercept,
                                  products_, group.mean_products);
    out.whole = std::make_unique<Prepared::Whole>();
  } else if (but_some) {
    out.matrix = make_ridge_group(columns, *first.rows, *first.penalties, first.intercept, gram_);
    out.whole = std::make_unique<Prepared::Whole>();
  } else {
    out.matrix =
        make_ridge_group(columns, *first.rows, *first.penalties, first.intercept, fixed_lambda);
  }
  const RidgeGroup& matrix = out.matrix;
  const Index slots = static_cast<Index>(group.problems.size()), m = matrix.m;
  const Index r = matrix.n_eliminated();
  for (const std::uint8_t free : matrix.unpenalised) out.any_ridged = out.any_ridged || free == 0;
  // M saves a part m / (m + p) of a product with coefficients, for less than the decomposition.
  const bool want_map = !group.fold && !part && static_cast<Index>(matrix.features.size()) <= 4 * m;
  out.spectrum = backend_.decompose(std::move(out.matrix.system), want_map);
  if (!out.spectrum && batch_.accelerator != nullptr) {
    // The CPU's eigensolver is another one; if it fails too, the numbers are to blame.
    control_.note_device("a decomposition on the CPU (the device's did not converge)");
    out.matrix =
        make_ridge_group(columns, *first.rows, *first.penalties, first.intercept, fixed_lambda);
    out.spectrum = cpu_spectrum_backend().decompose(std::move(out.matrix.system), want_map);
  }
  if (!out.spectrum) return out;
  const Spectrum& spectrum = *out.spectrum;
  for (const double s : spectrum.values()) out.rank += s > spectrum.cutoff() ? 1 : 0;

  out.C.resize(at(r * slots));
  out.Z.resize(at(spectrum.size() * padded_columns(slots)));
  out.defect.resize(at(padded_columns(slots)));
  out.yy.resize(at(slots));
  std::vector<double> Y(at(m * std::min(padded_columns(slots), kRotatedAtOnce)));
  for (Index begin = 0; begin < slots; begin += kRotatedAtOnce) {
    const Index some = std::min(kRotatedAtOnce, slots - begin), padded = padded_columns(some);
    std::vector<double> errors(at(padded), 0.0);
    if (but_some) {
      std::vector<const Problem*> problems;
      std::vector<const double*> products;
      for (Index b = 0; b < some; ++b) {
        problems.push_back(&problem(out, begin + b));
        products.push_back(gram_responses_.data() +
                           gram_column_.at(problems.back()->y.get()) * spectrum.size());
        out.yy[at(begin + b)] = 2.0 * problems.back()->null_loss;
      }
      pad_columns(problems);
      pad_columns(products);
      response_products(matrix, problems, products, Y.data(), errors.data());
    } else {
      for (Index b = 0; b < some; ++b) {
        double* y = Y.data() + b * m;
        weighted_response(matrix, problem(out, begin + b), y, out.C.data() + (begin + b) * r);
        out.yy[at(begin + b)] = simd().dot(m, y, y);
      }
      std::fill(Y.begin() + m * some, Y.begin() + m * padded, 0.0);
    }
    spectrum.rotate(padded, Y.data(), out.Z.data() + begin * spectrum.size(),
                    out.defect.data() + begin);
    for (Index b = 0; b < padded; ++b) out.defect[at(begin + b)] += errors[at(b)];
  }

  for (Index s = 0; s < slots; ++s) {
    const std::vector<Index>& rows = problem(out, s).held_out;
    if (s > 0 && rows == problem(out, s - 1).held_out) continue;
    out.held_out.insert(out.held_out.end(), rows.begin(), rows.end());
  }
  std::sort(out.held_out.begin(), out.held_out.end());
  out.held_out.erase(std::unique(out.held_out.begin(), out.held_out.end()), out.held_out.end());
  const Index h = static_cast<Index>(out.held_out.size());
  if (h > 0) {
    std::vector<double> eliminated, share(at(r));
    if (part) {
      prediction_products(matrix, products_, out.held_out, out.H);
    } else {
      prediction_rows(columns, matrix, out.held_out, out.H, eliminated);
    }
    out.HM.resize(at(h * spectrum.size()));
    spectrum.map_rows(h, out.H.data(), out.HM.data());
    out.constant.resize(at(h * slots));
    for (Index s = 0; s < slots; ++s) {
      double* constant = out.constant.data() + s * h;
      std::fill(constant, constant + h, problem(out, s).y_mean);
      std::copy_n(out.C.data() + s * r, r, share.data());
      solve_eliminated(matrix, share.data());
      for (Index e = 0; e < r; ++e) {
        for (Index i = 0; i < h; ++i) constant[i] += eliminated[at(e * h + i)] * share[at(e)];
      }
    }
  }
  if (!group.fold && first.intercept) {
    // The intercept is the prediction at x = 0, linear in beta and so in t.
    const RowWeighting& rows = *matrix.rows;
    const auto at_zero = [&](Index j) {
      return -(rows.centring(columns, j) + std::ldexp(columns.mean(j), -columns.exponent(j)));
    };
    std::vector<double> share(at(r)), row(matrix.features.size());
    for (std::size_t k = 0; k < row.size(); ++k) {
      row[k] = at_zero(matrix.features[k]);
      if (!part) row[k] /= matrix.root[k];
      std::copy_n(matrix.QA.data() + static_cast<Index>(k) * r, r, share.data());
      solve_eliminated(matrix, share.data());
      for (Index e = 0; e < r; ++e) row[k] -= at_zero(matrix.eliminated[at(e)]) * share[at(e)];
    }
    if (part) {
      std::vector<double> products(at(m));
      row_products(columns, matrix, row, products.data());
      row = std::move(products);
    }
    out.hidden.resize(at(spectrum.size()));
    if (!out.hidden.empty()) spectrum.map_rows(1, row.data(), out.hidden.data());
    out.hidden_constant.resize(at(slots));
    for (Index s = 0; s < slots; ++s) {
      double& constant = out.hidden_constant[at(s)];
      constant = problem(out, s).y_mean;
      std::copy_n(out.C.data() + s * r, r, share.data());
      solve_eliminated(matrix, share.data());
      for (Index e = 0; e < r; ++e) constant += at_zero(matrix.eliminated[at(e)]) * share[at(e)];
    }
  }
  return out;
}

/// The same group with its columns.
const Prepared& RidgeRun::with_columns(const Prepared& prepared) const {
  if (!prepared.whole) return prepared;
  Prepared::Whole& whole = *prepared.whole;
  std::call_once(whole.once,
                 [&] { whole.prepared = prepare(*prepared.group, std::nullopt, true); });
  return whole.prepared;
}

/// B (p, points): coefficients in hat units of every feature.
void RidgeRun::expand(const Prepared& prepared, const std::vector<Point>& points,
                      const double* beta, double* B) const {
  const RidgeGroup& matrix = prepared.matrix;
  const Index p_all = batch_.columns.n_features();
  const Index p = static_cast<Index>(matrix.features.size()), r = matrix.n_eliminated();
  std::vector<double> share(at(r));
  std::fill(B, B + p_all * static_cast<Index>(points.size()), 0.0);
  for (std::size_t c = 0; c < points.size(); ++c) {
    const double* from = beta + static_cast<Index>(c) * p;
    double* to = B + static_cast<Index>(c) * p_all;
    for (Index k = 0; k < p; ++k) to[matrix.features[at(k)]] = from[k] / matrix.root[at(k)];
    if (r == 0) continue;
    // R b = Q'(y - A_raw beta)
    std::copy_n(prepared.C.data() + points[c].slot * r, r, share.data());
    for (Index k = 0; k < p; ++k) {
      for (Index e = 0; e < r; ++e) share[at(e)] -= matrix.QA[at(k * r + e)] * from[k];
    }
    solve_eliminated(matrix, share.data());
    for (Index e = 0; e < r; ++e) to[matrix.eliminated[at(e)]] = share[at(e)];
  }
}

/// The relative gap of design section 4 for every point whose penalised features all have e_j > 0,
/// from xhat, yhat and B; NaN for the other points. R (n, points) gets the residuals.
std::vector<double> RidgeRun::certify_batch(const Prepared& prepared,
                                            const std::vector<Point>& points,
                                            const std::vector<double>& B,
                                            std::vector<double>& R) const {
  const Columns& columns = batch_.columns;
  const RowWeighting& rows = *prepared.matrix.rows;
  const Index n = columns.n_samples(), p = columns.n_features();
  const Index count = static_cast<Index>(points.size());
  const Index n_direct = static_cast<Index>(rows.direct.size());

  // Columns that are centred directly for this w take the place of their plain ones.
  R.resize(at(n * count));
  for (Index c = 0; c < count; ++c) {
    const std::vector<double>& y = problem(prepared, points[at(c)].slot).y->value;
    std::copy(y.begin(), y.end(), R.begin() + c * n);
  }
  std::vector<double> plain, direct(at(n_direct * count));
  if (n_direct > 0) {
    plain = B;
    for (Index c = 0; c < count; ++c) {
      for (Index k = 0; k < n_direct; ++k) {
        double& b = plain[at(c * p + rows.direct[at(k)])];
        direct[at(c * n_direct + k)] = b;
        b = 0.0;
      }
    }
  }
  backend_.residuals(n, p, columns.matrix(), count, n_direct > 0 ? plain.data() : B.data(),
                     R.data());
  if (n_direct > 0) {
    backend_.residuals(n, n_direct, rows.direct_values.data(), count, direct.data(), R.data());
  }

  std::vector<double> weighted(at(n * count), 0.0), half(at(count), 0.0);
  std::vector<double> square(at(count), 0.0), q(at(n));
  for (Index c = 0; c < count; ++c) {
    const Problem& one = problem(prepared, points[at(c)].slot);
    double* r = R.data() + c * n;
    if (one.intercept) {
      double mean = 0.0;
      for (const Index i : rows.rows) mean += rows.weight[at(i)] * r[i];
      for (Index i = 0; i < n; ++i) r[i] -= mean;
    }
    std::fill(q.begin(), q.end(), 0.0);
    for (const Index i : rows.rows) q[at(i)] = r[i];
    if (one.projector) one.projector->project(rows, q);
    for (const Index i : rows.rows) {
      const double d = r[i] - q[at(i)];
      half[at(c)] += 0.5 * rows.weight[at(i)] * d * d;
      weighted[at(c * n + i)] = rows.weight[at(i)] * q[at(i)];
      square[at(c)] += rows.weight[at(i)] * q[at(i)] * q[at(i)];
    }
  }
  std::vector<double> G(at(p * count)), G_direct(at(n_direct * count));
  backend_.correlate(n, p, columns.matrix(), count, weighted.data(), G.data());
  if (n_direct > 0) {
    backend_.correlate(n, n_direct, rows.direct_values.data(), count, weighted.data(),
                       G_direct.data());
  }

  std::vector<double> gaps(at(count));
  for (Index c = 0; c < count; ++c) {
    const Problem& one = problem(prepared, points[at(c)].slot);
    const double lam = lambda(prepared, points[at(c)]);
    double* g = G.data() + c * p;
    for (Index k = 0; k < n_direct; ++k) g[rows.direct[at(k)]] = G_direct[at(c * n_direct + k)];
    const Penalties& factors = *one.penalties;
    // (1 - s)^2/2 |q|^2 + sum (e b - s g)^2 / (2 e), least where its derivative is 0: s = 1 but for
    // rounding, unless e is so tiny that g^2 / e is mostly that.
    double bg = 0.0, gg = 0.0;
    const auto at_s = [&](double scale) {
      double sum = half[at(c)] + 0.5 * (1.0 - scale) * (1.0 - scale) * square[at(c)];
      for (Index j = 0; j < p; ++j) {
        if (factors.excluded[at(j)]) continue;
        const double e = one.e(j, lam);
        if (e > 0.0) {
          const double b = B[at(c * p + j)];
          const double d = e * b - scale * g[j];
          sum += d * d / (2.0 * e);
          bg += b * g[j];
          gg += g[j] * g[j] / e;
        } else if (factors.l2[at(j)] > 0.0) {
          sum = kNaN;  // unpenalised at this lambda only
        }
      }
      return sum;
    };
    double sum = at_s(1.0);
    if (sum > kGoal * one.null_loss) {
      const double best = (square[at(c)] + bg) / (square[at(c)] + gg);
      sum = std::min(sum, at_s(std::clamp(best, 0.0, 1.0)));
    }
    gaps[at(c)] = sum / one.null_loss;
  }
  return gaps;
}

std::vector<Run> RidgeRun::runs_of(const Prepared& prepared,
                                   const std::vector<Point>& points) const {
  std::vector<Run> out;
  for (std::size_t first = 0; first < points.size();) {
    const Index slot = points[first].slot;
    std::vector<double> grid;
    std::size_t last = first;
    for (; last < points.size() && points[last].slot == slot; ++last) {
      grid.push_back(prepared.matrix.effective_lambda(lambda(prepared, points[last])));
    }
    if (out.empty() || out.back().lambda != grid) out.push_back({first, std::move(grid), {}});
    out.back().slots.push_back(slot);
    first = last;
  }
  return out;
}

/// With f = 1 / (s + lambda) sums over t = f z are products of powers of f with z^2, and t itself
/// is not needed.
void RidgeRun::add_sums(const Prepared& prepared, const Run& run, Scratch& scratch,
                        Bounded& out) const {
  const Spectrum& spectrum = *prepared.spectrum;
  const std::vector<double>& s = spectrum.values();
  const Index k = spectrum.size(), all = static_cast<Index>(run.lambda.size());
  const Index slots = static_cast<Index>(run.slots.size());
  const std::size_t before = out.sums.size();
  out.sums.resize(before + at(all * slots));
  if (!prepared.hidden.empty()) out.hidden.resize(out.sums.size());
  scratch.z.resize(at(k * kSlotsAtOnce));
  double* const z = scratch.z.data();
  for (Index begin = 0; begin < all; begin += kLambdasAtOnce) {
    const Index L = std::min(kLambdasAtOnce, all - begin), rows = 3 * L + 1;
    scratch.filters.resize(at(k * rows));
    scratch.sums.resize(at(rows * kSlotsAtOnce));
    double* const ff = scratch.filters.data();  // f^2, s f^2, f and 1
    double *const sff = ff + k * L, *const f = sff + k * L, *const sums = scratch.sums.data();
    for (Index l = 0; l < L; ++l) {
      const double lam = run.lambda[at(begin + l)];
      for (Index i = 0; i < k; ++i) {
        const double x = lam > 0.0 || s[at(i)] > spectrum.cutoff() ? 1.0 / (s[at(i)] + lam) : 0.0;
        f[l * k + i] = x;
        ff[l * k + i] = x * x;
        sff[l * k + i] = s[at(i)] * (x * x);
      }
    }
    std::fill_n(f + k * L, k, 1.0);
    for (Index first = 0; first < slots; first += kSlotsAtOnce) {
      const Index some = std::min(kSlotsAtOnce, slots - first), padded = padded_columns(some);
      const auto z_of = [&](Index b) { return prepared.Z.data() + run.slots[at(first + b)] * k; };
      const auto place = [&](Index b) { return before + at((first + b) * all + begin); };
      std::fill(z + k * some, z + k * padded, 0.0);
      for (Index b = 0; b < some; ++b) {
        const double* from = z_of(b);
        for (Index i = 0; i < k; ++i) z[b * k + i] = from[i] * from[i];
      }
      blas::gemm(true, false, rows, padded, k, 1.0, ff, k, z, k, 0.0, sums, rows);
      for (Index b = 0; b < some; ++b) {
        const double* sum = sums + b * rows;
        for (Index l = 0; l < L; ++l) {
          out.sums[place(b) + at(l)] = {sum[l], sum[L + l], sum[2 * L + l], sum[3 * L]};
        }
      }
      if (prepared.hidden.empty()) continue;
      for (Index b = 0; b < some; ++b) {
        const double* from = z_of(b);
        for (Index i = 0; i < k; ++i) z[b * k + i] = prepared.hidden[at(i)] * from[i];
      }
      blas::gemm(true, false, L, padded, k, 1.0, f, k, z, k, 0.0, sums, L);
      for (Index b = 0; b < some; ++b) {
        std::copy_n(sums + b * L, L, out.hidden.data() + place(b));
      }
    }
  }
}

/// Calls use(b, predicted, stride) for slot b of the run: column l of held-out predictions, without
/// their constant part, begins at predicted + l stride.
template <class Use>
void RidgeRun::predict(const Prepared& prepared, const Run& run, Scratch& scratch,
                       Use&& use) const {
  const Spectrum& spectrum = *prepared.spectrum;
  const std::vector<double>& s = spectrum.values();
  const Index h = static_cast<Index>(prepared.held_out.size()), k = spectrum.size();
  const Index L = static_cast<Index>(run.lambda.size());
  const Index slots = static_cast<Index>(run.slots.size());
  const RidgeNodes nodes = ridge_nodes(s, run.lambda);
  const Index most =
      std::clamp<Index>((Index{1} << 21) / std::max<Index>(1, h * nodes.count), 1, kSlotsAtOnce);
  scratch.predicted.resize(at(h * L));
  const Index rows =
      std::max<Index>(1, kSmallProduct / (L * nodes.count) / kColumnUnit) * kColumnUnit;
  std::vector<double> f;
  for (Index first = 0; first < slots; first += most) {
    const Index some = std::min(most, slots - first);
    // Columns (slot, node) of blocks one after another; where a block is filled up, the next one
    // overwrites it.
    scratch.products.resize(at(h * (nodes.count * some + kColumnUnit)));
    Index column = 0;
    for (const RidgeNodes::Block& block : nodes.blocks) {
      const Index count = static_cast<Index>(block.node.size()) * some;
      const Index padded = padded_columns(count);
      f.resize(at(block.size));
      scratch.T.resize(at(block.size * padded));
      double* t = scratch.T.data();
      for (const Index l : block.node) {
        const double lam = run.lambda[at(l)];
        for (Index i = 0; i < block.size; ++i) {
          const double value = s[at(block.first + i)];
          f[at(i)] = lam > 0.0 || value > spectrum.cutoff() ? 1.0 / (value + lam) : 0.0;
        }
        for (Index b = 0; b < some; ++b, t += block.size) {
          const double* z = prepared.Z.data() + run.slots[at(first + b)] * k + block.first;
          for (Index i = 0; i < block.size; ++i) t[i] = f[at(i)] * z[i];
        }
      }
      std::fill(t, scratch.T.data() + block.size * padded, 0.0);
      spectrum.predict(h, block.size, prepared.HM.data() + block.first * h, padded,
                       scratch.T.data(), scratch.products.data() + column * h);
      column += count;
    }
    for (Index b = 0; b < some; ++b) {
      const double* products = scratch.products.data() + b * h;
      if (nodes.weight.empty()) {
        use(first + b, products, some * h);
        continue;
      }
      for (Index row = 0; row < h; row += rows) {
        blas::gemm(false, false, std::min(rows, h - row), L, nodes.count, 1.0, products + row,
                   some * h, nodes.weight.data(), nodes.count, 0.0, scratch.predicted.data() + row,
                   h);
      }
      use(first + b, scratch.predicted.data(), h);
    }
  }
}

Bounded RidgeRun::bound(const Prepared& prepared, const std::vector<Point>& points,
                        Scratch& scratch) const {
  const Spectrum& spectrum = *prepared.spectrum;
  const RidgeGroup& matrix = prepared.matrix;
  const Index count = static_cast<Index>(points.size()), k = spectrum.size();
  const double p = static_cast<double>(matrix.features.size());
  const double sums_goal = kSumsGoal * std::sqrt(static_cast<double>(matrix.m) * p);
  Bounded out;
  out.what = spectrum_columns(prepared, points);
  out.measures.resize(at(count));
  out.open.assign(at(count), 0);
  for (const Run& run : runs_of(prepared, points)) add_sums(prepared, run, scratch, out);

  // What a fit means without its coefficients: beta = M t, t as stored. With F = y - U z and
  // E = A A'U - U S its dual residual is y - (A A' + lambda) U t = F - E t in exact arithmetic (row
  // space; the same with A'y and A'A in column space), so that norms give a true bound on the gap
  // for the price of |t|: 1/2 |rho|^2 and rho' A A' rho / (2 lambda), or |rho|^2 / (2 lambda).
  const double top = spectrum.values().empty() ? 0.0 : spectrum.values().back();
  double trace = 0.0;  // |A|_F^2
  for (const double value : spectrum.values()) trace += value;
  for (Index c = 0; c < count; ++c) {
    const ShrunkSums& sum = out.sums[at(c)];
    const Index slot = points[at(c)].slot;
    const double lam = out.what[at(c)].lambda, yy = prepared.yy[at(slot)];
    const double null_loss = problem(prepared, slot).null_loss;
    const double rho = prepared.defect[at(slot)] + 1e-15 * std::sqrt(sum.zz) +
                       spectrum.defect() * std::sqrt(sum.tt);
    RidgeMeasure& measure = out.measures[at(c)];
    double off = rho * std::sqrt(sum.tt);  // of residual and penalty, to first order
    if (spectrum.row_space()) {
      off *= lam;
      measure.gap = 0.5 * rho * rho * std::min(1.0, (top + spectrum.defect()) / lam);
      measure.residual = lam * lam * sum.tt;
      measure.penalty = 0.5 * lam * sum.stt;
    } else {
      measure.gap = rho * rho / (2.0 * lam);
      measure.residual = yy - 2.0 * sum.zt + sum.stt;
      measure.penalty = 0.5 * lam * sum.tt;
    }
    if (!prepared.group->fold) {
      // The coefficients as stored: |A'| |U| |t| or |U| |t| times a rounding error, in the norm of
      // the Hessian.
      const double of_A = std::max(trace, matrix.square);  // without A sums may cancel
      const double size =
          std::sqrt(static_cast<double>(k) * sum.tt * (spectrum.row_space() ? of_A : 1.0));
      const double e = kUnit * static_cast<double>(matrix.m + k + 16) * size;
      const double root =
          std::sqrt(measure.gap) + e * std::sqrt(0.5 * (top + spectrum.defect() + lam));
      measure.gap = root * root;
    }
    const bool plain = lam > 0.0 && !prepared.any_ridged && !spectrum.has_delta();
    const bool cancelled = !spectrum.row_space() && measure.residual < 1e-5 * yy;
    const bool exact = prepared.group->fold || off <= sums_goal * null_loss;
    if (!plain || cancelled || !exact || !(measure.gap <= kGoal * null_loss)) out.open[at(c)] = 1;
  }
  return out;
}

/// Everything but status, intercept and what is held out.
Fit RidgeRun::of_measure(const Problem& one, const RidgeMeasure& measure, double ridged) const {
  const int scale = 2 * one.y->exponent;
  Fit fit;
  const double loss = std::max(0.0, measure.residual - ridged);
  fit.objective = std::ldexp(0.5 * measure.residual + measure.penalty, scale);
  fit.train_error = std::ldexp(loss, scale);
  fit.deviance = 1.0 - 0.5 * loss / one.null_loss;
  fit.gap = measure.gap / one.null_loss;
  fit.intercept = kNaN;
  fit.held_out_error = kNaN;
  fit.iterations = 1;
  return fit;
}

Status RidgeRun::judged(const Fit& fit) const {
  if (!std::isfinite(fit.objective) || !std::isfinite(fit.gap)) return Status::kNumericalBreakdown;
  return fit.gap <= control_.tol() ? Status::kConverged : Status::kPrecisionLimit;
}

/// One combination of fits as they are handed over: with signs +-1 its squared gradient is on
/// average the sum of theirs, and an error in one fit alone cannot cancel (Freivalds 1977).
struct RidgeRun::Combination {
  std::vector<double> sign;       // (fits), times what takes a coefficient to units of yhat
  std::vector<double> b, shrunk;  // (p) of all fits, and each times its lambda
};

RidgeRun::Combination RidgeRun::new_combination(const Prepared& prepared,
                                                const std::vector<Point>& points) const {
  Combination out;
  out.b.assign(at(batch_.columns.n_features()), 0.0);
  out.shrunk = out.b;
  std::uint64_t random = 0x9e3779b97f4a7c15;
  for (const Point& point : points) {
    random = random * 6364136223846793005 + 1442695040888963407;  // Knuth's MMIX
    const double sign = random >> 63 != 0 ? 1.0 : -1.0;
    out.sign.push_back(std::ldexp(sign, -problem(prepared, point.slot).y->exponent));
  }
  return out;
}

/// Whether the combination is stationary on X and y: two readings of X for any number of fits.
bool RidgeRun::holds(const Prepared& prepared, const std::vector<Point>& points,
                     const Combination& combination) const {
  const Columns& columns = batch_.columns;
  const RowWeighting& rows = *prepared.matrix.rows;
  const Index n = columns.n_samples(), p = columns.n_features();
  const Problem& first = problem(prepared, points.front().slot);
  if (first.projector || !rows.direct.empty()) return false;
  const std::vector<double>&b = combination.b, &shrunk = combination.shrunk;
  std::vector<double> r(at(n)), g(at(p));
  double least_loss = first.null_loss, least_lambda = lambda(prepared, points.front());
  for (std::size_t c = 0; c < points.size(); ++c) {
    const Problem& one = problem(prepared, points[c].slot);
    const double sign = std::copysign(1.0, combination.sign[c]);
    for (Index i = 0; i < n; ++i) r[at(i)] += sign * one.y->value[at(i)];
    least_loss = std::min(least_loss, one.null_loss);
    least_lambda = std::min(least_lambda, lambda(prepared, points[c]));
  }
  backend_.residuals(n, p, columns.matrix(), 1, b.data(), r.data());
  double mean = 0.0;
  for (const Index i : rows.rows) mean += rows.weight[at(i)] * r[at(i)];
  for (Index i = 0; i < n; ++i)
    r[at(i)] = rows.weight[at(i)] * (r[at(i)] - (first.intercept ? mean : 0.0));
  backend_.correlate(n, p, columns.matrix(), 1, r.data(), g.data());
  const Penalties& factors = *first.penalties;
  double gap = 0.0;
  for (Index j = 0; j < p; ++j) {
    if (factors.excluded[at(j)]) continue;
    const double missing =
        g[at(j)] - factors.l2[at(j)] * shrunk[at(j)] - factors.fixed_l2[at(j)] * b[at(j)];
    gap += missing * missing / (2.0 * first.e(j, least_lambda));
  }
  return gap <= kGoal * least_loss;
}

/// Some features, one after another, of the fits that are handed over: beta is (raw - mean sum) /
/// divisor in hat units.
struct RidgeRun::Panel {
  Index size = 0;
  const Index* features = nullptr;
  const double* raw = nullptr;      // (size, fits)
  const double* divisor = nullptr;  // (size)
  const double* mean = nullptr;     // (size), or null for 0
  const double* sum = nullptr;      // (fits)
};

/// Hands over the features of a panel in the user's units, and adds what is handed over to the
/// combination.
void RidgeRun::append(const Prepared& prepared, const std::vector<Point>& points,
                      const Panel& panel, const std::vector<Fit*>& fits,
                      Combination& combination) const {
  const Index size = panel.size;
  if (size == 0) return;
  std::vector<int> exponent(at(size));
  std::vector<double> factor(at(size)), mean(at(size), 0.0);
  std::vector<double> sum(at(size), 0.0), shrunk(sum);
  if (panel.mean != nullptr) std::copy_n(panel.mean, size, mean.begin());
  for (Index i = 0; i < size; ++i) {
    exponent[at(i)] = batch_.columns.exponent(panel.features[i]);
    factor[at(i)] = std::ldexp(1.0 / panel.divisor[i], -exponent[at(i)]);
  }
  const auto [least, most] = std::minmax_element(factor.begin(), factor.end());
  const bool moderate = std::ilogb(*least) > -kModerate && std::ilogb(*most) < kModerate;
  const bool in_a_row = panel.features[size - 1] - panel.features[0] == size - 1;
  std::vector<double> apart(in_a_row ? 0 : at(size));
  const double* raw = panel.raw;
  for (std::size_t c = 0; c < points.size(); ++c, raw += size) {
    double* const all = fits[c]->all_coef.get();
    double* const value = in_a_row ? all + panel.features[0] : apart.data();
    const int own = problem(prepared, points[c].slot).y->exponent;
    const double off = panel.mean != nullptr ? panel.sum[c] : 0.0;
    if (moderate && std::abs(own) < kModerate) {
      const double unit = std::ldexp(1.0, own);
      for (Index i = 0; i < size; ++i) {
        value[i] = (raw[i] - mean[at(i)] * off) * (factor[at(i)] * unit);
      }
    } else {
      for (Index i = 0; i < size; ++i) {
        value[i] =
            std::ldexp((raw[i] - mean[at(i)] * off) / panel.divisor[i], own - exponent[at(i)]);
      }
    }
    Index nonzero = 0;
    for (Index i = 0; i < size; ++i) nonzero += value[i] != 0.0 ? 1 : 0;
    fits[c]->n_nonzero += nonzero;
    for (Index i = 0; !in_a_row && i < size; ++i) all[panel.features[i]] = value[i];
    simd().axpy(size, combination.sign[c], value, sum.data());
    simd().axpy(size, combination.sign[c] * lambda(prepared, points[c]), value, shrunk.data());
  }
  for (Index i = 0; i < size; ++i) {
    const Index j = panel.features[i];
    combination.b[at(j)] = std::ldexp(sum[at(i)], exponent[at(i)]);
    combination.shrunk[at(j)] = std::ldexp(shrunk[at(i)], exponent[at(i)]);
  }
}

/// Forms the coefficients of points whose bound holds, and looks at them on X and y: by one
/// combination of all, and if that is not as it must be, or features were eliminated, of which the
/// bound says nothing, one by one. The bound stays unless such a certificate misses the goal.
void RidgeRun::add_coefficients(const Prepared& prepared, const std::vector<Point>& points,
                                const std::vector<Fit*>& fits, Scratch& scratch) const {
  const Columns& columns = batch_.columns;
  const RidgeGroup& matrix = prepared.matrix;
  const Spectrum& spectrum = *prepared.spectrum;
  const Index count = static_cast<Index>(points.size()), k = spectrum.size();
  const Index p_all = columns.n_features(), p = static_cast<Index>(matrix.features.size());
  std::vector<SpectrumColumn> what = spectrum_columns(prepared, points);
  pad_columns(what);
  const Index padded = static_cast<Index>(what.size());
  scratch.T.resize(at(k * padded));
  std::vector<ShrunkSums> sums(what.size());
  spectrum.shrink(what, prepared.Z.data(), scratch.T.data(), sums.data());
  for (Fit* fit : fits) {
    fit->n_nonzero = 0;
    fit->all_coef = std::make_unique_for_overwrite<double[]>(at(p_all));
    if (p < p_all) std::fill_n(fit->all_coef.get(), p_all, 0.0);
  }
  const bool eliminated = matrix.n_eliminated() > 0;
  Combination combination = new_combination(prepared, points);
  if (prepared.whole) {
    std::vector<double> alpha(at(k * padded));
    spectrum.coefficients(padded, scratch.T.data(), alpha.data());
    std::vector<double> square(at(p)), sum(at(padded));
    for (Index j = 0; j < p; ++j) square[at(j)] = matrix.root[at(j)] * matrix.root[at(j)];
    products_coefficients(
        columns, matrix, backend_, padded, alpha.data(), scratch.beta, sum.data(),
        [&](Index first, Index size) {
          append(prepared, points,
                 {size, matrix.features.data() + first, scratch.beta.data(), square.data() + first,
                  matrix.rows->mean.data() + first, sum.data()},
                 fits, combination);
        });
  } else {
    scratch.beta.resize(at(p * padded));
    spectrum.coefficients(padded, scratch.T.data(), scratch.beta.data());
    if (eliminated) {
      std::vector<double> B(at(p_all * count)), ones(at(p_all), 1.0);
      std::vector<Index> every(at(p_all));
      std::iota(every.begin(), every.end(), Index{0});
      expand(prepared, points, scratch.beta.data(), B.data());
      append(prepared, points, {p_all, every.data(), B.data(), ones.data()}, fits, combination);
    } else {
      append(prepared, points, {p, matrix.features.data(), scratch.beta.data(), matrix.root.data()},
             fits, combination);
    }
  }
  if (!eliminated && holds(prepared, points, combination)) return;

  std::vector<double> B, R;
  for (Index first = 0; first < count; first += wide_columns()) {
    const Index last = std::min(count, first + wide_columns());
    const std::vector<Point> some(points.begin() + first, points.begin() + last);
    B.resize(at(p_all * (last - first)));
    for (Index c = first; c < last; ++c) {
      const int exponent = problem(prepared, points[at(c)].slot).y->exponent;
      const double* b = fits[at(c)]->all_coef.get();
      for (Index j = 0; j < p_all; ++j) {
        B[at((c - first) * p_all + j)] = std::ldexp(b[j], columns.exponent(j) - exponent);
      }
    }
    const std::vector<double> gaps = certify_batch(prepared, some, B, R);
    for (Index c = first; c < last; ++c) {
      Fit& fit = *fits[at(c)];
      const double gap = gaps[at(c - first)];
      if (gap <= kGoal) continue;
      fit.gap = gap;
      if (fit.status != Status::kNumericalBreakdown) fit.status = judged(fit);
    }
  }
}

void RidgeRun::solve_full(const Prepared& prepared, const std::vector<Point>& points,
                          Scratch& scratch) {
  const RidgeGroup& matrix = prepared.matrix;
  const Index count = static_cast<Index>(points.size());
  std::vector<Fit> fits(at(count));
  enum class Needs : std::uint8_t { kNothing, kCoefficients, kMeasuring };
  std::vector<Needs> needs(at(count), Needs::kNothing);
  const auto wanted = [&](Index c) {
    const std::vector<Index>& only = problem(prepared, points[at(c)].slot).keep_only;
    return only.empty() ||
           std::find(only.begin(), only.end(), points[at(c)].lambda_index) != only.end();
  };
  const Bounded bounded = bound(prepared, points, scratch);
  for (Index c = 0; c < count; ++c) {
    if (bounded.open[at(c)]) {
      needs[at(c)] = Needs::kMeasuring;
      continue;
    }
    const Index slot = points[at(c)].slot;
    const Problem& one = problem(prepared, slot);
    Fit& fit = fits[at(c)];
    fit = of_measure(one, bounded.measures[at(c)], 0.0);
    fit.intercept = 0.0;
    if (one.intercept) {
      const double b0 = prepared.hidden_constant[at(slot)] +
                        (bounded.hidden.empty() ? 0.0 : bounded.hidden[at(c)]);
      fit.intercept = one.y->centre + std::ldexp(b0, one.y->exponent);
    }
    fit.rank_deficient = matrix.eliminated_deficient;
    fit.n_nonzero = bounded.sums[at(c)].tt == 0.0 ? 0 : -1;
    fit.status = std::isfinite(fit.intercept) ? judged(fit) : Status::kNumericalBreakdown;
    if (wanted(c)) needs[at(c)] = Needs::kCoefficients;
  }

  for (Index c = 0; c < count; ++c) {
    const Index number = prepared.group->problems[at(points[at(c)].slot)];
    if (ended_[at(number)]) continue;
    const Needs need = needs[at(c)];
    if (need != Needs::kNothing) {
      const Status stop = control_.interruption();
      if (stop != Status::kConverged) {
        fits[at(c)] = Fit();
        fits[at(c)].status = stop;
        hand_over(number, points[at(c)].lambda_index, std::move(fits[at(c)]));
        ended_[at(number)] = 1;
        continue;
      }
      // One matrix (p, most), but more where X is read, and any number of columns in panels.
      Index most = kCoefColumns;
      if (need == Needs::kMeasuring || matrix.n_eliminated() > 0) {
        most = wide_columns();
      } else if (!prepared.whole) {
        most = std::min(4 * wide_columns(), kCoefColumns);
      }
      std::vector<Point> some;
      std::vector<Index> place;
      for (Index b = c; b < count && static_cast<Index>(some.size()) < most; ++b) {
        if (needs[at(b)] != need || ended_[at(prepared.group->problems[at(points[at(b)].slot)])]) {
          continue;
        }
        some.push_back(points[at(b)]);
        place.push_back(b);
        needs[at(b)] = Needs::kNothing;
      }
      if (need == Needs::kMeasuring) {
        pad_columns(some);
        const Prepared& whole = with_columns(prepared);
        std::vector<Fit> found(some.size());
        if (whole.spectrum) {
          found = solve_measured(whole, some);
        } else {
          for (Fit& fit : found) fit.status = Status::kNumericalBreakdown;
        }
        for (std::size_t i = 0; i < place.size(); ++i) {
          if (!wanted(place[i])) found[i].coef = {};
          fits[at(place[i])] = std::move(found[i]);
        }
      } else {
        std::vector<Fit*> to;
        for (const Index b : place) to.push_back(&fits[at(b)]);
        add_coefficients(prepared, some, to, scratch);
      }
    }
    hand_over(number, points[at(c)].lambda_index, std::move(fits[at(c)]));
    control_.count(1);
  }
}

/// Spectrum::refine with the responses that these columns have.
void RidgeRun::refine(const Prepared& prepared, const std::vector<SpectrumColumn>& what,
                      std::vector<double>& T, std::vector<double>& beta,
                      std::vector<RidgeMeasure>& measures) const {
  const RidgeGroup& matrix = prepared.matrix;
  std::vector<SpectrumColumn> columns = what;
  std::vector<double> Y, share(at(matrix.n_eliminated()));
  Index slot = -1, place = -1;
  for (SpectrumColumn& column : columns) {
    if (column.response != slot) {
      slot = column.response;
      ++place;
      Y.resize(Y.size() + at(matrix.m));
      weighted_response(matrix, problem(prepared, slot), Y.data() + place * matrix.m, share.data());
    }
    column.response = place;
  }
  prepared.spectrum->refine(columns, Y.data(), T.data(), beta.data(), measures.data());
}

/// Fits whose residuals and correlations come from X, refined where that helps.
std::vector<Fit> RidgeRun::solve_measured(const Prepared& prepared,
                                          const std::vector<Point>& points) const {
  const Columns& columns = batch_.columns;
  const Spectrum& spectrum = *prepared.spectrum;
  const Index count = static_cast<Index>(points.size()), k = spectrum.size();
  const Index n = columns.n_samples(), p_all = columns.n_features();
  const Index p = static_cast<Index>(prepared.matrix.features.size());

  const std::vector<SpectrumColumn> what = spectrum_columns(prepared, points);
  std::vector<double> T(at(k * count)), beta(at(p * count)), B(at(p_all * count)), R;
  std::vector<ShrunkSums> sums(at(count));
  spectrum.shrink(what, prepared.Z.data(), T.data(), sums.data());
  spectrum.coefficients(count, T.data(), beta.data());
  expand(prepared, points, beta.data(), B.data());
  std::vector<double> gaps = certify_batch(prepared, points, B, R);
  std::vector<Index> iterations(at(count), 1);

  std::vector<Index> todo;
  for (Index c = 0; c < count; ++c) {
    if (!(gaps[at(c)] <= kGoal)) todo.push_back(c);
  }
  for (int step = 0; !todo.empty() && step <= kMaxRefinements; ++step) {
    const Index some = static_cast<Index>(todo.size());
    std::vector<SpectrumColumn> sub_what;
    std::vector<Point> sub_points;
    std::vector<double> sub_T, sub_beta, sub_R;
    std::vector<Index> columns_of = todo;
    pad_columns(columns_of);
    const Index padded = static_cast<Index>(columns_of.size());
    for (const Index c : columns_of) {
      sub_what.push_back(what[at(c)]);
      sub_points.push_back(points[at(c)]);
      sub_T.insert(sub_T.end(), T.begin() + c * k, T.begin() + (c + 1) * k);
      sub_beta.insert(sub_beta.end(), beta.begin() + c * p, beta.begin() + (c + 1) * p);
    }
    std::vector<RidgeMeasure> measures(at(padded));
    refine(prepared, sub_what, sub_T, sub_beta, measures);
    // At lambda = 0 the certificate needs q off all columns, which is what the spectrum measures.
    for (Index s = 0; s < some; ++s) {
      const Index c = todo[at(s)];
      if (std::isnan(gaps[at(c)]) && what[at(c)].lambda == 0.0) {
        gaps[at(c)] = measures[at(s)].gap / problem(prepared, points[at(c)].slot).null_loss;
      }
    }
    if (step == kMaxRefinements) break;
    std::vector<double> sub_B(at(p_all * padded));
    expand(prepared, sub_points, sub_beta.data(), sub_B.data());
    const std::vector<double> sub_gaps = certify_batch(prepared, sub_points, sub_B, sub_R);
    std::vector<Index> next;
    for (Index s = 0; s < some; ++s) {
      const Index c = todo[at(s)];
      const bool exact = what[at(c)].lambda == 0.0 && std::isnan(sub_gaps[at(s)]);
      if (exact ? gaps[at(c)] <= kGoal : !(sub_gaps[at(s)] < gaps[at(c)])) continue;
      gaps[at(c)] = sub_gaps[at(s)];
      ++iterations[at(c)];
      std::copy_n(sub_T.begin() + s * k, k, T.begin() + c * k);
      std::copy_n(sub_beta.begin() + s * p, p, beta.begin() + c * p);
      std::copy_n(sub_B.begin() + s * p_all, p_all, B.begin() + c * p_all);
      std::copy_n(sub_R.begin() + s * n, n, R.begin() + c * n);
      if (!(gaps[at(c)] <= kGoal)) next.push_back(c);
    }
    todo = std::move(next);
  }

  std::vector<Fit> fits;
  SparseCoef coef;
  const std::vector<std::uint8_t>& unpenalised = prepared.matrix.unpenalised;
  std::optional<Projector> at_zero;  // of all problems here: they share rows and factors
  for (Index c = 0; c < count; ++c) {
    const Problem& one = problem(prepared, points[at(c)].slot);
    const double lam = lambda(prepared, points[at(c)]);
    Index rank = prepared.rank;
    coef.clear();
    for (Index j = 0; j < p_all; ++j) {
      const double b = B[at(c * p_all + j)];
      if (b != 0.0) coef.emplace_back(j, b);
    }
    const std::vector<double> r(R.begin() + c * n, R.begin() + (c + 1) * n);
    Fit fit = finish_fit(columns, one, lam, coef, r, gaps[at(c)], control_.tol(), false);
    if (what[at(c)].lambda == 0.0 && loses_directions(columns, one, r)) {
      if (!at_zero) at_zero.emplace(projector_at_zero(columns, one));
      const auto certified = [&](const SparseCoef& b) {
        return certify(columns, one, lam, b, control_.tol(), false, &*at_zero);
      };
      fit = certified(coef);
      if (fit.status != Status::kConverged) {
        Fit other = certified(least_squares(columns, one, *at_zero));
        if (other.gap < fit.gap) {
          fit = std::move(other);
          // Those without any v_j are in the projector, too.
          const auto n_free = std::count(unpenalised.begin(), unpenalised.end(), std::uint8_t{1});
          rank = at_zero->rank() - static_cast<Index>(n_free);
        }
      }
    }
    if (fit.status == Status::kIterationLimit) fit.status = Status::kPrecisionLimit;
    fit.iterations = iterations[at(c)];
    fit.rank_deficient =
        prepared.matrix.eliminated_deficient || (what[at(c)].lambda == 0.0 && rank < p);
    fits.push_back(std::move(fit));
  }
  return fits;
}

std::vector<Fit> RidgeRun::solve_fold(const Prepared& prepared, const std::vector<Point>& points,
                                      Scratch& scratch) const {
  const Spectrum& spectrum = *prepared.spectrum;
  const RidgeGroup& matrix = prepared.matrix;
  const Index count = static_cast<Index>(points.size()), k = spectrum.size();
  const Index p = static_cast<Index>(matrix.features.size());
  const Index h = static_cast<Index>(prepared.held_out.size());
  const Index r = matrix.n_eliminated();

  Bounded bounded = bound(prepared, points, scratch);
  const std::vector<SpectrumColumn>& what = bounded.what;
  std::vector<RidgeMeasure>& measures = bounded.measures;
  std::vector<double> ridged(at(count), 0.0);  // part of measures.residual that is penalty
  std::vector<Index> open, iterations(at(count), 1);
  std::vector<Point> elsewhere;
  std::vector<Index> place_elsewhere;
  for (Index c = 0; c < count; ++c) {
    if (!bounded.open[at(c)]) continue;
    if (prepared.whole) {
      elsewhere.push_back(points[at(c)]);
      place_elsewhere.push_back(c);
    } else {
      open.push_back(c);
    }
  }

  std::vector<double> refined(at(h) * open.size());  // predictions of those that are open
  const std::size_t most = at(wide_columns());
  for (std::size_t first = 0; first < open.size(); first += most) {
    const std::vector<Index> todo(
        open.begin() + static_cast<std::ptrdiff_t>(first),
        open.begin() + static_cast<std::ptrdiff_t>(std::min(open.size(), first + most)));
    const Index some = static_cast<Index>(todo.size());
    std::vector<SpectrumColumn> sub_what;
    std::vector<Point> sub_points;
    std::vector<Index> columns_of = todo;
    pad_columns(columns_of);
    const Index padded = static_cast<Index>(columns_of.size());
    std::vector<double> sub_T(at(k * padded)), kept(at(p * padded)), sub_beta(at(p * padded));
    for (const Index c : columns_of) {
      sub_what.push_back(what[at(c)]);
      sub_points.push_back(points[at(c)]);
    }
    std::vector<ShrunkSums> sums(at(padded));
    spectrum.shrink(sub_what, prepared.Z.data(), sub_T.data(), sums.data());
    spectrum.coefficients(padded, sub_T.data(), sub_beta.data());
    std::vector<RidgeMeasure> found(at(padded));
    std::vector<std::uint8_t> settled(at(some), 0);
    bool more = true;
    for (int step = 0; more && step <= kMaxRefinements; ++step) {
      const std::vector<double> before = sub_beta;
      refine(prepared, sub_what, sub_T, sub_beta, found);
      more = false;
      for (Index s = 0; s < some; ++s) {
        if (settled[at(s)]) continue;
        const Index c = todo[at(s)];
        if (step > 0 && !(found[at(s)].gap < measures[at(c)].gap)) {
          settled[at(s)] = 1;
          continue;
        }
        measures[at(c)] = found[at(s)];
        iterations[at(c)] = step + 1;
        std::copy_n(before.begin() + s * p, p, kept.begin() + s * p);
        const double goal = kGoal * problem(prepared, points[at(c)].slot).null_loss;
        settled[at(s)] = found[at(s)].gap <= goal ? 1 : 0;
        more = more || !settled[at(s)];
      }
    }
    std::vector<double> sub_predicted(at(h * padded));
    spectrum.predict_from(h, prepared.H.data(), padded, kept.data(), sub_predicted.data());
    std::vector<double> B;
    if (prepared.any_ridged) {
      B.resize(at(batch_.columns.n_features() * padded));
      expand(prepared, sub_points, kept.data(), B.data());
    }
    for (Index s = 0; s < some; ++s) {
      std::copy_n(sub_predicted.begin() + s * h, h,
                  refined.begin() + (static_cast<Index>(first) + s) * h);
      for (Index e = 0; prepared.any_ridged && e < r; ++e) {
        if (matrix.unpenalised[at(e)]) continue;
        const Index j = matrix.eliminated[at(e)];
        const double b = B[at(s * batch_.columns.n_features() + j)];
        ridged[at(todo[at(s)])] += matrix.penalties->fixed_l2[at(j)] * b * b;
      }
    }
  }

  std::vector<Fit> fits;
  std::size_t next_open = 0;
  for (const Run& run : runs_of(prepared, points)) {
    predict(prepared, run, scratch, [&](Index b, const double* predicted, Index stride) {
      const Index slot = run.slots[at(b)];
      const Problem& one = problem(prepared, slot);
      const int scale = 2 * one.y->exponent;
      const double* constant = prepared.constant.data() + slot * h;
      // Where its own held-out rows are, and what is to be predicted of those with weight.
      std::vector<Index> place(one.held_out.size());
      std::iota(place.begin(), place.end(), Index{0});
      if (one.held_out != prepared.held_out) {
        for (std::size_t i = 0; i < place.size(); ++i) {
          place[i] = std::lower_bound(prepared.held_out.begin(), prepared.held_out.end(),
                                      one.held_out[i]) -
                     prepared.held_out.begin();
        }
      }
      std::vector<Index> where;
      std::vector<double> target, weight;
      double total = 0.0;
      for (std::size_t i = 0; i < place.size(); ++i) {
        const double w = one.held_out_weight[i];
        if (!(w > 0.0)) continue;
        where.push_back(place[i]);
        weight.push_back(w);
        target.push_back(one.y->value[at(one.held_out[i])] - constant[place[i]]);
        total += w;
      }
      const bool as_they_stand = static_cast<Index>(where.size()) == h;
      std::vector<double> off(where.size());
      for (std::size_t l = 0; l < run.lambda.size(); ++l) {
        const Index c = static_cast<Index>(fits.size());
        const double* found = predicted + static_cast<Index>(l) * stride;
        if (next_open < open.size() && open[next_open] == c) {
          found = refined.data() + static_cast<Index>(next_open++) * h;
        }
        Fit fit = of_measure(one, measures[at(c)], ridged[at(c)]);
        fit.iterations = iterations[at(c)];
        fit.status = judged(fit);
        if (as_they_stand) {
          for (std::size_t i = 0; i < off.size(); ++i) off[i] = target[i] - found[i];
        } else {
          for (std::size_t i = 0; i < off.size(); ++i) off[i] = target[i] - found[where[i]];
        }
        double mean = 0.0, sum = 0.0;
        simd().moments(static_cast<Index>(off.size()), weight.data(), off.data(), &mean, &sum);
        for (std::size_t i = 0; batch_.want_prediction && i < place.size(); ++i) {
          fit.held_out_prediction.push_back(
              one.y->centre + std::ldexp(constant[place[i]] + found[place[i]], one.y->exponent));
        }
        if (total > 0.0) {
          fit.held_out_error = std::ldexp(sum / total, scale);
          if (!std::isfinite(fit.held_out_error)) fit.status = Status::kNumericalBreakdown;
        }
        fit.rank_deficient =
            matrix.eliminated_deficient || (what[at(c)].lambda == 0.0 && prepared.rank < p);
        fits.push_back(std::move(fit));
      }
    });
  }
  if (!elsewhere.empty()) {
    const Prepared& whole = with_columns(prepared);
    if (!whole.spectrum) return fits;  // the bounds above are true
    std::vector<Fit> found = solve_fold(whole, elsewhere, scratch);
    for (std::size_t i = 0; i < found.size(); ++i) {
      fits[at(place_elsewhere[i])] = std::move(found[i]);
    }
  }
  return fits;
}

void RidgeRun::solve_points(const Prepared& prepared, const std::vector<Point>& all,
                            Scratch& scratch) {
  const Status stop = control_.interruption();
  std::vector<Point> points;
  for (const Point& point : all) {
    const Index number = prepared.group->problems[at(point.slot)];
    const Problem& one = problem(prepared, point.slot);
    if (ended_[at(number)]) continue;
    if (stop != Status::kConverged || !prepared.spectrum) {
      Fit fit;
      fit.status = stop != Status::kConverged ? stop : Status::kNumericalBreakdown;
      hand_over(number, point.lambda_index, std::move(fit));
      if (stop != Status::kConverged) ended_[at(number)] = 1;
    } else if (one.negligible) {
      hand_over(number, point.lambda_index,
                finish_fit(batch_.columns, one, lambda(prepared, point), {},
                           residual(batch_.columns, one, {}), 0.0, control_.tol(),
                           batch_.want_prediction));
      control_.count(1);
    } else {
      points.push_back(point);
    }
  }
  if (points.empty()) return;
  if (!prepared.group->fold) {
    solve_full(prepared, points, scratch);
    return;
  }
  // Whole slots: what a fit shares with the rest of its grid decides its last bits.
  const std::size_t most =
      at(kRefinedNumbers / std::max<Index>(1, static_cast<Index>(prepared.held_out.size())));
  for (std::size_t first = 0, last = 0; first < points.size(); first = last) {
    last = std::min(points.size(), first + std::max<std::size_t>(1, most));
    while (last < points.size() && points[last].slot == points[last - 1].slot) ++last;
    const std::vector<Point> some(points.begin() + static_cast<std::ptrdiff_t>(first),
                                  points.begin() + static_cast<std::ptrdiff_t>(last));
    std::vector<Fit> fits = solve_fold(prepared, some, scratch);
    for (std::size_t c = 0; c < fits.size(); ++c) {
      hand_over(prepared.group->problems[at(some[c].slot)], some[c].lambda_index,
                std::move(fits[c]));
    }
    control_.count(static_cast<Index>(fits.size()));
  }
}

/// A system for every lambda, largest first; then the usual one for lambda = 0.
void RidgeRun::solve_ladder(const Group& group, Scratch& scratch) {
  for (const double lam : distinct_lambdas(batch_.problems, group)) {
    const Prepared prepared =
        prepare(group, lam > 0.0 ? std::optional<double>(lam) : std::nullopt, true);
    std::vector<Point> points;
    for (std::size_t s = 0; s < group.problems.size(); ++s) {
      const std::vector<double>& grid = batch_.problems[at(group.problems[s])].lambda;
      for (std::size_t l = 0; l < grid.size(); ++l) {
        if (grid[l] == lam) points.push_back({static_cast<Index>(s), static_cast<Index>(l)});
      }
    }
    solve_points(prepared, points, scratch);
  }
}

void RidgeRun::run() {
  std::vector<Group> groups = group_problems(batch_.problems);
  for (const Problem& one : batch_.problems) {
    for (const double lam : one.lambda) {
      if (one.l1_ratio > 0.0 && lam > 0.0) {
        throw Error(Errc::kInvalidArgument,
                    "solve_ridge: l1_ratio must be 0 where lambda > 0, got " +
                        std::to_string(one.l1_ratio));
      }
    }
  }
  if (std::any_of(groups.begin(), groups.end(), [](const Group& g) { return !g.fold; })) {
    batch_.columns.build_all(pool_);
  }

  multiply_rows(groups);
  multiply_means(groups);
  multiply_columns(groups);

  std::vector<std::uint8_t> ladder(groups.size());
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const Problem& first = batch_.problems[at(groups[g].problems.front())];
    std::vector<double> grid = distinct_lambdas(batch_.problems, groups[g]);
    if (!grid.empty() && grid.back() == 0.0) grid.pop_back();
    ladder[g] = one_system_per_lambda(batch_.columns, *first.rows, *first.penalties,
                                      static_cast<Index>(grid.size()))
                    ? 1
                    : 0;
  }

  // As many decompositions at a time as there are threads: they need the memory, and one group's
  // columns alone would leave the other threads idle while the next one is decomposed.
  const std::size_t wave = at(pool_.n_threads());
  std::vector<Scratch> scratch(wave);
  for (std::size_t first = 0; first < groups.size(); first += wave) {
    const std::size_t last = std::min(groups.size(), first + wave);
    std::vector<Prepared> prepared(last - first);
    pool_.run(static_cast<Index>(last - first), [&](Index k, int thread) {
      const Group& group = groups[first + at(k)];
      if (ladder[first + at(k)]) {
        solve_ladder(group, scratch[at(thread)]);
      } else if (control_.interruption() == Status::kConverged) {
        prepared[at(k)] = prepare(group, std::nullopt, false);
      } else {
        prepared[at(k)].group = &group;
      }
    });

    struct Task {
      std::size_t group;
      Index first_slot, last_slot;
    };
    std::vector<Task> tasks;
    for (std::size_t k = 0; k < prepared.size(); ++k) {
      if (ladder[first + k]) continue;
      const std::vector<Index>& members = groups[first + k].problems;
      Index begin = 0, columns = 0;
      for (Index s = 0; s < static_cast<Index>(members.size()); ++s) {
        const Problem& member = batch_.problems[at(members[at(s)])];
        const bool few = !member.keep_only.empty();
        columns += static_cast<Index>(few ? member.keep_only.size() : member.lambda.size());
        if (columns < (few ? kChosenPerTask : kColumnsPerTask) &&
            s + 1 < static_cast<Index>(members.size())) {
          continue;
        }
        tasks.push_back({k, begin, s + 1});
        begin = s + 1;
        columns = 0;
      }
    }
    pool_.run(static_cast<Index>(tasks.size()), [&](Index t, int thread) {
      const Task& task = tasks[at(t)];
      const Prepared& one = prepared[task.group];
      std::vector<Point> points;
      for (Index s = task.first_slot; s < task.last_slot; ++s) {
        const Index length = static_cast<Index>(problem(one, s).lambda.size());
        for (Index l = 0; l < length; ++l) points.push_back({s, l});
      }
      solve_points(one, points, scratch[at(thread)]);
    });
  }
}

}  // namespace

void solve_ridge(const Batch& batch, const ThreadPool& pool, RunControl& control, FitSink& sink) {
  std::unique_ptr<SpectrumBackend> device;
  if (batch.accelerator != nullptr) device = batch.accelerator->spectrum_backend();
  RidgeRun(batch, device ? *device : cpu_spectrum_backend(), pool, control, sink).run();
}

double ridge_top_eigenvalue(const Columns& columns, const Problem& problem) {
  const RidgeGroup group =
      make_ridge_group(columns, *problem.rows, *problem.penalties, problem.intercept);
  return cpu_spectrum_backend().top_eigenvalue(group.system) / group.unit;
}

}  // namespace thresher
