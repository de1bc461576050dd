#pragma once

#include <span>
#include <vector>

#include "setup/columns.hpp"
#include "setup/row_weighting.hpp"
#include "setup/thread_pool.hpp"

namespace thresher {

/// Coefficients whose residuals r are asked for, one column for each of n_candidates.
struct PassRequest {
  std::span<const double> response;      ///< (rows with weight) as GramRows weighs them
  std::span<const Index> covered;        ///< features in use
  std::span<const Index> n_covered;      ///< (n_candidates) so many are in use so far; ascending
  std::span<const double> coef;          ///< (covered, n_candidates)
  std::span<const double> root_squares;  ///< (n_candidates) about |r|, for the range of float
  std::span<const Index> outside;        ///< features whose correlations are wanted in float
  Index n_candidates = 0;
  bool want_covered = false;  ///< instead of outside: correlations of covered features, in double
};

/// What one reading of X tells.
struct PassResult {
  std::vector<double> squares;  ///< (n_candidates) sum_i w_i r_i^2
  std::vector<double> covered;  ///< (covered, n_candidates) x_j' W r, of the first n_covered
  std::vector<double> outside;  ///< (outside, n_candidates), to within error(j, candidate)
  std::vector<double> floor;    ///< (n_candidates) what float may have lost at its lower end

  /// Bound of the error of `outside` for a column of this norm.
  double error(double norm, std::size_t candidate) const;
};

/// In parallel over parts of the rows, whose number does not depend on that of threads.
PassResult read_through(const Columns& columns, const RowWeighting& rows,
                        const PassRequest& request, const ThreadPool& pool);

}  // namespace thresher
