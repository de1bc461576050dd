#include "backend/local_products.hpp"

#include <algorithm>
#include <cmath>

#include "backend/simd.hpp"

namespace thresher {
namespace {

// Bytes of active columns from which products in single precision pay, although each lambda then
// takes one step more: columns in the cache are read fast enough.
constexpr std::size_t kRoundedFrom = std::size_t{64} << 20;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

ResidualProducts::ResidualProducts(const Columns& columns, const Problem& problem)
    : columns_(columns), problem_(problem) {
  const RowWeighting& rows = *problem.rows;
  row_ = rows.rows;
  n_weighted_ = row_.size();
  for (const Index i : problem.held_out) {
    if (rows.weight[at(i)] == 0.0) row_.push_back(i);
  }
  for (std::size_t t = 0; t < n_weighted_; ++t) {
    sqrt_w_.push_back(std::sqrt(rows.weight[at(row_[t])]));
  }
  y_.resize(row_.size());
  for (std::size_t t = 0; t < row_.size(); ++t) {
    const double centred = problem.y->value[at(row_[t])] - problem.y_mean;
    y_[t] = t < n_weighted_ ? sqrt_w_[t] * centred : centred;
  }
  z_.assign(at(columns.n_samples()), 0.0);
  whole_.resize(at(columns.n_samples()));
  set_coef({});
}

void ResidualProducts::append(std::span<const Index> features) {
  const std::size_t k = active_.size();
  for (const Index j : features) {
    if (free_.empty()) {
      free_.push_back(static_cast<Index>(store_.size()));
      store_.emplace_back(row_.size());
    }
    place_.push_back(free_.back());
    free_.pop_back();
    double* local = store_[at(place_.back())].data();
    problem_.rows->centred_column(columns_, j, whole_.data());
    for (std::size_t t = 0; t < n_weighted_; ++t) local[t] = sqrt_w_[t] * whole_[at(row_[t])];
    for (std::size_t t = n_weighted_; t < row_.size(); ++t) local[t] = whole_[at(row_[t])];
    active_.push_back(local);
  }
  if (rounded_) rounded_->put(std::span(place_).subspan(k), active_.data() + k);
}

std::size_t ResidualProducts::bytes(Index n_rows, Index n_active) {
  const std::size_t values = at(n_rows) * at(n_active);
  const std::size_t in_double = values * sizeof(double);
  return in_double + (in_double >= kRoundedFrom ? values * sizeof(float) : 0);
}

bool ResidualProducts::enter(std::span<const Index> features, double* gram, Index ld,
                             bool may_round) {
  const std::size_t k = active_.size();
  may_round = may_round && k * n_weighted_ * sizeof(double) >= kRoundedFrom;
  if (!may_round) {
    rounded_.reset();
  } else if (!rounded_) {
    rounded_ = std::make_unique<FloatColumns>(n_rows());
    rounded_->put(place_, active_.data());
  }
  append(features);
  if (!may_round) {
    cross_in_blocks(n_rows(), active_.data(), static_cast<Index>(active_.size()),
                    active_.data() + k, static_cast<Index>(features.size()), gram, ld);
    return true;
  }
  rounded_->cross(place_, static_cast<Index>(k), gram, ld);
  for (std::size_t m = k; m < active_.size(); ++m) {
    gram[at(ld) * (m - k) + m] = simd().dot(n_rows(), active_[m], active_[m]);
  }
  return false;
}

void ResidualProducts::leave(Index position) {
  free_.push_back(place_[at(position)]);
  place_.erase(place_.begin() + position);
  active_.erase(active_.begin() + position);
}

void ResidualProducts::set_coef(std::span<const double> coef) {
  r_ = y_;
  std::vector<double> minus(coef.size());
  for (std::size_t k = 0; k < coef.size(); ++k) minus[k] = -coef[k];
  simd().axpys(static_cast<Index>(row_.size()), static_cast<Index>(coef.size()), minus.data(),
               active_.data(), r_.data());
  if (problem_.intercept) {
    // Columns are centred to rounding only; the intercept takes up what that leaves.
    double mean = 0.0;
    for (std::size_t t = 0; t < n_weighted_; ++t) mean += sqrt_w_[t] * r_[t];
    for (std::size_t t = 0; t < n_weighted_; ++t) r_[t] -= sqrt_w_[t] * mean;
    for (std::size_t t = n_weighted_; t < row_.size(); ++t) r_[t] -= mean;
  }
  weigh_residual();
}

void ResidualProducts::set_residual(const double* r) {
  std::copy(r, r + n_weighted_, r_.begin());
  weigh_residual();
}

void ResidualProducts::weigh_residual() {
  double squares = 0.0;
  for (std::size_t t = 0; t < n_weighted_; ++t) {
    const double z = sqrt_w_[t] * r_[t];
    z_[at(row_[t])] = z;
    squares += z * z;
  }
  z_norm_ = std::sqrt(squares);
}

void ResidualProducts::gradient_active(double* g) {
  simd().dots(static_cast<Index>(n_weighted_), active_.data(), static_cast<Index>(active_.size()),
              r_.data(), g);
}

void ResidualProducts::gradient(std::span<const Index> features, double* g) {
  problem_.rows->dots(columns_, features, z_.data(), g);
}

void ResidualProducts::residual(std::vector<double>& r) const {
  r.assign(at(columns_.n_samples()), 0.0);
  for (std::size_t t = 0; t < row_.size(); ++t) {
    r[at(row_[t])] = t < n_weighted_ ? r_[t] / sqrt_w_[t] : r_[t];
  }
}

GramProducts::GramProducts(const GramMatrix& gram, std::vector<double> xty, double response_norm)
    : gram_(gram), xty_(std::move(xty)), response_norm_(response_norm), c_(xty_) {}

bool GramProducts::enter(std::span<const Index> features, double* gram, Index ld, bool) {
  for (const Index j : features) active_.push_back(gram_.place[at(j)]);
  for (std::size_t c = 0; c < features.size(); ++c) {
    const double* column = gram_.column(gram_.place[at(features[c])]);
    double* out = gram + static_cast<Index>(c) * ld;
    for (std::size_t k = 0; k < active_.size(); ++k) out[k] = column[active_[k]];
  }
  return true;
}

void GramProducts::leave(Index position) { active_.erase(active_.begin() + position); }

void GramProducts::set_coef(std::span<const double> coef) {
  c_ = xty_;
  std::vector<double> minus(coef.size());
  std::vector<const double*> columns(coef.size());
  for (std::size_t k = 0; k < coef.size(); ++k) {
    minus[k] = -coef[k];
    columns[k] = gram_.column(active_[k]);
  }
  simd().axpys(gram_.size(), static_cast<Index>(coef.size()), minus.data(), columns.data(),
               c_.data());
}

void GramProducts::extend(std::span<const double> xty) {
  xty_.insert(xty_.end(), xty.begin(), xty.end());
  c_.resize(xty_.size());
}

void GramProducts::correct(std::span<const Index> features, const double* exact) {
  for (std::size_t k = 0; k < features.size(); ++k) {
    const std::size_t j = at(gram_.place[at(features[k])]);
    xty_[j] += exact[k] - c_[j];
    c_[j] = exact[k];
  }
}

void GramProducts::gradient_active(double* g) {
  for (std::size_t k = 0; k < active_.size(); ++k) g[k] = c_[at(active_[k])];
}

void GramProducts::gradient(std::span<const Index> features, double* g) {
  for (std::size_t k = 0; k < features.size(); ++k) g[k] = c_[at(gram_.place[at(features[k])])];
}

}  // namespace thresher
