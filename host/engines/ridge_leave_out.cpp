#include "engines/ridge_leave_out.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "backend/spectrum_backend.hpp"
#include "engines/ridge_system.hpp"

namespace thresher {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kEps = std::numeric_limits<double>::epsilon();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// The hat matrix H of sqrt(w) y, seen through one decomposition. For every lambda it gives
///
///     (I - H) y   and   diag(I - H),
///
/// both times one common factor, which leave-one-out and GCV do not notice. In row space neither
/// is a difference of nearly equal numbers, however small lambda is.
class HatComplement {
 public:
  HatComplement(const RidgeGroup& group, const Spectrum& spectrum)
      : group_(group), spectrum_(spectrum), S_(at(group.m * spectrum.size())) {
    spectrum.sample_vectors(S_.data());
    squares_ = S_;
    for (double& x : squares_) x *= x;
    // What the intercept and the eliminated features fit of each row.
    fixed_.assign(at(group.m), 0.0);
    const RowWeighting& rows = *group.rows;
    for (std::size_t i = 0; group.intercept && i < rows.rows.size(); ++i) {
      fixed_[i] = rows.weight[at(rows.rows[i])];
    }
    const Index r = group.n_eliminated();
    for (Index e = 0; e < r; ++e) {
      for (Index i = 0; i < group.m; ++i) {
        const double q = group.Q[at(e * group.m + i)];
        fixed_[at(i)] += q * q;
      }
    }
    Index null = 0;
    for (const double s : spectrum.values()) null += s <= spectrum.cutoff() ? 1 : 0;
    only_fixed_null_ = spectrum.row_space() && null <= r + (group.intercept ? 1 : 0);
  }

  /// N (m, slots) and D (m) at one effective lambda; scale: the common factor is in them.
  void at_lambda(double lambda, Index slots, const double* Y, const double* Z, double* N, double* D,
                 double* scale) const {
    const Index k = spectrum_.size(), m = group_.m;
    const std::vector<double>& s = spectrum_.values();
    std::vector<double> share(at(k), 0.0), shrunk(at(k * slots));
    *scale = 1.0;
    if (spectrum_.row_space()) {
      // I - H = sum_k lambda / (s_k + lambda) u_k u_k' less the span of what is fitted anyway. If
      // that span is the whole null space, its directions are left out one by one; the rest is
      // scaled so that its largest share is 1, which also gives the limit lambda -> 0.
      double largest = 0.0;
      for (Index i = 0; i < k; ++i) {
        double& f = share[at(i)];
        const bool null = s[at(i)] <= spectrum_.cutoff();
        if (only_fixed_null_) {
          f = null ? 0.0 : 1.0 / (s[at(i)] + lambda);
        } else if (lambda > 0.0) {
          f = lambda / (s[at(i)] + lambda);
        } else {
          f = null ? 1.0 : 0.0;
        }
        largest = std::max(largest, f);
      }
      if (only_fixed_null_ && largest > 0.0) {
        for (double& f : share) f /= largest;
        *scale = lambda * largest;
      }
    } else {
      for (Index i = 0; i < k; ++i) {
        share[at(i)] =
            lambda > 0.0 || s[at(i)] > spectrum_.cutoff() ? 1.0 / (s[at(i)] + lambda) : 0.0;
      }
    }
    for (Index c = 0; c < slots; ++c) {
      for (Index i = 0; i < k; ++i) shrunk[at(c * k + i)] = share[at(i)] * Z[c * k + i];
    }
    spectrum_.predict(m, spectrum_.size(), S_.data(), slots, shrunk.data(), N);
    spectrum_.predict(m, spectrum_.size(), squares_.data(), 1, share.data(), D);
    if (!spectrum_.row_space()) {
      for (Index i = 0; i < m * slots; ++i) N[i] = Y[i] - N[i];
    }
    // Below this a difference is rounding: the row's leverage is 1.
    const double noise = 8.0 * kEps * static_cast<double>(m);
    for (Index i = 0; i < m; ++i) {
      if (spectrum_.row_space()) {
        if (only_fixed_null_) continue;
        D[i] -= fixed_[at(i)];
      } else {
        D[i] = 1.0 - fixed_[at(i)] - D[i];
      }
      if (D[i] <= noise) D[i] = 0.0;
    }
  }

