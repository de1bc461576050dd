#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/aligned.hpp"
#include "backend/float_columns.hpp"
#include "backend/gram_matrix.hpp"
#include "setup/problem.hpp"

namespace thresher {

/// The inner products an exact solve on a working set needs, for one problem: between active
/// columns, and of columns with the residual r of the current coefficients. Columns are weighted
/// and centred: <x_j, x_k> = sum_i w_i (xhat_ij - mean_j)(xhat_ik - mean_k).
class LocalProducts {
 public:
  virtual ~LocalProducts() = default;

  /// Appends features to the active list. gram[c * ld + k] = <x_k, x_new_c> for k over the old
  /// active features, then the new ones; ld >= n_active after the call. Returns false if products
  /// of different columns are rounded to single precision, which only `may_round` allows.
  virtual bool enter(std::span<const Index> features, double* gram, Index ld, bool may_round) = 0;
  virtual void leave(Index position) = 0;

  /// r for the active coefficients `coef`, computed from the data; if it may, single precision does
  /// for what has changed since the last call.
  virtual void set_coef(std::span<const double> coef, bool may_round = false) = 0;
  /// Whether that has cost r more than rounding in double.
  virtual bool residual_is_rounded() const { return false; }
  /// <x_j, r> for the active features.
  virtual void gradient_active(double* g) = 0;
  /// <x_j, r> for any features.
  virtual void gradient(std::span<const Index> features, double* g) = 0;
  /// |w o r|, for rounding thresholds.
  virtual double weighted_residual_norm() const = 0;
};

/// Through columns: r is kept on all rows, also held-out ones. Cost of set_coef: n * n_active. From
/// 32 MB of active columns on, products of entrants and changes of r come from copies in single
/// precision, where they may; a gradient then follows r if it has changed so little that rounding
/// does no more than in double.
class ResidualProducts final : public LocalProducts {
 public:
  ResidualProducts(const Columns& columns, const Problem& problem);

  bool enter(std::span<const Index> features, double* gram, Index ld, bool may_round) override;
  void leave(Index position) override;
  void set_coef(std::span<const double> coef, bool may_round = false) override;
  void gradient_active(double* g) override;
  void gradient(std::span<const Index> features, double* g) override;
  double weighted_residual_norm() const override { return z_norm_; }
  bool residual_is_rounded() const override { return rounding_ > allowed_rounding_; }

  /// Bytes of that many active columns.
  static std::size_t bytes(Index n_rows, Index n_active);

  /// enter() without the products.
  void append(std::span<const Index> features);
  /// Active columns and the response on the rows with weight, both times sqrt(w).
  Index n_rows() const { return static_cast<Index>(n_weighted_); }
  std::span<const double* const> columns() const { return {active_.data(), active_.size()}; }
  const double* response() const { return y_.data(); }
  /// Puts sqrt(w) r in place on the rows with weight, for gradients, until the next set_coef().
  void set_residual(const double* r);

  /// r on all rows (weighted mean 0 with an intercept), and z = w o r.
  void residual(std::vector<double>& r) const;
  const std::vector<double>& z() const { return z_; }

 private:
  /// r on the rows with weight from the last one, in single precision.
  void follow(std::span<const double> coef);
  void weigh_residual();

  const Columns& columns_;
  const Problem& problem_;
  std::vector<Index> row_;      // local row -> row: those with weight, then held-out ones
  std::size_t n_weighted_ = 0;  // local rows with weight
  std::vector<double> sqrt_w_;  // (n_weighted)
  AlignedDoubles y_;            // local: sqrt(w) (yhat - mean); held-out rows unweighted
  AlignedDoubles r_;
  std::vector<double> z_;  // (n) w o r
  double z_norm_ = 0.0;
  std::vector<AlignedDoubles> store_;      // one local column each
  std::vector<Index> free_;                // places in store_
  std::vector<Index> place_;               // of the active columns, in the order of the active list
  std::vector<double*> active_;            // the columns there
  std::unique_ptr<FloatColumns> rounded_;  // the same places, once they pay
  // For following r in single precision: the coefficients that it has, by place, if they are known;
  // and, in units of the largest |x|, what rounding has done to it and what it does in double.
  std::vector<double> in_r_;
  bool r_is_known_ = false;
  double rounding_ = 0.0, allowed_rounding_ = 0.0;
  std::vector<double> gradients_;    // of the columns in these places, or of none, when
  std::vector<Index> gradients_of_;  // r was less than now
  AlignedDoubles change_;            // by this
  std::vector<double> by_place_;     // scratch
  std::vector<double> whole_;        // (n) scratch
};

/// Through X'WX and X'Wy, for n much larger than p, of the features that are in the matrix. Cost of
/// set_coef: their number times n_active.
class GramProducts final : public LocalProducts {
 public:
  /// xty: in the order of gram.features. `gram` is borrowed.
  GramProducts(const GramMatrix& gram, std::vector<double> xty, double response_norm);

  bool enter(std::span<const Index> features, double* gram, Index ld, bool may_round) override;
  void leave(Index position) override;
  void set_coef(std::span<const double> coef, bool may_round = false) override;
  void gradient_active(double* g) override;
  void gradient(std::span<const Index> features, double* g) override;
  double weighted_residual_norm() const override { return response_norm_; }

  /// <x_j, r> of all features of the matrix, in its order, for the last coefficients.
  const std::vector<double>& correlations() const { return c_; }
  /// X'Wy.
  const std::vector<double>& response_products() const { return xty_; }
  /// Takes in X'Wy of features that the matrix has got since.
  void extend(std::span<const double> xty);
  /// Shifts X'Wy so that the last coefficients give exact[k] for features[k] (one step of iterative
  /// refinement when `exact` was computed from X).
  void correct(std::span<const Index> features, const double* exact);

 private:
  const GramMatrix& gram_;
  std::vector<double> xty_;
  double response_norm_;
  std::vector<Index> active_;  // places in the matrix
  std::vector<double> c_;      // xty - G b
};

}  // namespace thresher
