#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "backend/cpu_working_set_backend.hpp"
#include "backend/simd.hpp"
#include "gap_term.hpp"

namespace thresher {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
// Next best features beside the strong ones: 20 + 0.1 |support| (design section 6).
constexpr double kBudget = 20.0;
constexpr double kBudgetShare = 0.1;
// Only features this close to the next threshold are looked at for the budget.
constexpr double kBudgetFloor = 0.5;
constexpr std::size_t kWorkingSetFloor = 300;
// A pass over X in half precision costs about as much as this share of its columns in double, one
// by one: beyond it a proven skip does not pay.
constexpr Index kSkipShare = 64;
// From this share of the features on, solving for a support costs more than reading X: lambdas are
// then not solved ahead, because some of those are solved again.
constexpr Index kSupportShare = 16;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// |z|, rounded up.
double z_norm(const std::vector<double>& z) {
  return std::sqrt(simd().dot(static_cast<Index>(z.size()), z.data(), z.data())) * (1.0 + 1e-12);
}

}  // namespace

/// One lambda that was solved on the working set, until it is certified.
struct ResidualBackend::Candidate {
  Index lambda_index = 0;
  SparseCoef coef;
  std::vector<std::pair<Index, double>> g_active;  // sorted by feature
  std::vector<double> r, z;                        // (n); z = w o r
  // With unpenalised columns: q = r less its projection on them, w o q, and |w o (r - q)|, by which
  // bounds on x' z must be widened to hold for x' (w o q).
  std::vector<double> q, zq;
  double projected_away = 0.0;
  double half_loss = 0.0;
  double z_norm = 0.0;
  int z_exponent = 0;            // zh = z 2^-z_exponent
  std::vector<float> c;          // (padded_features) xh' zh; only if fresh
  bool fresh = false;            // X was read for this candidate
  std::vector<Index> undecided;  // not active, and |g_j| <= a_j is not proven
  ActiveSet::Outcome outcome;
  Index n_dependent = 0;
};

struct ResidualBackend::Slot {
  const Problem* problem = nullptr;
  std::unique_ptr<ResidualProducts> products;
  std::unique_ptr<ActiveSet> solver;
  std::vector<double> inverse_u;  // 1 / (l1_ratio u_j); 0 where that does not exist
  std::vector<Index> no_l1;       // features without an L1 term, always in the working set
  std::vector<Index> working_set;
  std::vector<std::uint8_t> in_working_set;
  std::vector<Candidate> candidates;
  Index n_candidates = 0;
  // The last point for which X was read; later points are proven from it where that suffices:
  std::vector<float> c;
  std::vector<double> z;
  int z_exponent = 0;
  double z_norm = 0.0;
  double lambda = 0.0;
  Index n_support = 0;  // of the current point

  void put(Index j) {
    if (in_working_set[at(j)]) return;
    in_working_set[at(j)] = 1;
    working_set.push_back(j);
  }
};

ResidualBackend::ResidualBackend(const Columns& columns, const HalfPanels* panels, Index n_slots,
                                 Index max_look_ahead, bool proven_skip)
    : columns_(columns),
      panels_(panels),
      // A sum in double, then rounded to float (2^-24, and as much again for products of errors).
      double_slack_(static_cast<double>(columns.n_samples()) * kEps + 0x1p-23),
      look_ahead_(max_look_ahead),
      proven_skip_(proven_skip) {
  for (Index s = 0; s < n_slots; ++s) {
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->candidates.resize(at(max_look_ahead));
  }
}

ResidualBackend::~ResidualBackend() = default;

std::size_t ResidualBackend::slot_bytes(Index n_samples, Index n_features, Index look_ahead) {
  const std::size_t n = at(n_samples), p = at(n_features), m = at(look_ahead);
  const std::size_t support = std::min(n, p);
  return m * (p * sizeof(float) + 2 * n * sizeof(double) + support * 2 * 16) +
         p * (sizeof(float) + sizeof(double) + 2) +
         ResidualProducts::bytes(n_samples, static_cast<Index>(support)) +
         support * support * sizeof(double);
}

