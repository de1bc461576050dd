#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "setup/thread_pool.hpp"
#include "thresher/views.hpp"

namespace thresher {

/// X as every engine sees it: column j is
///
///     xhat_ij = (x_ij - mean_j) * 2^-exponent_j,   |xhat_ij| <= 1,
///
/// centred by its plain mean over the rows that count (no centring without an intercept, then
/// mean_j = 0) and scaled by a power of two, which is exact. Coefficients follow by
/// b_j = bhat_j * 2^-exponent_j. A column that is constant to rounding
/// (sd <= n eps max|x|) is exactly zero when centred.
///
/// Double columns are built when first asked for, or all at once by build_all.
class Columns {
 public:
  /// Reads X once, in parallel over blocks of columns. `counts[i]` = 0 leaves row i out of means
  /// and maxima (its weight is 0 in every problem); empty: all rows count.
  /// build_all keeps every double column at once, in the same pass.
  /// `visit` (if given) sees every xhat_j while it is at hand, from several threads.
  /// Throws   Error{kInvalidArgument} naming the first row and column (in column order) that is
  ///          NaN or infinite in X, in any row.
  using Visitor = std::function<void(Index, const double*)>;
  Columns(const AnyMatrix& X, bool centre, const std::vector<std::uint8_t>& counts,
          const ThreadPool& pool, bool build_all = false, const Visitor& visit = {});

  Index n_samples() const { return n_; }
  Index n_features() const { return p_; }
  bool centred() const { return centre_; }
  bool float_data() const { return is_float(X_); }

  double mean(Index j) const { return mean_[at(j)]; }
  int exponent(Index j) const { return exponent_[at(j)]; }
  double max_abs(Index j) const { return max_abs_[at(j)]; }  ///< of x, over the rows that count
  double norm(Index j) const { return norm_[at(j)]; }        ///< |xhat_j| over all rows, rounded up
  double squares(Index j) const { return squares_[at(j)]; }  ///< |xhat_j|^2, to rounding

  /// The n_samples values of xhat_j. Safe from several threads.
  const double* column(Index j) const;

  /// Builds every column that is missing; then matrix() is valid: column-major (n_samples,
  /// n_features).
  void build_all(const ThreadPool& pool) const;
  const double* matrix() const { return values_; }
  bool all_built() const { return all_built_.load(std::memory_order_acquire); }

  /// Writes xhat_j to `out` without keeping it.
  void compute_column(Index j, double* out) const { compute_rows(j, 0, n_, out); }

  /// Writes rows first .. first + count - 1 of xhat_j to `out` (count).
  void compute_rows(Index j, Index first, Index count, double* out) const;
  void compute_rows(Index j, Index first, Index count, float* out) const;

  /// Those rows where they are kept, else computed into `buffer` (count).
  const double* read_rows(Index j, Index first, Index count, double* buffer) const;

  /// Has those rows of x_j on their way from memory.
  void prefetch_rows(Index j, Index first, Index count) const;

  /// out[k] = xhat_j' z for j = features[k]. Columns that are not kept are centred while they are
  /// read, and stay unkept, where X is column-major; the sums are the same either way.
  void dots(std::span<const Index> features, const double* z, double* out) const;

  /// Calls visit(j, xhat_j) for every column, in parallel over blocks, columns kept only if built.
  void for_each(const ThreadPool& pool,
                const std::function<void(Index, const double*)>& visit) const;

  const AnyMatrix& source() const { return X_; }

 private:
  template <class Out>
  void compute(Index j, Index first, Index count, Out* out) const;

  static std::size_t at(Index j) { return static_cast<std::size_t>(j); }

  AnyMatrix X_;
  Index n_;
  Index p_;
  bool centre_;
  std::vector<double> mean_, max_abs_, norm_, squares_;
  std::vector<int> exponent_;
  struct Free {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> storage_;
  double* values_ = nullptr;                                    // there, from a page on
  mutable std::unique_ptr<std::atomic<std::uint8_t>[]> built_;  // 0 no, 1 being built, 2 ready
  mutable std::atomic<bool> all_built_{false};
};

/// Up to here double columns are better kept than computed again, and lie on huge pages.
constexpr std::size_t kLittleMatrix = std::size_t{64} << 20;  // bytes

/// Rows of Columns::dots that are summed at once, in at least four places: then no number passes
/// through more additions than in a Gram matrix, whose bounds X'Wy shares.
constexpr Index kDotRows = 1024;

/// Number of columns handled together when a pass over X is cut into tasks.
constexpr Index kColumnBlock = 64;

}  // namespace thresher
