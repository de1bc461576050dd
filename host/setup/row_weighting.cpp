#include "setup/row_weighting.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include "backend/simd.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
// A mean this much larger than the spread costs the centred column two digits: time to centre it
// directly (design section 3).
constexpr double kDragged = 1e4;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// xhat_j under w, from X itself: mean over the rows with weight removed, zero elsewhere.
void direct_column(const Columns& columns, const RowWeighting& rows, Index j, double* out) {
  const Index n = columns.n_samples();
  std::fill(out, out + n, 0.0);
  if (rows.rows.empty()) return;
  const double origin = element(columns.source(), rows.rows.front(), j);
  double mean = 0.0;
  for (const Index i : rows.rows) {
    out[i] = element(columns.source(), i, j) - origin;
    mean += rows.weight[at(i)] * out[i];
  }
  for (const Index i : rows.rows) out[i] = std::ldexp(out[i] - mean, -columns.exponent(j));
}

double max_abs_with_weight(const Columns& columns, const RowWeighting& rows, Index j) {
  double largest = 0.0;
  for (const Index i : rows.rows) {
    largest = std::max(largest, std::fabs(element(columns.source(), i, j)));
  }
  return std::ldexp(largest, -columns.exponent(j));
}

}  // namespace

Index RowWeighting::direct_index(Index j) const {
  if (direct.empty()) return -1;
  const auto found = std::lower_bound(direct.begin(), direct.end(), j);
  return found != direct.end() && *found == j ? found - direct.begin() : -1;
}

const double* RowWeighting::column(const Columns& columns, Index j) const {
  const Index k = direct_index(j);
  return k < 0 ? columns.column(j) : direct_values.data() + k * columns.n_samples();
}

double RowWeighting::centring(const Columns& columns, Index j) const {
  if (direct_index(j) < 0) return mean[at(j)];
  const Index first = rows.front();
  const double whole =
      std::ldexp(element(columns.source(), first, j) - columns.mean(j), -columns.exponent(j));
  return whole - column(columns, j)[first];
}

const double* RowWeighting::read(const Columns& columns, Index j, double* buffer) const {
  const Index k = direct_index(j);
  return k < 0 ? columns.read_rows(j, 0, columns.n_samples(), buffer)
               : direct_values.data() + k * columns.n_samples();
}

void RowWeighting::dots(const Columns& columns, std::span<const Index> features, const double* z,
                        double* out) const {
  columns.dots(features, z, out);
  if (direct.empty()) return;
  for (std::size_t k = 0; k < features.size(); ++k) {
    const Index d = direct_index(features[k]);
    if (d < 0) continue;
    const double* x = direct_values.data() + d * columns.n_samples();
    simd().dots(columns.n_samples(), &x, 1, z, out + k);
  }
}

double RowWeighting::column_mean(Index j) const { return direct_index(j) < 0 ? mean[at(j)] : 0.0; }

void RowWeighting::centred_column(const Columns& columns, Index j, double* out) const {
  const Index n = columns.n_samples();
  const Index k = direct_index(j);
  if (k < 0) {
    const double* x = columns.read_rows(j, 0, n, out);
    const double m = mean[at(j)];
    for (Index i = 0; i < n; ++i) out[i] = x[i] - m;
    return;
  }
  // A direct column holds nothing on rows without weight: their values come from X, less the same
  // mean.
  const double* x = direct_values.data() + k * n;
  const Index first = rows.front();
  const double origin = element(columns.source(), first, j);
  for (Index i = 0; i < n; ++i) {
    out[i] =
        weight[at(i)] > 0.0
            ? x[i]
            : std::ldexp(element(columns.source(), i, j) - origin, -columns.exponent(j)) + x[first];
  }
}