void ResidualBackend::load(std::span<const Index> slots, std::span<const Problem* const> problems) {
  std::vector<Candidate*> fresh;
  for (std::size_t s = 0; s < slots.size(); ++s) {
    Slot& slot = *slots_[at(slots[s])];
    const Problem& problem = *problems[s];
    slot.problem = &problem;
    slot.products = std::make_unique<ResidualProducts>(columns_, problem);
    slot.solver =
        std::make_unique<ActiveSet>(columns_, problem, *slot.products, slot.products.get());
    const auto p = at(columns_.n_features());
    slot.inverse_u.assign(p, 0.0);
    slot.no_l1.clear();
    for (Index j = 0; j < columns_.n_features(); ++j) {
      if (problem.excluded(j)) continue;
      const double u = problem.l1_ratio * problem.penalties->l1[at(j)];
      if (u > 0.0) {
        slot.inverse_u[at(j)] = 1.0 / u;
      } else {
        slot.no_l1.push_back(j);
      }
    }
    slot.in_working_set.assign(p, 0);
    slot.working_set.clear();
    slot.lambda = std::numeric_limits<double>::quiet_NaN();
    slot.n_support = 0;
    slot.n_candidates = 1;
    slot.solver->start_from(problem.start, problem.lambda.empty() ? 0.0 : problem.lambda.front());
    Candidate& start = slot.candidates.front();
    slot.products->residual(start.r);
    start.z = slot.products->z();
    fresh.push_back(&start);
  }
  correlate_candidates(fresh);
  for (std::size_t s = 0; s < slots.size(); ++s) {
    Slot& slot = *slots_[at(slots[s])];
    Candidate& start = slot.candidates.front();
    slot.c = start.c;
    slot.z = start.z;
    slot.z_exponent = start.z_exponent;
    slot.z_norm = start.z_norm;
    double largest = 0.0;
    for (std::size_t j = 0; j < slot.inverse_u.size(); ++j) {
      largest = std::max(largest, std::fabs(static_cast<double>(slot.c[j])) * slot.inverse_u[j]);
    }
    slot.lambda = std::ldexp(largest, slot.z_exponent + slot.problem->y->exponent);
  }
}

Index ResidualBackend::max_look_ahead(Index slot) const {
  const Index support = slots_[at(slot)]->n_support;
  const bool dear = kSupportShare * support > columns_.n_features();
  // In the row space solving again is cheap.
  return dear && support < columns_.n_samples() ? 1 : look_ahead_;
}

void ResidualBackend::choose_working_sets(std::span<const PathBlock> blocks) {
  for (const PathBlock& block : blocks) {
    Slot& slot = *slots_[at(block.slot)];
    const double next = slot.problem->lambda[at(block.first)];
    for (const Index j : slot.working_set) slot.in_working_set[at(j)] = 0;
    slot.working_set.clear();
    for (const Index j : slot.no_l1) slot.put(j);
    if (next == 0.0) {
      for (Index j = 0; j < columns_.n_features(); ++j) {
        if (!slot.problem->excluded(j)) slot.put(j);
      }
      continue;
    }
    // Strength of a feature: the lambda at which it would be on the edge, in units of c.
    const double unit = std::ldexp(1.0, -slot.z_exponent - slot.problem->y->exponent);
    const double strong = unit * std::max(2.0 * next - slot.lambda, 0.0);
    const double floor = std::min(strong, unit * next * kBudgetFloor);
    std::vector<std::pair<double, Index>> near;
    std::size_t n_strong = 0;
    for (Index j = 0; j < columns_.n_features(); ++j) {
      const double strength = std::fabs(static_cast<double>(slot.c[at(j)])) * slot.inverse_u[at(j)];
      if (strength > 0.0 && strength >= floor) {
        near.emplace_back(strength, j);
        if (strength >= strong) ++n_strong;
      }
    }
    const auto support = at(slot.n_support);
    const std::size_t cap = std::max(kWorkingSetFloor, 2 * support);
    const auto budget =
        static_cast<std::size_t>(kBudget + kBudgetShare * static_cast<double>(support));
    const std::size_t wanted = std::min({n_strong + budget, cap, near.size()});
    if (wanted < near.size()) {
      std::nth_element(near.begin(), near.begin() + static_cast<std::ptrdiff_t>(wanted), near.end(),
                       [](const auto& x, const auto& y) {
                         return x.first > y.first || (x.first == y.first && x.second < y.second);
                       });
      near.resize(wanted);
    }
    for (const auto& [strength, j] : near) slot.put(j);
    for (const Index j : slot.solver->active()) slot.put(j);
    std::sort(slot.working_set.begin(), slot.working_set.end());
  }
}

