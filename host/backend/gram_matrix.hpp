#pragma once

#include <memory>
#include <span>
#include <vector>

#include "setup/columns.hpp"
#include "setup/problem.hpp"
#include "setup/row_weighting.hpp"
#include "setup/thread_pool.hpp"

namespace thresher {

/// X'WX of one RowWeighting, full and column-major, of all features (shared by all problems with
/// these weights) or of those let in so far. Room for all is there from the start: memory that
/// nothing was written to costs nothing.
struct GramMatrix {
  std::shared_ptr<const RowWeighting> rows;
  std::vector<Index> features;  ///< in the order of rows and columns
  std::vector<Index> place;     ///< (p) of a feature there, or -1
  std::unique_ptr<double[]> values;

  GramMatrix(std::shared_ptr<const RowWeighting> weights, Index n_features)
      : rows(std::move(weights)),
        place(static_cast<std::size_t>(n_features), -1),
        values(std::make_unique_for_overwrite<double[]>(place.size() * place.size())) {}
  Index size() const { return static_cast<Index>(features.size()); }
  /// From one column to the next.
  Index stride() const { return static_cast<Index>(place.size()); }
  const double* column(Index at) const { return values.get() + at * stride(); }

  std::vector<Index> held_out;          ///< rows of a fold, by copy_held_out
  std::vector<double> held_out_values;  ///< (stride, p) columns about their weighted means, then 0
  /// Filled up, so that kernels meet no ragged end.
  Index held_out_stride() const { return (static_cast<Index>(held_out.size()) + 31) / 32 * 32; }
};

/// Rows of a Gram matrix's products are taken in chunks of as many: no more than one block of
/// packed_product.cpp, so that a chunk adds no sums of its own.
constexpr Index kGramRows = 256;
/// Features read at once.
constexpr Index kGramBlock = 512;

/// Rows of sqrt(w_i) (xhat_ij - mean_j), column-major, as they are multiplied into a Gram matrix.
/// With equal weights on all rows that is xhat itself, and w comes in as scale().
class GramRows {
 public:
  struct Block {
    const double* values;
    Index stride;  ///< from one feature to the next
  };

  GramRows(const Columns& columns, const RowWeighting& weights);

  /// Rows with weight.
  Index n_rows() const { return static_cast<Index>(weights_.rows.size()); }
  double scale() const { return plain_ ? weights_.weight.front() : 1.0; }
  /// sqrt(w_i), or 1 where w comes in as scale().
  double root(Index row) const { return plain_ ? 1.0 : root_[static_cast<std::size_t>(row)]; }

  /// Rows first .. first + m - 1 of those with weight, of some features; written to `buffer`
  /// (m, features) unless they are kept.
  Block read(Index first, Index m, std::span<const Index> features, double* buffer);
  /// The same of one, not always written to `buffer` (m).
  const double* read_column(Index first, Index m, Index j, double* buffer);
  /// The same in float, always written to `out`.
  void read_float(Index first, Index m, std::span<const Index> features, float* out);

 private:
  void weigh(Index first, Index m, Index j, double* out);

  const Columns& columns_;
  const RowWeighting& weights_;
  bool plain_;
  std::vector<double> root_;  // (n_rows) sqrt(w_i)
  std::vector<double> whole_, column_;
};

/// Lets features in that are not yet there, the same into each matrix; their products are computed
/// from X. Parallel over matrices and blocks. Only every so many-th chunk of rows is read, and
/// stands for all.
void extend(const Columns& columns, std::span<GramMatrix> grams, std::span<const Index> features,
            const ThreadPool& pool, Index every = 1);

/// X'WX of all features for each weighting.
std::vector<GramMatrix> make_gram_matrices(
    const Columns& columns, const std::vector<std::shared_ptr<const RowWeighting>>& rows,
    const ThreadPool& pool);

/// Copies the held-out rows of X for those folds whose fits can be proven without another look at
/// X.
void copy_held_out(const Columns& columns, std::span<const Problem> problems,
                   std::vector<GramMatrix>& grams, const ThreadPool& pool);

/// What a thread needs meanwhile.
std::size_t gram_scratch_bytes(Index n_samples);

}  // namespace thresher
