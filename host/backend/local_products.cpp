#include "backend/local_products.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/simd.hpp"

namespace thresher {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
// Bytes of active columns from which products in single precision pay, although each lambda then
// takes one step more: columns in the cache are read fast enough.
constexpr std::size_t kRoundedFrom = std::size_t{32} << 20;

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
  r_.resize(row_.size());
  change_.resize(n_weighted_);
  set_coef({});
}

void ResidualProducts::append(std::span<const Index> features) {
  gradients_of_.clear();
  const std::size_t k = active_.size();
  for (const Index j : features) {
    if (free_.empty()) {
      free_.push_back(static_cast<Index>(store_.size()));
      store_.emplace_back(row_.size());
      in_r_.push_back(0.0);
    }
    place_.push_back(free_.back());
    free_.pop_back();
    // r has what was in this place before: it cannot be followed.
    if (in_r_[at(place_.back())] != 0.0) r_is_known_ = false;
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
    r_is_known_ = false;  // it may still have columns that are not there
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

void ResidualProducts::set_coef(std::span<const double> coef, bool may_round) {
  const bool follows = may_round && rounded_ && r_is_known_;
  if (follows) {
    follow(coef);
  } else {
    rounding_ = 0.0;
    gradients_of_.clear();
  }
  const Index first = follows ? n_rows() : 0;  // row that is computed in double
  std::copy(y_.begin() + first, y_.end(), r_.begin() + first);
  std::vector<double> minus(coef.size());
  std::vector<const double*> x(coef.size());
  for (std::size_t k = 0; k < coef.size(); ++k) {
    minus[k] = -coef[k];
    x[k] = active_[k] + first;
  }
  simd().axpys(static_cast<Index>(row_.size()) - first, static_cast<Index>(coef.size()),
               minus.data(), x.data(), r_.data() + first);
  std::fill(in_r_.begin(), in_r_.end(), 0.0);
  for (std::size_t k = 0; k < coef.size(); ++k) in_r_[at(place_[k])] = coef[k];
  r_is_known_ = true;
  if (problem_.intercept) {
    // Columns are centred to rounding only; the intercept takes up what that leaves.
    double mean = 0.0;
    for (std::size_t t = 0; t < n_weighted_; ++t) mean += sqrt_w_[t] * r_[t];
    for (std::size_t t = 0; t < n_weighted_; ++t) r_[t] -= sqrt_w_[t] * mean;
    for (std::size_t t = n_weighted_; t < row_.size(); ++t) r_[t] -= mean;
  }
  weigh_residual();
}

void ResidualProducts::follow(std::span<const double> coef) {
  by_place_.assign(in_r_.begin(), in_r_.end());
  by_place_.resize(at(rounded_->n_places()));
  for (std::size_t k = 0; k < coef.size(); ++k) by_place_[at(place_[k])] -= coef[k];
  const auto size = [](std::span<const double> values) {
    double sum = 0.0;
    for (const double value : values) sum += std::fabs(value);
    return sum;
  };
  rounding_ += FloatColumns::kCombined * size(by_place_);
  allowed_rounding_ = kEps * static_cast<double>(coef.size()) * size(coef);
  AlignedDoubles change(n_weighted_);
  std::fill(change.begin(), change.end(), 0.0);
  rounded_->combine(by_place_.data(), change.data());
  for (std::size_t t = 0; t < n_weighted_; ++t) {
    r_[t] += change[t];
    change_[t] += change[t];
  }
}

void ResidualProducts::set_residual(const double* r) {
  r_is_known_ = false;
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
  const Index n = n_rows();
  const auto norm = [n](const AlignedDoubles& v) {
    return std::sqrt(simd().dot(n, v.data(), v.data()));
  };
  const bool known = rounded_ && r_is_known_ && gradients_of_ == place_;
  if (known &&
      FloatColumns::kCorrelated * norm(change_) <= static_cast<double>(n) * kEps * norm(r_)) {
    by_place_.resize(at(rounded_->n_places()));
    rounded_->correlate(change_.data(), by_place_.data());
    for (std::size_t k = 0; k < place_.size(); ++k) g[k] = gradients_[k] + by_place_[at(place_[k])];
  } else {
    simd().dots(n, active_.data(), static_cast<Index>(active_.size()), r_.data(), g);
  }
  gradients_.assign(g, g + active_.size());
  gradients_of_ = place_;
  change_.assign(n_weighted_, 0.0);
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

void GramProducts::set_coef(std::span<const double> coef, bool) {
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