void ResidualBackend::solve_working_sets(std::span<const PathBlock> blocks, Index max_iterations) {
  for (const PathBlock& block : blocks) {
    Slot& slot = *slots_[at(block.slot)];
    slot.n_candidates = block.count;
    for (Index k = 0; k < block.count; ++k) {
      Candidate& candidate = slot.candidates[at(k)];
      candidate.lambda_index = block.first + k;
      candidate.outcome = slot.solver->solve(slot.problem->lambda[at(candidate.lambda_index)],
                                             slot.working_set, max_iterations);
      candidate.n_dependent = slot.solver->n_dependent();
      candidate.coef = slot.solver->coef();
      candidate.g_active.clear();
      const std::vector<Index>& active = slot.solver->active();
      const std::vector<double>& g = slot.solver->gradient_active();
      for (std::size_t i = 0; i < active.size(); ++i) {
        candidate.g_active.emplace_back(active[i], g[i]);
      }
      std::ranges::sort(candidate.g_active, {}, &SparseCoef::value_type::first);
      slot.products->residual(candidate.r);
      candidate.z = slot.products->z();
    }
  }
}

void ResidualBackend::correlate_candidates(const std::vector<Candidate*>& candidates) {
  const Index n = columns_.n_samples();
  for (Candidate* candidate : candidates) {
    double largest = 0.0;
    for (const double z : candidate->z) largest = std::max(largest, std::fabs(z));
    candidate->z_exponent = 0;
    if (largest > 0.0 && std::isfinite(largest)) std::frexp(largest, &candidate->z_exponent);
    candidate->z_norm = z_norm(candidate->z);
  }
  if (panels_ == nullptr) {
    std::vector<Index> features(at(columns_.n_features()));
    std::iota(features.begin(), features.end(), Index{0});
    std::vector<double> g(features.size());
    for (Candidate* candidate : candidates) {
      columns_.dots(features, candidate->z.data(), g.data());
      const double scale = std::ldexp(1.0, -candidate->z_exponent);
      candidate->c.resize(g.size());
      for (std::size_t j = 0; j < g.size(); ++j) {
        candidate->c[j] = static_cast<float>(g[j] * scale);
      }
    }
    return;
  }
  const Index padded = panels_->padded_features();
  std::vector<float> c;
  for (std::size_t first = 0; first < candidates.size();) {
    // Every candidate's sums are the same whichever others share the pass.
    const Index m = std::min<Index>(kMaxRightSides, static_cast<Index>(candidates.size() - first));
    packed_.resize(at(n * m));
    for (Index b = 0; b < m; ++b) {
      const Candidate& candidate = *candidates[first + at(b)];
      const double scale = std::ldexp(1.0, -candidate.z_exponent);
      for (Index i = 0; i < n; ++i) {
        packed_[at(i * m + b)] = static_cast<float>(candidate.z[at(i)] * scale);
      }
    }
    c.resize(at(padded * m));
    panels_->correlate(m, packed_.data(), c.data());
    for (Index b = 0; b < m; ++b) {
      candidates[first + at(b)]->c.assign(c.begin() + b * padded, c.begin() + (b + 1) * padded);
    }
    first += at(m);
  }
}

double ResidualBackend::slack(std::size_t j) const {
  if (panels_ != nullptr) return static_cast<double>(panels_->slack()[j]);
  return columns_.norm(static_cast<Index>(j)) * double_slack_;
}

