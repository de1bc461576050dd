#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "backend/spectrum_backend.hpp"
#include "setup/columns.hpp"
#include "setup/problem.hpp"
#include "setup/row_weighting.hpp"

namespace thresher {

/// The matrix of one distinct (w, v, d), ready to be decomposed. With W^1/2 on the rows that carry
/// weight, columns centred, and one more row sqrt(d_j) e_j per feature with v_j = 0 < d_j:
///
///     features with v_j = 0 (with or without d_j) are projected off: Q, R
///     A_j = (I - QQ') x_j / root_j,  root_j = sqrt(v_j / unit),  for the others
///
/// so that beta_j = b_j root_j solves the RidgeSystem with lambda * unit + shift.
struct RidgeGroup {
  const RowWeighting* rows = nullptr;
  const Penalties* penalties = nullptr;
  bool intercept = true;
  std::optional<double> fixed_lambda;  ///< v_j stands for e_j at this lambda, lambda for 1

  std::vector<Index> features;  ///< columns of A, ascending
  std::vector<double> root;     ///< as above
  double unit = 1.0;            ///< a power of two near the least v_j
  double shift = 0.0;           ///< the common value of unit d_j / v_j, if there is one
  Index m = 0;                  ///< rows of A: rows with weight, then the eliminated features

  std::vector<Index> eliminated;  ///< features with v_j = 0, those that add nothing left out
  std::vector<std::uint8_t> unpenalised;  ///< of `eliminated`: 1 where d_j = 0
  bool eliminated_deficient = false;      ///< an unpenalised feature depends on the others
  std::vector<double> Q;                  ///< (m, n_eliminated) orthonormal
  std::vector<double> R;                  ///< (n_eliminated, n_eliminated) upper triangle
  std::vector<double> QA;                 ///< (n_eliminated, features) Q' x_j / root_j

  RidgeSystem system;  ///< moved into the backend

  // Of a group made from products alone:
  std::vector<double> mean_products;  ///< (n) unit xhat_i' D^-1 mean
  double mean_square = 0.0;           ///< unit mean' D^-1 mean
  double square = 0.0;                ///< unit sum_i w_i (|D^-1/2 xhat_i| + |D^-1/2 mean|)^2

  // Of a group that is all rows but some:
  std::vector<Index> left_out;      ///< those, ascending
  std::vector<double> left_values;  ///< (left_out, p) their xhat
  double left_error = 0.0;          ///< of a sum over the rest, relative to the norms of its terms
  double size = 0.0;                ///< |s / root|, s_j = sqrt(w) |xhat_j| over all rows + |mean_j|

  Index n_eliminated() const { return static_cast<Index>(eliminated.size()); }
  double effective_lambda(double lambda) const {
    return (fixed_lambda ? 1.0 : lambda) * unit + shift;
  }
};

/// d cannot be folded into lambda and the column side is dear: then every lambda gets its own
/// system, whose v_j is e_j. Decided from sizes and the number of distinct lambdas > 0.
bool one_system_per_lambda(const Columns& columns, const RowWeighting& rows,
                           const Penalties& penalties, Index n_lambdas);

RidgeGroup make_ridge_group(const Columns& columns, const RowWeighting& rows,
                            const Penalties& penalties, bool intercept,
                            std::optional<double> fixed_lambda = std::nullopt);

/// X D^-1 X' of the stored columns, D = diag(v_j): the Gram matrices of rows of X are parts of it.
struct RowProducts {
  std::vector<double> l2;  ///< (p) v
  double unit = 1.0;       ///< as in RidgeGroup
  std::vector<double> K;   ///< (n, n), both triangles, times unit
};

/// True if K of the system of these rows can be taken from such products: fewer rows than columns,
/// every feature has v_j > 0 and no d_j, and none is centred directly.
bool products_suffice(const Columns& columns, const RowWeighting& rows, const Penalties& penalties);

RowProducts make_row_products(const Columns& columns, const Penalties& penalties);

/// RidgeGroup::mean_products of groups that are made from products, X read once.
std::vector<std::vector<double>> mean_products(const Columns& columns, const RowProducts& products,
                                               std::span<const RowWeighting* const> rows);

/// The group without A, if products_suffice() for its rows and its v_j are those of the products.
RidgeGroup make_ridge_group(const Columns& columns, const RowWeighting& rows,
                            const Penalties& penalties, bool intercept, const RowProducts& products,
                            const std::vector<double>& mean_products);

/// True if A'A of the system of these rows can be taken from X'X of all: as many rows as columns,
/// equal weights, at most half of the rows left out, and factors as above.
bool all_but_some_suffice(const Columns& columns, const RowWeighting& rows,
                          const Penalties& penalties);

/// The group without A, from X'X (p, p) of all rows, both triangles.
RidgeGroup make_ridge_group(const Columns& columns, const RowWeighting& rows,
                            const Penalties& penalties, bool intercept,
                            const std::vector<double>& gram);

/// out (p, count) = A'y of responses that have X'y (p) in `whole`, for such a group; errors[r] is
/// at least what the norm of a column is off by.
void response_products(const RidgeGroup& group, const std::vector<const Problem*>& problems,
                       const std::vector<const double*>& whole, double* out, double* errors);

/// H (rows, m) = rows that are to be predicted times A', for a group made from row products.
void prediction_products(const RidgeGroup& group, const RowProducts& products,
                         const std::vector<Index>& rows, std::vector<double>& H);

/// out (m) = A (row / root), for such a group: a row x of X, centred or not, as column of H above.
void row_products(const Columns& columns, const RidgeGroup& group, const std::vector<double>& row,
                  double* out);

/// A' alpha, alpha (m, count), for such a group, some features one after another: before every
/// use(first, size) it is (beta - mean sum') / root, beta (size, count) of features first .. first
/// + size - 1, sum (count).
void products_coefficients(const Columns& columns, const RidgeGroup& group,
                           const SpectrumBackend& backend, Index count, const double* alpha,
                           std::vector<double>& beta, double* sum,
                           const std::function<void(Index first, Index size)>& use);

/// Writes sqrt(w_i) (yhat_i - y_mean), projected, to y (m), and Q'y to c (n_eliminated).
void weighted_response(const RidgeGroup& group, const Problem& problem, double* y, double* c);

/// Rows of X to be predicted: H (rows, features) takes beta to fitted values without their
/// constant part, and constant part o (rows, n_eliminated) takes R^-1 c there.
void prediction_rows(const Columns& columns, const RidgeGroup& group,
                     const std::vector<Index>& rows, std::vector<double>& H,
                     std::vector<double>& constant);

/// x <- R^-1 x.
void solve_eliminated(const RidgeGroup& group, double* x);

}  // namespace thresher