std::vector<std::shared_ptr<const RowWeighting>> make_row_weightings(
    const Columns& columns, const std::vector<std::vector<double>>& weights,
    const ThreadPool& pool) {
  const Index n = columns.n_samples();
  const auto p = static_cast<std::size_t>(columns.n_features());
  std::vector<std::shared_ptr<RowWeighting>> out;
  for (const std::vector<double>& given : weights) {
    auto rows = std::make_shared<RowWeighting>();
    // Scaled by the largest first: weights of 1e300 must not overflow in the sum.
    const double largest = *std::max_element(given.begin(), given.end());
    double sum = 0.0;
    for (const double w : given) sum += w / largest;
    if (!(sum > 0.0)) {
      throw Error(Errc::kInvalidArgument, "fit: row weights must not all be 0");
    }
    rows->weight.resize(at(n));
    rows->uniform = true;
    for (Index i = 0; i < n; ++i) {
      rows->weight[at(i)] = given[at(i)] / largest / sum;
      if (rows->weight[at(i)] > 0.0) rows->rows.push_back(i);
      if (given[at(i)] != given[0]) rows->uniform = false;
    }
    rows->mean.assign(p, 0.0);
    rows->variance.assign(p, 0.0);
    rows->second_moment.assign(p, 0.0);
    rows->constant.assign(p, 0);
    out.push_back(std::move(rows));
  }

  std::vector<std::vector<std::uint8_t>> dragged(out.size(), std::vector<std::uint8_t>(p, 0));
  const bool all_uniform =
      std::all_of(out.begin(), out.end(), [](const auto& r) { return r->uniform; });
  const auto finish = [&](std::size_t k, Index j, double first, double second) {
    RowWeighting& rows = *out[k];
    rows.mean[at(j)] = first;
    rows.second_moment[at(j)] = second;
    const double variance = std::max(0.0, second - first * first);
    rows.variance[at(j)] = variance;
    if (first * first > kDragged * variance) dragged[k][at(j)] = 1;
    const double noise = static_cast<double>(n) * kEps;
    const double ceiling = std::ldexp(columns.max_abs(j), -columns.exponent(j));
    // The cheap ceiling over all rows decides nearly always; the exact one is for close calls.
    if (variance <= noise * noise * ceiling * ceiling * 4.0 || variance <= 1e-12 * second) {
      dragged[k][at(j)] = 1;
    }
  };
  if (all_uniform && columns.centred()) {
    for (std::size_t k = 0; k < out.size(); ++k) {
      for (Index j = 0; j < columns.n_features(); ++j) {
        finish(k, j, 0.0, columns.squares(j) / static_cast<double>(n));
      }
    }
  } else {
    columns.for_each(pool, [&](Index j, const double* x) {
      for (std::size_t k = 0; k < out.size(); ++k) {
        double first = 0.0, second = 0.0;
        simd().moments(n, out[k]->weight.data(), x, &first, &second);
        finish(k, j, first, second);
      }
    });
  }

  // The few columns that need it are looked at again, straight from X.
  pool.run(static_cast<Index>(out.size()), [&](Index k, int) {
    RowWeighting& rows = *out[at(k)];
    std::vector<double> x(at(n));
    for (Index j = 0; j < columns.n_features(); ++j) {
      if (!dragged[at(k)][at(j)]) continue;
      direct_column(columns, rows, j, x.data());
      double variance = 0.0;
      for (const Index i : rows.rows) variance += rows.weight[at(i)] * x[at(i)] * x[at(i)];
      const double noise =
          static_cast<double>(rows.rows.size()) * kEps * max_abs_with_weight(columns, rows, j);
      if (std::sqrt(variance) <= noise) {
        rows.constant[at(j)] = 1;
        rows.variance[at(j)] = 0.0;
        std::fill(x.begin(), x.end(), 0.0);
      } else {
        rows.variance[at(j)] = variance;
      }
      if (!columns.centred() || columns.norm(j) == 0.0) continue;
      rows.direct.push_back(j);
      rows.direct_values.insert(rows.direct_values.end(), x.begin(), x.end());
    }
  });
  if (!columns.centred()) {
    // Only the spread is about the mean then; products are not.
    for (const auto& rows : out) rows->mean.assign(p, 0.0);
  }
  return {out.begin(), out.end()};
}

}  // namespace thresher
