#pragma once

#include <memory>
#include <vector>

#include "setup/columns.hpp"
#include "setup/thread_pool.hpp"

namespace thresher {

/// One distinct vector of row weights and what the columns look like under it (units of xhat).
struct RowWeighting {
  std::vector<double> weight;          ///< (n) >= 0, sums to 1
  std::vector<Index> rows;             ///< rows with weight > 0, ascending
  bool uniform = false;                ///< all weights equal
  std::vector<double> mean;            ///< (p) sum_i w_i xhat_ij; all 0 without centring
  std::vector<double> variance;        ///< (p) about that mean (with or without an intercept)
  std::vector<double> second_moment;   ///< (p) sum_i w_i xhat_ij^2
  std::vector<std::uint8_t> constant;  ///< (p) sd <= n eps max|x| over the rows with weight

  /// Columns whose plain mean was dragged away by rows without weight are kept here, centred for
  /// this w directly from X (zero in rows without weight). Usually none.
  std::vector<Index> direct;          ///< ascending
  std::vector<double> direct_values;  ///< (n, direct.size()) column-major
  /// direct index of feature j, or -1.
  Index direct_index(Index j) const;

  /// xhat_j for products with vectors z that vanish where w does and sum to 0 (with an intercept).
  const double* column(const Columns& columns, Index j) const;
  /// The same without keeping it: `buffer` (n_samples) may be written to.
  const double* read(const Columns& columns, Index j, double* buffer) const;
  /// out[k] = column(features[k])' z; keeps nothing where X is column-major.
  void dots(const Columns& columns, std::span<const Index> features, const double* z,
            double* out) const;
  /// Weighted mean of what column() returns: mean[j], or 0 for a direct column.
  double column_mean(Index j) const;
  /// What makes column j, as it is centred for this w, from (x_j - Columns::mean) 2^-exponent.
  double centring(const Columns& columns, Index j) const;

  /// xhat_j about its weighted mean (as it is without centring), on every row, those without weight
  /// included: what a coefficient adds to the fitted values.
  void centred_column(const Columns& columns, Index j, double* out) const;
};

/// Builds weightings for all `weights` (each (n), >= 0, not all 0; rescaled here) in one pass over
/// the columns.
std::vector<std::shared_ptr<const RowWeighting>> make_row_weightings(
    const Columns& columns, const std::vector<std::vector<double>>& weights,
    const ThreadPool& pool);

}  // namespace thresher