 private:
  const RidgeGroup& group_;
  const Spectrum& spectrum_;
  std::vector<double> S_, squares_;  // (m, k)
  std::vector<double> fixed_;        // (m)
  bool only_fixed_null_ = false;
};

void fill_errors(const RidgeGroup& group, ClosedForm form, const Problem& problem, const double* N,
                 const double* D, double scale, std::size_t l, ClosedFormErrors& out) {
  const Index n = static_cast<Index>(group.rows->rows.size());
  const int units = 2 * problem.y->exponent;  // of a square
  double residual = 0.0, complement = 0.0;
  for (Index i = 0; i < n; ++i) {
    residual += N[i] * N[i];
    complement += D[i];
  }
  out.train[l] = std::ldexp(residual * scale * scale, units);
  if (form == ClosedForm::kGcv) {
    const double left = complement / static_cast<double>(n);
    out.error[l] = left > 0.0 ? std::ldexp(residual / left / left, units) : kNaN;
    return;
  }
  double error = 0.0;  // w_i e_i^2 = (N_i / D_i)^2: sqrt(w_i) is in N
  for (Index i = 0; i < n; ++i) {
    const double e = D[i] > 0.0 ? N[i] / D[i] : kNaN;
    error += e * e;
  }
  double spread = 0.0;
  for (Index i = 0; i < n; ++i) {
    const double w = group.rows->weight[at(group.rows->rows[at(i)])];
    const double e = N[i] / D[i];
    const double d = e * e / w - error;
    spread += w * d * d;
  }
  out.error[l] = std::ldexp(error, units);
  out.se[l] = n > 1 ? std::ldexp(std::sqrt(spread / static_cast<double>(n - 1)), units) : kNaN;
}

}  // namespace

std::vector<ClosedFormErrors> closed_form_errors(const Columns& columns,
                                                 const std::vector<Problem>& problems,
                                                 ClosedForm form, const ThreadPool& pool) {
  std::vector<ClosedFormErrors> out(problems.size());
  std::map<std::tuple<const RowWeighting*, const Penalties*, bool>, std::size_t> seen;
  std::vector<std::vector<std::size_t>> groups;
  for (std::size_t k = 0; k < problems.size(); ++k) {
    const std::size_t length = problems[k].lambda.size();
    out[k] = {std::vector<double>(length, kNaN), std::vector<double>(length, kNaN),
              std::vector<double>(length, kNaN)};
    const auto [found, fresh] = seen.try_emplace(
        {problems[k].rows.get(), problems[k].penalties.get(), problems[k].intercept},
        groups.size());
    if (fresh) groups.emplace_back();
    groups[found->second].push_back(k);
  }

  pool.run(static_cast<Index>(groups.size()), [&](Index g, int) {
    const std::vector<std::size_t>& members = groups[at(g)];
    const Problem& first = problems[members.front()];
    const Index slots = static_cast<Index>(members.size());
    // Who wants which lambda, largest first.
    std::map<double, std::vector<std::pair<Index, std::size_t>>, std::greater<>> wanted;
    for (Index s = 0; s < slots; ++s) {
      const std::vector<double>& grid = problems[members[at(s)]].lambda;
      for (std::size_t l = 0; l < grid.size(); ++l) wanted[grid[l]].emplace_back(s, l);
    }
    const bool ladder =
        one_system_per_lambda(columns, *first.rows, *first.penalties,
                              static_cast<Index>(wanted.size()) - (wanted.count(0.0) > 0 ? 1 : 0));
    std::optional<RidgeGroup> group;
    std::unique_ptr<Spectrum> spectrum;
    std::unique_ptr<HatComplement> hat;
    std::vector<double> Y, C, Z, defect(at(slots));
    for (const auto& [lambda, who] : wanted) {
      if (!group || ladder) {
        hat.reset();
        group =
            make_ridge_group(columns, *first.rows, *first.penalties, first.intercept,
                             ladder && lambda > 0.0 ? std::optional<double>(lambda) : std::nullopt);
        spectrum = cpu_spectrum_backend().decompose(std::move(group->system), false);
        if (!spectrum) return;  // errors stay NaN
        Y.resize(at(group->m * slots));
        C.resize(at(group->n_eliminated() * slots));
        Z.resize(at(spectrum->size() * slots));
        for (Index s = 0; s < slots; ++s) {
          weighted_response(*group, problems[members[at(s)]], Y.data() + s * group->m,
                            C.data() + s * group->n_eliminated());
        }
        spectrum->rotate(slots, Y.data(), Z.data(), defect.data());
        hat = std::make_unique<HatComplement>(*group, *spectrum);
      }
      // Only the responses that want this lambda.
      const Index count = static_cast<Index>(who.size()), k = spectrum->size(), m = group->m;
      std::vector<double> y(at(m * count)), z(at(k * count)), N(at(m * count)), D(at(m));
      for (Index c = 0; c < count; ++c) {
        std::copy_n(Y.begin() + who[at(c)].first * m, m, y.begin() + c * m);
        std::copy_n(Z.begin() + who[at(c)].first * k, k, z.begin() + c * k);
      }
      double scale = 1.0;
      hat->at_lambda(group->effective_lambda(lambda), count, y.data(), z.data(), N.data(), D.data(),
                     &scale);
      for (Index c = 0; c < count; ++c) {
        const std::size_t problem = members[at(who[at(c)].first)];
        fill_errors(*group, form, problems[problem], N.data() + c * m, D.data(), scale,
                    who[at(c)].second, out[problem]);
      }
    }
  });
  return out;
}

}  // namespace thresher