template <class Bound>
bool ResidualBackend::list_undecided(const Slot& slot, Candidate& candidate, Index most,
                                     const Bound& bound) {
  const Problem& problem = *slot.problem;
  const double a_unit =
      problem.lambda[at(candidate.lambda_index)] * std::ldexp(1.0, -problem.y->exponent);
  const std::vector<Index>& direct = problem.rows->direct;
  auto active = candidate.g_active.begin();
  auto next_direct = direct.begin();
  candidate.undecided.clear();
  for (Index j = 0; j < columns_.n_features(); ++j) {
    const bool is_active = active != candidate.g_active.end() && active->first == j;
    if (is_active) ++active;
    const bool is_direct = next_direct != direct.end() && *next_direct == j;
    if (is_direct) ++next_direct;
    if (is_active) continue;
    const double inverse_u = slot.inverse_u[at(j)];
    if (!is_direct && inverse_u > 0.0 && bound(at(j)) * inverse_u <= a_unit) continue;
    if (problem.excluded(j)) continue;
    if (static_cast<Index>(candidate.undecided.size()) == most) return false;
    candidate.undecided.push_back(j);
  }
  return true;
}

void ResidualBackend::project(const Problem& problem, Candidate& candidate) {
  const RowWeighting& rows = *problem.rows;
  const std::size_t n = candidate.r.size();
  candidate.q.assign(n, 0.0);
  candidate.zq.assign(n, 0.0);
  for (const Index i : rows.rows) candidate.q[at(i)] = candidate.r[at(i)];
  problem.projector->project(rows, candidate.q);
  double squares = 0.0;
  for (const Index i : rows.rows) {
    candidate.zq[at(i)] = rows.weight[at(i)] * candidate.q[at(i)];
    const double d = candidate.z[at(i)] - candidate.zq[at(i)];
    squares += d * d;
  }
  candidate.projected_away = std::sqrt(squares) * (1.0 + 1e-9);
}

// For any s, |x_j' z| <= |s| |x_j' z_ref| + |x_j| |z - s z_ref| (design section 6, "proven skip").
bool ResidualBackend::try_skip(const Slot& slot, Candidate& candidate) {
  if (!proven_skip_ || !(slot.z_norm > 0.0)) return false;
  const Index n = columns_.n_samples();
  const double s = simd().dot(n, candidate.z.data(), slot.z.data()) / (slot.z_norm * slot.z_norm);
  double squares = 0.0;
  for (std::size_t i = 0; i < candidate.z.size(); ++i) {
    const double d = candidate.z[i] - s * slot.z[i];
    squares += d * d;
  }
  const double c_unit = std::fabs(s) * std::ldexp(1.0, slot.z_exponent);
  const double slack_unit = std::fabs(s) * slot.z_norm;
  // The last factor covers the rounding of s, of the difference and of the sums.
  const double distance = (std::sqrt(squares) + 4.0 * kEps * candidate.z_norm) * (1.0 + 1e-9) +
                          candidate.projected_away;
  return list_undecided(slot, candidate, columns_.n_features() / kSkipShare, [&](std::size_t j) {
    return std::fabs(static_cast<double>(slot.c[j])) * c_unit + slack(j) * slack_unit +
           columns_.norm(static_cast<Index>(j)) * distance;
  });
}

void ResidualBackend::correlate(std::span<const PathBlock> blocks) {
  std::vector<Candidate*> reading;
  std::vector<const Slot*> slot_of;
  for (const PathBlock& block : blocks) {
    Slot& slot = *slots_[at(block.slot)];
    for (Index k = 0; k < block.count; ++k) {
      Candidate& candidate = slot.candidates[at(k)];
      candidate.z_norm = z_norm(candidate.z);
      candidate.projected_away = 0.0;
      if (slot.problem->projector) project(*slot.problem, candidate);
      candidate.fresh = !try_skip(slot, candidate);
      if (!candidate.fresh) continue;
      reading.push_back(&candidate);
      slot_of.push_back(&slot);
    }
  }
  correlate_candidates(reading);
  for (std::size_t i = 0; i < reading.size(); ++i) {
    Candidate& candidate = *reading[i];
    const double c_unit = std::ldexp(1.0, candidate.z_exponent);
    list_undecided(*slot_of[i], candidate, columns_.n_features(), [&](std::size_t j) {
      return std::fabs(static_cast<double>(candidate.c[j])) * c_unit + slack(j) * candidate.z_norm +
             columns_.norm(static_cast<Index>(j)) * candidate.projected_away;
    });
  }
}

void ResidualBackend::certify(std::span<const PathBlock> blocks,
                              std::span<CandidateReport> reports) {
  const Index n = columns_.n_samples();
  std::size_t report_index = 0;
  std::vector<double> g;
  std::vector<GapTerm> terms;
  for (const PathBlock& block : blocks) {
    Slot& slot = *slots_[at(block.slot)];
    const Problem& problem = *slot.problem;
    const RowWeighting& rows = *problem.rows;
    for (Index k = 0; k < block.count; ++k) {
      Candidate& candidate = slot.candidates[at(k)];
      CandidateReport& report = reports[report_index++];
      report = {};
      report.exact = candidate.outcome.exact;
      const double lambda = problem.lambda[at(candidate.lambda_index)];
      if (lambda == 0.0) continue;

      const std::vector<Index>& undecided = candidate.undecided;
      g.resize(undecided.size());

      // With unpenalised columns q differs from r; the products of the active features follow it.
      const bool projected = problem.projector != nullptr;
      const std::vector<double>* z = projected ? &candidate.zq : &candidate.z;
      double half_q = 0.0, half_rq = 0.0;
      for (const Index i : rows.rows) {
        if (projected) {
          const double d = candidate.r[at(i)] - candidate.q[at(i)];
          half_q += 0.5 * candidate.zq[at(i)] * candidate.q[at(i)];
          half_rq += 0.5 * rows.weight[at(i)] * d * d;
        } else {
          half_q += 0.5 * candidate.z[at(i)] * candidate.r[at(i)];
        }
      }
      rows.dots(columns_, undecided, z->data(), g.data());

      terms.clear();
      auto b = candidate.coef.begin();
      for (const auto& [j, g_j] : candidate.g_active) {
        double value = 0.0;
        if (b != candidate.coef.end() && b->first == j) value = (b++)->second;
        const double a = problem.a(j, lambda);
        const double e = problem.e(j, lambda);
        if (a == 0.0 && e == 0.0) continue;
        const double gradient =
            projected ? simd().dot(n, rows.column(columns_, j), z->data()) : g_j;
        terms.push_back({a, e, value, gradient});
      }
      const double noise = static_cast<double>(n) * kEps * candidate.z_norm;
      for (std::size_t u = 0; u < undecided.size(); ++u) {
        const Index j = undecided[u];
        const double a = problem.a(j, lambda);
        const double e = problem.e(j, lambda);
        if (a == 0.0 && e == 0.0) continue;
        if (std::fabs(g[u]) <= a) continue;
        terms.push_back({a, e, 0.0, g[u]});
        if (std::fabs(g[u]) > a + noise * columns_.norm(j) && !slot.in_working_set[at(j)]) {
          slot.put(j);
          ++report.n_violators;
        }
      }
      report.gap = smallest_gap(half_rq, half_q, terms) / problem.null_loss;
      report.finite = std::isfinite(report.gap);
    }
  }
}

Harvest ResidualBackend::harvest(Index slot_index, Index k, bool want_residual) {
  const Slot& slot = *slots_[at(slot_index)];
  const Candidate& candidate = slot.candidates[at(k)];
  Harvest out;
  out.coef = candidate.coef;
  out.sums = sums_of_residual(*slot.problem, candidate.r);
  if (want_residual) out.residual = candidate.r;
  out.iterations = candidate.outcome.iterations;
  out.dependent = candidate.n_dependent > 0;
  return out;
}

void ResidualBackend::advance(Index slot_index, Index k) {
  Slot& slot = *slots_[at(slot_index)];
  Candidate& candidate = slot.candidates[at(k)];
  if (candidate.fresh) {
    slot.c.swap(candidate.c);
    slot.z.swap(candidate.z);
    slot.z_exponent = candidate.z_exponent;
    slot.z_norm = candidate.z_norm;
    slot.lambda = slot.problem->lambda[at(candidate.lambda_index)];
  }
  slot.n_support = static_cast<Index>(candidate.coef.size());
}

}  // namespace thresher
