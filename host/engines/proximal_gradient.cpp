#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/accelerator.hpp"
#include "backend/blas.hpp"
#include "backend/cpu_proximal_backend.hpp"
#include "backend/proximal_backend.hpp"
#include "backend/simd.hpp"
#include "engines/engine.hpp"
#include "engines/support_polish.hpp"
#include "gap_term.hpp"
#include "setup/certificate.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

// Problems that run together in one chunk; GEMM gains little beyond. Untuned.
constexpr Index kSlots = 16;

// The same on a device, if memory allows: enough columns to fill it, few enough for their working
// sets to overlap. Untuned.
constexpr Index kDeviceSlots = 256;

// Iterations between looks at gaps, supports and limits. Untuned.
constexpr Index kCheckEvery = 10;

// Iterations without a gap 10 % lower that count as stagnation, or half of all if that is more: at
// the O(1/k^2) of the method the objective would fall by 4 in that time.
constexpr Index kPatience = 2000;

// Relative gaps above this many eps are slow progress on collinear columns (meats: 3e-5 without
// exact solves), not the limit of the arithmetic.
constexpr double kRoundingLevel = 1e4;

// Polished points in a row that gain nothing before rounding is blamed. Untuned.
constexpr int kFruitlessPolishes = 3;

// Largest matrix an exact solve factors: 8 * 3000^2 bytes are 72 MB.
constexpr double kMostPolished = 3000;

// Power iterations for a first step size; the descent test of every iteration corrects it.
constexpr int kPowerIterations = 8;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// A candidate and its certificate over all features.
struct Certified {
  SparseCoef coef;
  std::vector<double> r;                                 // (n) as residual() gives it
  std::vector<double> g;                                 // (p) x_j' W q
  double gap = std::numeric_limits<double>::infinity();  // relative
};

/// One running problem. Its vectors in the backend are the columns of its slot's number.
struct Slot {
  const Problem* problem = nullptr;
  Index number = 0;  // of the problem
  Index l = 0;       // of the lambda at hand
  double lambda = 0.0;
  bool fresh = true;  // the fit at l has not begun

  Index iteration = 0;
  double t = 1.0;  // of the momentum sequence
  double lipschitz = 0.0;
  Index lipschitz_size = 0;  // selected features when it was last estimated
  bool broken = false;       // a value that is not finite appeared

  bool start_holds = false;  // the fit's start is its answer to rounding: see start_holds()
  double target = 0.0;       // estimated relative gap worth a certificate
  double least_estimate = 0.0;
  Index least_iteration = 0;
  std::vector<Index> support;  // at the last look
  Index last_polish = 0;
  double polished_objective = 0.0;
  int fruitless = 0;
  bool dependent = false;
  bool dependence_known = false;
  std::optional<Certified> best;

  SparseCoef start;                            // of the fit at l
  double l1_now = 0.0;                         // l1_ratio * lambda of start, hat units
  std::vector<double> g;                       // (p) at start, empty when unknown
  std::vector<Index> wanted;                   // features this fit works on, ascending
  std::vector<Index> unsigned_features;        // of those, the ones with a_j = 0
  std::shared_ptr<const Projector> projector;  // of the fit at l
};

enum class Kind { kEstimate, kPolish, kLast };

/// A candidate to be certified.
struct Attempt {
  Index slot;
  Kind kind;
  Status status;  // if kLast: what ended the fit
  Certified certified;
};

/// A matrix with one column per slot in the backend's memory.
template <class T>
struct SlotMatrix {
  std::shared_ptr<T[]> memory;
  Index rows = 0;

  SlotMatrix() = default;
  SlotMatrix(ProximalBackend<T>& backend, Index n_rows, Index most_slots)
      : memory(backend.allocate(n_rows * most_slots)), rows(n_rows) {}
  T* column(Index b) const { return memory.get() + b * rows; }
  MatrixView<T> view(Index n_slots) const {
    return MatrixView<T>::column_major(memory.get(), rows, n_slots);
  }
  MatrixView<const T> read(Index n_slots) const {
    return MatrixView<const T>::column_major(memory.get(), rows, n_slots);
  }
};

/// Problems [first, last) of the batch, most_slots at a time; a finished problem's slot goes to the
/// next one. What happens depends on these numbers alone, so threads do not matter.
template <class T>
class ChunkSolver {
 public:
  ChunkSolver(const Batch& batch, std::unique_ptr<ProximalBackend<T>> backend, Index most_slots,
              RunControl& control, FitSink& sink, Index first, Index last)
      : batch_(batch),
        columns_(batch.columns),
        n_(batch.columns.n_samples()),
        p_(batch.columns.n_features()),
        control_(control),
        sink_(sink),
        next_(first),
        last_(last),
        most_slots_(most_slots),
        backend_(std::move(backend)),
        fitted_(*backend_, n_, most_slots),
        fitted_previous_(*backend_, n_, most_slots),
        fitted_next_(*backend_, n_, most_slots),
        residual_(*backend_, n_, most_slots),
        response_(*backend_, n_, most_slots),
        weight_(*backend_, n_, most_slots) {
    select({});
  }

  void run() {
    for (;;) {
      fill_slots();
      if (slots_.empty()) return;
      begin_fits();
      iterate();
      look();
      if (stopped_) return;
    }
  }

 private:
  Index n_slots() const { return static_cast<Index>(slots_.size()); }
  Index n_selected() const { return static_cast<Index>(features_.size()); }
  Slot& slot(Index b) { return slots_[at(b)]; }

  double metric(const Problem& problem, Index j) const {
    const RowWeighting& rows = *problem.rows;
    return problem.intercept ? rows.variance[at(j)] : rows.second_moment[at(j)];
  }
  bool pinned(const Problem& problem, Index j) const {
    return problem.excluded(j) || !(metric(problem, j) > 0.0);
  }
  double hat(const Problem& problem, double lambda) const {
    return problem.l1_ratio * std::ldexp(lambda, -problem.y->exponent);
  }

  // --- problems in and out ---

  void fill_slots() {
    while (n_slots() < most_slots_ && next_ < last_) {
      const Index number = next_++;
      const Problem& problem = batch_.problems[at(number)];
      if (problem.lambda.empty()) continue;
      if (problem.negligible) {
        solve_by_zero(number);
        continue;
      }
      Slot s;
      s.problem = &problem;
      s.number = number;
      for (const auto& [j, b] : problem.start) {
        if (!pinned(problem, j) && b != 0.0) s.start.emplace_back(j, b);
      }
      slots_.push_back(std::move(s));
      load_problem(n_slots() - 1);
    }
  }

  void solve_by_zero(Index number) {
    const Problem& problem = batch_.problems[at(number)];
    for (std::size_t l = 0; l < problem.lambda.size(); ++l) {
      Fit fit =
          certify(columns_, problem, problem.lambda[l], {}, control_.tol(), batch_.want_prediction);
      fit.engine = Engine::kProximalGradient;
      control_.count(1);
      if (!sink_.take(number, static_cast<Index>(l), std::move(fit))) return;
    }
  }

  void load_problem(Index b) {
    const Problem& problem = *slot(b).problem;
    std::vector<T> w(at(n_)), y(at(n_));
    for (Index i = 0; i < n_; ++i) {
      w[at(i)] = static_cast<T>(problem.rows->weight[at(i)]);
      const bool counts = problem.rows->weight[at(i)] > 0.0;
      y[at(i)] = counts ? static_cast<T>(problem.y->value[at(i)] - problem.y_mean) : T(0);
    }
    backend_->upload(w, weight_.column(b));
    backend_->upload(y, response_.column(b));
    momentum_.resize(slots_.size());
    momentum_[at(b)] = T(0);
    load_coef(b, {});
  }

  /// Compacts finished problems out.
  void leave(Index b) {
    const Index last = n_slots() - 1;
    if (b != last) {
      for (const SlotMatrix<T>* m : {&fitted_, &fitted_previous_, &response_, &weight_, &coef_,
                                     &previous_, &step_size_, &l1_, &l2_}) {
        backend_->copy(m->column(last), m->rows, m->column(b));
      }
      momentum_[at(b)] = momentum_[at(last)];
      slots_[at(b)] = std::move(slots_.back());
    }
    slots_.pop_back();
    momentum_.pop_back();
    place_direct();
  }

  // --- features ---

  /// Restricts the chunk to `features`, carrying coefficients over; what is left out must be 0.
  void select(std::vector<Index> features) {
    const Index size = static_cast<Index>(features.size());
    SlotMatrix<T> coef(*backend_, size, most_slots_);
    SlotMatrix<T> previous(*backend_, size, most_slots_);
    std::vector<T> from(features_.size()), to(features.size());
    for (Index b = 0; b < n_slots(); ++b) {
      for (const auto& [old_matrix, new_matrix] :
           {std::pair(&coef_, &coef), std::pair(&previous_, &previous)}) {
        backend_->download(old_matrix->column(b), from);
        std::size_t k = 0;
        for (std::size_t f = 0; f < features.size(); ++f) {
          while (k < features_.size() && features_[k] < features[f]) ++k;
          to[f] = k < features_.size() && features_[k] == features[f] ? from[k] : T(0);
        }
        backend_->upload(to, new_matrix->column(b));
      }
    }
    coef_ = coef;
    previous_ = previous;
    for (SlotMatrix<T>* m : {&grad_, &step_size_, &l1_, &l2_}) {
      *m = SlotMatrix<T>(*backend_, size, most_slots_);
    }
    direction_ = backend_->allocate(size);
    features_ = std::move(features);
    backend_->select_features(features_);
    place_direct();
    for (Index b = 0; b < n_slots(); ++b) {
      if (!slot(b).fresh) load_penalty(b);
    }
  }

  std::vector<DirectColumn<T>> direct_columns(Index b, Index as_slot) {
    std::vector<DirectColumn<T>> out;
    const RowWeighting& rows = *slot(b).problem->rows;
    for (std::size_t f = 0; f < features_.size() && !rows.direct.empty(); ++f) {
      const Index k = rows.direct_index(features_[f]);
      if (k < 0) continue;
      out.push_back({as_slot, static_cast<Index>(f), direct_values(rows) + k * n_});
    }
    return out;
  }

  const T* direct_values(const RowWeighting& rows) {
    if constexpr (std::is_same_v<T, double>) {
      return rows.direct_values.data();
    } else {
      for (const auto& [owner, values] : direct_copies_) {
        if (owner == &rows) return values.data();
      }
      direct_copies_.emplace_back(
          &rows, std::vector<T>(rows.direct_values.begin(), rows.direct_values.end()));
      return direct_copies_.back().second.data();
    }
  }

  void place_direct() {
    std::vector<DirectColumn<T>> all;
    for (Index b = 0; b < n_slots(); ++b) {
      for (const DirectColumn<T>& d : direct_columns(b, b)) all.push_back(d);
    }
    backend_->set_direct(std::move(all));
  }

  /// Sequential strong rule (Tibshirani et al. 2012): |g_j| >= u_j l1_ratio (2 lambda -
  /// lambda_now), the support, and all features without an L1 term. A guess: certificates cover all
  /// features.
  void choose_wanted(Slot& s) {
    const Problem& problem = *s.problem;
    const double next = hat(problem, s.lambda);
    const std::vector<double>& u = problem.penalties->l1;
    const double threshold = 2.0 * next - s.l1_now;
    std::vector<std::pair<double, Index>> strong;
    s.wanted.clear();
    s.unsigned_features.clear();
    auto support = s.start.begin();
    for (Index j = 0; j < p_; ++j) {
      const bool started = support != s.start.end() && support->first == j;
      if (started) ++support;
      if (pinned(problem, j)) continue;
      if (problem.a(j, s.lambda) == 0.0) {
        s.wanted.push_back(j);
        s.unsigned_features.push_back(j);
      } else if (started) {
        s.wanted.push_back(j);
      } else {
        const double strength = std::fabs(s.g[at(j)]) / u[at(j)];
        if (strength >= threshold) strong.emplace_back(strength, j);
      }
    }
    // On a coarse grid the threshold vanishes: then only the strongest.
    const std::size_t most = std::max<std::size_t>(300, 2 * s.wanted.size());
    if (strong.size() > most) {
      std::nth_element(strong.begin(), strong.begin() + static_cast<std::ptrdiff_t>(most),
                       strong.end(), [](const auto& a, const auto& b) {
                         return a.first != b.first ? a.first > b.first : a.second < b.second;
                       });
      strong.resize(most);
    }
    for (const auto& [strength, j] : strong) s.wanted.push_back(j);
    std::sort(s.wanted.begin(), s.wanted.end());
  }

  /// Makes sure that every slot's wanted features are selected.
  void update_selection() {
    std::vector<std::uint8_t> keep(at(p_), 0);
    for (const Slot& s : slots_) {
      for (const Index j : s.wanted) keep[at(j)] = 1;
    }
    std::vector<T> values(features_.size());
    for (Index b = 0; b < n_slots(); ++b) {
      for (const SlotMatrix<T>* m : {&coef_, &previous_}) {
        backend_->download(m->column(b), values);
        for (std::size_t f = 0; f < values.size(); ++f) {
          if (values[f] != T(0)) keep[at(features_[f])] = 1;
        }
      }
    }
    Index size = 0, missing = 0;
    for (Index j = 0; j < p_; ++j) {
      if (!keep[at(j)]) continue;
      ++size;
      if (!std::binary_search(features_.begin(), features_.end(), j)) ++missing;
    }
    if (missing == 0 && (n_selected() <= 2 * size + 100 || n_selected() == p_)) return;
    if (5 * size > 3 * p_) std::fill(keep.begin(), keep.end(), std::uint8_t{1});
    std::vector<Index> features;
    for (Index j = 0; j < p_; ++j) {
      if (keep[at(j)]) features.push_back(j);
    }
    select(std::move(features));
  }

  // --- one fit ---

  void begin_fits() {
    std::vector<Index> fresh;
    std::vector<Attempt> unknown;
    for (Index b = 0; b < n_slots(); ++b) {
      Slot& s = slot(b);
      if (!s.fresh) continue;
      fresh.push_back(b);
      s.lambda = s.problem->lambda[at(s.l)];
      prepare_projector(s);
      if (s.g.empty())
        unknown.push_back({b, Kind::kEstimate, Status::kConverged, {s.start, {}, {}}});
    }
    if (fresh.empty()) return;
    evaluate(unknown);
    for (Attempt& attempt : unknown) {
      Slot& s = slot(attempt.slot);
      s.g = std::move(attempt.certified.g);
      const Problem& problem = *s.problem;
      s.l1_now = 0.0;
      for (Index j = 0; j < p_; ++j) {
        const double u = problem.penalties->l1[at(j)];
        if (u > 0.0 && !pinned(problem, j)) {
          s.l1_now = std::max(s.l1_now, std::fabs(s.g[at(j)]) / u);
        }
      }
    }
    for (const Index b : fresh) choose_wanted(slot(b));
    update_selection();
    for (const Index b : fresh) {
      Slot& s = slot(b);
      s.fresh = false;
      s.iteration = 0;
      s.broken = false;
      s.target = 0.5 * control_.tol();
      s.least_estimate = std::numeric_limits<double>::infinity();
      s.least_iteration = 0;
      s.support.clear();
      s.last_polish = 0;
      s.polished_objective = std::numeric_limits<double>::infinity();
      s.fruitless = 0;
      s.dependent = false;
      s.dependence_known = false;
      s.best.reset();
      s.start_holds = start_holds(b);
      load_coef(b, s.start);
      // More features raise the bound by the descent test; far fewer deserve a lower one.
      if (s.lipschitz == 0.0 || 2 * n_selected() < s.lipschitz_size) estimate_lipschitz(b);
      load_penalty(b);
    }
  }

  void prepare_projector(Slot& s) const {
    if (s.lambda > 0.0) {
      s.projector = s.problem->projector;
      return;
    }
    std::vector<Index> free;
    for (Index j = 0; j < p_; ++j) {
      if (!s.problem->excluded(j) && s.problem->e(j, 0.0) == 0.0) free.push_back(j);
    }
    s.projector =
        std::make_shared<Projector>(columns_, *s.problem->rows, s.problem->intercept, free);
  }

  /// Whether all features with an L1 term are 0 in the answer, to the rounding of g: then none may
  /// enter on that rounding at lambda_max, nor because the others have not settled. The start
  /// becomes the answer, an exact minimum over the features without an L1 term.
  bool start_holds(Index b) {
    Slot& s = slot(b);
    const Problem& problem = *s.problem;
    bool any_signed = false, all_unpenalised = true;
    for (Index j = 0; j < p_; ++j) {
      any_signed = any_signed || (!pinned(problem, j) && problem.a(j, s.lambda) > 0.0);
    }
    for (const Index j : s.unsigned_features) {
      all_unpenalised = all_unpenalised && problem.e(j, s.lambda) == 0.0;
    }
    for (const auto& [j, value] : s.start) {
      if (problem.a(j, s.lambda) > 0.0) return false;
    }
    if (s.unsigned_features.empty() || !any_signed) {
      return s.start.empty() && within_noise(s, s.g, true);
    }
    // g comes from a residual without its part on unpenalised columns, so it holds before they are
    // solved for; features with an L2 term alone change it.
    if (all_unpenalised && !within_noise(s, s.g, false)) return false;
    if (static_cast<double>(s.unsigned_features.size()) > kMostPolished) return false;
    SparseCoef coef = s.start;
    const Polish polish = polish_support(columns_, problem, s.lambda, s.unsigned_features, coef);
    s.dependent = polish.dependent;
    s.dependence_known = true;
    std::vector<Attempt> exact;
    exact.push_back({b, Kind::kEstimate, Status::kConverged, {coef, {}, {}}});
    evaluate(exact);
    if (!within_noise(s, exact.front().certified.g, false)) return false;
    s.start = std::move(coef);
    return true;
  }

  /// |g_j| <= a_j to rounding, for all features with an L1 term or for `all`.
  bool within_noise(const Slot& s, const std::vector<double>& g, bool all) const {
    const Problem& problem = *s.problem;
    const double noise = static_cast<double>(n_) * kEps * std::sqrt(2.0 * problem.null_loss);
    for (Index j = 0; j < p_; ++j) {
      if (pinned(problem, j)) continue;
      const double a = problem.a(j, s.lambda);
      if (a == 0.0 && !all) continue;
      const double spread =
          std::max(problem.rows->variance[at(j)], problem.rows->second_moment[at(j)]);
      if (!(std::fabs(g[at(j)]) <= a + noise * std::sqrt(spread))) return false;
    }
    return true;
  }

  void load_penalty(Index b) {
    const Slot& s = slot(b);
    const Problem& problem = *s.problem;
    std::vector<T> step(features_.size()), l1(features_.size()), l2(features_.size());
    for (std::size_t f = 0; f < features_.size(); ++f) {
      const Index j = features_[f];
      if (pinned(problem, j)) continue;
      const T size = static_cast<T>(1.0 / (s.lipschitz * metric(problem, j)));
      step[f] = std::isfinite(size) ? size : T(0);
      l1[f] = static_cast<T>(problem.a(j, s.lambda));
      l2[f] = static_cast<T>(problem.e(j, s.lambda));
    }
    backend_->upload(step, step_size_.column(b));
    backend_->upload(l1, l1_.column(b));
    backend_->upload(l2, l2_.column(b));
  }

  /// Puts the iterate at `coef`, without momentum.
  void load_coef(Index b, const SparseCoef& coef) {
    std::vector<T> values(features_.size(), T(0));
    std::size_t f = 0;
    for (const auto& [j, value] : coef) {
      while (f < features_.size() && features_[f] < j) ++f;
      if (f < features_.size() && features_[f] == j) values[f] = static_cast<T>(value);
    }
    backend_->upload(values, coef_.column(b));
    backend_->upload(values, previous_.column(b));
    predict_alone(b, coef_.column(b), fitted_.column(b));
    backend_->copy(fitted_.column(b), n_, fitted_previous_.column(b));
    restart(b);
  }

  void predict_alone(Index b, const T* coef, T* fitted) {
    const bool direct = !slot(b).problem->rows->direct.empty();
    backend_->set_direct(direct_columns(b, 0));
    backend_->predict({MatrixView<const T>::column_major(coef, n_selected(), 1),
                       MatrixView<T>::column_major(fitted, n_, 1)});
    if (direct || n_slots() > 1) place_direct();
  }

  void restart(Index b) {
    slot(b).t = 1.0;
    momentum_[at(b)] = T(0);
  }

  /// The iterate as a candidate.
  SparseCoef read_coef(Index b) {
    if (slot(b).start_holds) return slot(b).start;
    std::vector<T> values(features_.size());
    backend_->download(coef_.column(b), values);
    SparseCoef out;
    for (std::size_t f = 0; f < values.size(); ++f) {
      if (values[f] != T(0)) out.emplace_back(features_[f], static_cast<double>(values[f]));
    }
    return out;
  }

  /// A few power iterations on D^-1 X_F' W X_F, D the metric. A lower bound of its largest
  /// eigenvalue, so only a first guess.
  void estimate_lipschitz(Index b) {
    Slot& s = slot(b);
    const Problem& problem = *s.problem;
    const std::size_t size = features_.size();
    std::vector<T> v(size), g(size);
    std::vector<double> d(size);
    std::uint64_t state = 0x9e3779b97f4a7c15u;
    for (std::size_t f = 0; f < size; ++f) {
      d[f] = pinned(problem, features_[f]) ? 0.0 : metric(problem, features_[f]);
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      const double random = static_cast<double>(state >> 11) * 0x1p-53 - 0.5;
      g[f] = static_cast<T>(random * std::sqrt(d[f]));
    }
    const std::vector<T> zero(at(n_), T(0));
    const std::shared_ptr<T[]> response = backend_->allocate(n_);
    const std::shared_ptr<T[]> fitted = backend_->allocate(n_);
    double eigenvalue = 1.0;  // the diagonal of the scaled matrix is 1
    for (int k = 0; k <= kPowerIterations; ++k) {
      double norm2 = 0.0;
      for (std::size_t f = 0; f < size; ++f) {
        v[f] = d[f] > 0.0 ? static_cast<T>(static_cast<double>(g[f]) / d[f]) : T(0);
        norm2 += d[f] * static_cast<double>(v[f]) * static_cast<double>(v[f]);
      }
      if (!(norm2 > 0.0) || !std::isfinite(norm2)) break;
      // v is D^-1 of the last product, whose norm estimates the eigenvalue.
      if (k > 0) eigenvalue = std::max(eigenvalue, std::sqrt(norm2));
      if (k == kPowerIterations) break;
      for (T& value : v) value = static_cast<T>(static_cast<double>(value) / std::sqrt(norm2));
      backend_->upload(v, direction_.get());
      predict_alone(b, direction_.get(), fitted.get());
      const T no_momentum[1] = {T(0)};
      double half_loss[1];
      backend_->set_direct(direct_columns(b, 0));
      backend_->correlate(
          {MatrixView<const T>::column_major(fitted.get(), n_, 1),
           MatrixView<const T>::column_major(fitted.get(), n_, 1), no_momentum,
           MatrixView<const T>::column_major(response.get(), n_, 1),
           MatrixView<const T>::column_major(weight_.column(b), n_, 1), problem.intercept,
           MatrixView<T>::column_major(residual_.column(b), n_, 1),
           MatrixView<T>::column_major(grad_.column(b), n_selected(), 1), half_loss});
      backend_->download(grad_.column(b), g);
    }
    place_direct();
    s.lipschitz = std::min(1.02 * eigenvalue, trace());
    s.lipschitz_size = n_selected();
  }

  /// The scaled matrix has a unit diagonal, so this is a proven bound.
  double trace() const { return std::max(1.0, static_cast<double>(n_selected())); }

  // --- one iteration of all slots ---

  void iterate() {
    const Index m = n_slots();
    const bool intercept = slots_.front().problem->intercept;
    half_loss_.resize(slots_.size());
    backend_->correlate({fitted_.read(m), fitted_previous_.read(m), momentum_, response_.read(m),
                         weight_.read(m), intercept, residual_.view(m), grad_.view(m), half_loss_});

    ++clock_;
    due_.assign(slots_.size(), 0);
    bool any_due = false;
    for (Index b = 0; b < m; ++b) {
      if (clock_ % kCheckEvery == 0 || slot(b).iteration == 0) due_[at(b)] = 1, any_due = true;
    }
    if (any_due) {
      std::vector<double> lipschitz;
      for (const Slot& s : slots_) lipschitz.push_back(s.lipschitz);
      estimate_.resize(slots_.size());
      backend_->estimate_gap({coef_.read(m), previous_.read(m), momentum_, grad_.read(m),
                              step_size_.read(m), l1_.read(m), l2_.read(m), lipschitz, half_loss_,
                              estimate_});
    }

    std::vector<double> uphill(slots_.size()), length(slots_.size());
    std::vector<double> change(slots_.size()), size(slots_.size());
    backend_->prox_step({coef_.view(m), previous_.view(m), grad_.read(m), step_size_.read(m),
                         l1_.read(m), l2_.read(m), momentum_, uphill, length});
    backend_->predict({coef_.read(m), fitted_next_.view(m)});
    backend_->curvature({fitted_next_.read(m), fitted_.read(m), fitted_previous_.read(m), momentum_,
                         weight_.read(m), intercept, change, size});
    std::swap(fitted_previous_, fitted_);
    std::swap(fitted_, fitted_next_);

    constexpr double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
    for (Index b = 0; b < m; ++b) {
      Slot& s = slot(b);
      ++s.iteration;
      if (!std::isfinite(length[at(b)]) || !std::isfinite(size[at(b)])) {
        s.broken = true;
        continue;
      }
      // Descent test of backtracking, |X (next - z)|^2 <= |next - z|^2 in the step metric, with
      // room for the rounding of fitted values.
      const double noise = 64.0 * eps * eps * (size[at(b)] + s.problem->null_loss);
      const bool too_long = change[at(b)] > (1.0 + 16.0 * eps) * length[at(b)] + noise;
      if (too_long && s.lipschitz < trace()) {
        const double seen = s.lipschitz * change[at(b)] / length[at(b)];
        s.lipschitz = std::min(trace(), std::max(1.1 * s.lipschitz, 1.02 * seen));
        backend_->copy(previous_.column(b), n_selected(), coef_.column(b));
        backend_->copy(fitted_previous_.column(b), n_, fitted_.column(b));
        load_penalty(b);
        restart(b);
      } else if (uphill[at(b)] > 0.0) {
        restart(b);
      } else {
        const double t = 0.5 * (1.0 + std::sqrt(1.0 + 4.0 * s.t * s.t));
        momentum_[at(b)] = static_cast<T>((s.t - 1.0) / t);
        s.t = t;
      }
    }
  }

  // --- what to do with the slots after an iteration ---

  void look() {
    bool any_due = false;
    for (const std::uint8_t due : due_) any_due = any_due || due != 0;
    const Status interruption = any_due ? control_.interruption() : Status::kConverged;
    std::vector<Attempt> attempts;
    for (Index b = 0; b < n_slots(); ++b) {
      Slot& s = slot(b);
      const bool limited = s.iteration >= control_.max_iterations();
      if (interruption != Status::kConverged || s.broken || limited) {
        const Status status = s.broken                             ? Status::kNumericalBreakdown
                              : interruption != Status::kConverged ? interruption
                                                                   : Status::kIterationLimit;
        attempts.push_back({b, Kind::kLast, status, {read_coef(b), {}, {}}});
      } else if (due_[at(b)]) {
        consider(b, attempts);
      }
    }
    if (attempts.empty()) return;
    evaluate(attempts);
    std::vector<Index> left;
    for (Attempt& attempt : attempts) {
      if (!digest(attempt)) left.push_back(attempt.slot);
    }
    stopped_ = interruption != Status::kConverged;
    if (stopped_) return;
    for (auto b = left.rbegin(); b != left.rend(); ++b) leave(*b);
    // Violators join; fresh fits choose theirs at their start.
    for (const Slot& s : slots_) {
      if (!s.fresh &&
          !std::includes(features_.begin(), features_.end(), s.wanted.begin(), s.wanted.end())) {
        update_selection();
        break;
      }
    }
  }

  /// Appends a candidate worth a certificate, if there is one.
  void consider(Index b, std::vector<Attempt>& attempts) {
    Slot& s = slot(b);
    const double estimate = estimate_[at(b)] / s.problem->null_loss;
    if (std::isnan(estimate)) {
      attempts.push_back({b, Kind::kLast, Status::kNumericalBreakdown, {read_coef(b), {}, {}}});
      return;
    }
    if (estimate < 0.9 * s.least_estimate) {
      s.least_estimate = estimate;
      s.least_iteration = s.iteration;
    }
    if (estimate <= s.target || s.start_holds) {
      attempts.push_back({b, Kind::kEstimate, Status::kConverged, {read_coef(b), {}, {}}});
      return;
    }
    const bool stagnant = s.iteration - s.least_iteration > std::max(kPatience, s.iteration / 2);
    if (stagnant && s.least_estimate <= kRoundingLevel * std::numeric_limits<T>::epsilon()) {
      attempts.push_back({b, Kind::kLast, Status::kPrecisionLimit, {read_coef(b), {}, {}}});
      return;
    }

    SparseCoef coef = read_coef(b);
    std::vector<Index> support;
    support.reserve(coef.size());
    for (const auto& [j, value] : coef) support.push_back(j);
    const bool settled = support == s.support;
    s.support = std::move(support);
    if (s.iteration <= 1 || !(settled || s.iteration - s.last_polish >= 5 * kCheckEvery)) return;
    // Exact solves and their certificates may take half of the time.
    Index members = static_cast<Index>(s.unsigned_features.size());
    for (const auto& [j, value] : coef) {
      if (!std::binary_search(s.unsigned_features.begin(), s.unsigned_features.end(), j)) ++members;
    }
    const double size = static_cast<double>(members);
    const double n = static_cast<double>(n_);
    const bool ridge = s.unsigned_features.size() == s.wanted.size();
    const double order = ridge ? std::min(size, n) : size;
    if (order > kMostPolished) return;
    const double price =
        n * size * order + order * order * order + 2.0 * n * static_cast<double>(p_);
    const double spent = 4.0 * n * static_cast<double>(n_selected()) *
                         static_cast<double>(s.iteration - s.last_polish);
    if (price > spent) return;
    s.last_polish = s.iteration;
    const Polish polish = polish_support(columns_, *s.problem, s.lambda, s.unsigned_features, coef);
    s.dependent = polish.dependent;
    s.dependence_known = true;
    if (!polish.improved) {
      ++s.fruitless;
      return;
    }
    const double gain = s.polished_objective - polish.objective;
    s.fruitless = gain > 4.0 * kEps * s.problem->null_loss ? 0 : s.fruitless + 1;
    s.polished_objective = std::min(s.polished_objective, polish.objective);
    attempts.push_back({b, Kind::kPolish, Status::kConverged, {std::move(coef), {}, {}}});
  }

  /// Residuals, gradients over all features and gaps of all attempts, in double, by one product.
  void evaluate(std::vector<Attempt>& attempts) {
    const Index m = static_cast<Index>(attempts.size());
    if (m == 0) return;
    std::vector<double> z(at(n_ * m), 0.0), g(at(p_ * m), 0.0);
    std::vector<double> half_q(at(m), 0.0), half_rest(at(m), 0.0);
    for (Index k = 0; k < m; ++k) {
      Certified& c = attempts[at(k)].certified;
      const Slot& s = slot(attempts[at(k)].slot);
      const RowWeighting& rows = *s.problem->rows;
      c.r = residual(columns_, *s.problem, c.coef);
      std::vector<double> q(at(n_), 0.0);
      for (const Index i : rows.rows) q[at(i)] = c.r[at(i)];
      if (s.projector && !s.projector->empty()) s.projector->project(rows, q);
      for (const Index i : rows.rows) {
        const double w = rows.weight[at(i)];
        const double rest = c.r[at(i)] - q[at(i)];
        z[at(k * n_ + i)] = w * q[at(i)];
        half_q[at(k)] += 0.5 * w * q[at(i)] * q[at(i)];
        half_rest[at(k)] += 0.5 * w * rest * rest;
      }
    }
    if (m == 1) {
      blas::gemv(true, n_, p_, 1.0, columns_.matrix(), n_, z.data(), 0.0, g.data());
    } else {
      blas::gemm(true, false, p_, m, n_, 1.0, columns_.matrix(), n_, z.data(), n_, 0.0, g.data(),
                 p_);
    }
    for (Index k = 0; k < m; ++k) {
      Certified& c = attempts[at(k)].certified;
      const Slot& s = slot(attempts[at(k)].slot);
      const Problem& problem = *s.problem;
      c.g.assign(g.begin() + k * p_, g.begin() + (k + 1) * p_);
      for (const Index j : problem.rows->direct) {
        c.g[at(j)] = simd().dot(n_, problem.rows->column(columns_, j), z.data() + k * n_);
      }
      std::vector<GapTerm> terms;
      auto next = c.coef.begin();
      for (Index j = 0; j < p_; ++j) {
        double b = 0.0;
        if (next != c.coef.end() && next->first == j) b = (next++)->second;
        if (problem.excluded(j)) continue;
        const double a = problem.a(j, s.lambda), e = problem.e(j, s.lambda);
        if (a == 0.0 && e == 0.0) continue;
        if (b != 0.0 || !(std::fabs(c.g[at(j)]) <= a)) terms.push_back({a, e, b, c.g[at(j)]});
      }
      c.gap = smallest_gap(half_rest[at(k)], half_q[at(k)], terms) / problem.null_loss;
    }
  }

  /// Acts on a certificate. Returns false if the slot's path is over.
  bool digest(Attempt& attempt) {
    Slot& s = slot(attempt.slot);
    const bool certified = attempt.certified.gap <= control_.tol();
    const bool finite = std::isfinite(attempt.certified.gap);
    if (!s.best || attempt.certified.gap < s.best->gap) s.best = attempt.certified;

    if (attempt.kind == Kind::kLast || certified || !finite) {
      Status status = attempt.status;
      if (!certified && attempt.kind != Kind::kLast) status = Status::kNumericalBreakdown;
      if (status == Status::kNumericalBreakdown) s.best = std::move(attempt.certified);
      return finish(attempt.slot, status);
    }
    const bool joined = add_violators(s, attempt.certified);
    if (attempt.kind == Kind::kPolish) {
      if (s.fruitless >= kFruitlessPolishes && !joined) {
        return finish(attempt.slot, Status::kPrecisionLimit);
      }
      load_coef(attempt.slot, attempt.certified.coef);
    } else if (!joined) {
      s.target *= 0.1;
      s.start_holds = false;
    }
    if (joined) s.least_iteration = s.iteration;
    return true;
  }

  /// Adds the worst features that are not selected and break |g_j| <= a_j.
  bool add_violators(Slot& s, const Certified& c) {
    std::vector<std::pair<double, Index>> worst;
    auto selected = features_.begin();
    for (Index j = 0; j < p_; ++j) {
      if (selected != features_.end() && *selected == j) {
        ++selected;
        continue;
      }
      if (pinned(*s.problem, j)) continue;
      const double a = s.problem->a(j, s.lambda);
      const double g = std::fabs(c.g[at(j)]);
      if (g > a) worst.emplace_back(g / a, j);
    }
    if (worst.empty()) return false;
    const std::size_t most = std::max<std::size_t>(100, c.coef.size());
    if (worst.size() > most) {
      std::nth_element(worst.begin(), worst.begin() + static_cast<std::ptrdiff_t>(most),
                       worst.end(), [](const auto& x, const auto& y) {
                         return x.first != y.first ? x.first > y.first : x.second < y.second;
                       });
      worst.resize(most);
    }
    for (const auto& [ratio, j] : worst) s.wanted.push_back(j);
    std::sort(s.wanted.begin(), s.wanted.end());
    s.wanted.erase(std::unique(s.wanted.begin(), s.wanted.end()), s.wanted.end());
    return true;
  }

  /// Hands over the best certified candidate; kConverged is said by its gap alone.
  bool finish(Index b, Status status) {
    Slot& s = slot(b);
    const Problem& problem = *s.problem;
    Certified& best = *s.best;
    Fit fit = finish_fit(columns_, problem, s.lambda, best.coef, best.r, best.gap, control_.tol(),
                         batch_.want_prediction);
    const bool stopped = status == Status::kTimeLimit || status == Status::kCancelled;
    if (stopped || fit.status == Status::kIterationLimit) fit.status = status;
    fit.engine = Engine::kProximalGradient;
    fit.iterations = s.iteration;
    fit.rank_deficient = rank_deficient(s);
    const bool usable = fit.status != Status::kNumericalBreakdown;

    control_.count(1);
    const bool wanted = sink_.take(s.number, s.l, std::move(fit));
    if (!wanted || stopped || ++s.l == static_cast<Index>(problem.lambda.size())) return false;
    s.fresh = true;
    s.l1_now = hat(problem, s.lambda);
    if (usable) {
      s.start = std::move(best.coef);
      s.g = std::move(best.g);
    } else {
      s.start.clear();
      s.g.clear();
      s.lipschitz = 0.0;
      load_coef(b, {});
    }
    s.best.reset();
    return true;
  }

  /// More unpenalised features than rows, or dependent ones: the answer is not unique.
  bool rank_deficient(Slot& s) {
    const Problem& problem = *s.problem;
    std::vector<Index> free;
    for (const Index j : s.unsigned_features) {
      if (problem.e(j, s.lambda) == 0.0) free.push_back(j);
    }
    if (free.empty()) return false;
    const Index rank = static_cast<Index>(problem.rows->rows.size()) - (problem.intercept ? 1 : 0);
    if (static_cast<Index>(free.size()) > rank) return true;
    if (s.dependence_known) return s.dependent;
    SparseCoef scratch;
    return polish_support(columns_, problem, s.lambda, free, scratch).dependent;
  }

  const Batch& batch_;
  const Columns& columns_;
  const Index n_;
  const Index p_;
  RunControl& control_;
  FitSink& sink_;
  Index next_;
  const Index last_;
  bool stopped_ = false;
  Index clock_ = 0;

  const Index most_slots_;
  std::unique_ptr<ProximalBackend<T>> backend_;
  std::vector<Slot> slots_;
  std::vector<Index> features_;  // selected, ascending
  SlotMatrix<T> fitted_, fitted_previous_, fitted_next_, residual_, response_, weight_;
  SlotMatrix<T> coef_, previous_, grad_, step_size_, l1_, l2_;
  std::shared_ptr<T[]> direction_;
  std::vector<T> momentum_;
  std::vector<double> half_loss_, estimate_;
  std::vector<std::uint8_t> due_;
  std::vector<std::pair<const RowWeighting*, std::vector<T>>> direct_copies_;
};

/// Length of a chunk: enough problems to keep its slots full, enough chunks for many threads.
/// Depends on the number of problems alone.
Index chunk_length(Index n_problems) { return std::clamp<Index>(n_problems / kSlots, 4, 64); }

template <class T>
void solve_chunks(const Batch& batch, const T* matrix, const ThreadPool& pool, RunControl& control,
                  FitSink& sink) {
  const Index n = batch.columns.n_samples(), p = batch.columns.n_features();
  const Index n_problems = static_cast<Index>(batch.problems.size());
  const Index length = chunk_length(n_problems);
  pool.run((n_problems + length - 1) / length, [&](Index chunk, int) {
    const Index first = chunk * length;
    ChunkSolver<T>(batch, std::make_unique<CpuProximalBackend<T>>(matrix, n, p), kSlots, control,
                   sink, first, std::min(n_problems, first + length))
        .run();
  });
}

/// Hands each fit over once, however often its path is solved.
class OnceSink : public FitSink {
 public:
  OnceSink(FitSink& sink, std::size_t n_problems) : sink_(sink), paths_(n_problems) {}

  bool take(Index problem, Index lambda_index, Fit&& fit) override {
    Path& path = paths_[at(problem)];
    if (lambda_index + 1 < path.taken) return true;
    if (lambda_index + 1 > path.taken) {
      path.wanted = sink_.take(problem, lambda_index, std::move(fit));
      path.taken = lambda_index + 1;
    }
    return path.wanted;
  }

 private:
  struct Path {
    Index taken = 0;
    bool wanted = true;
  };

  FitSink& sink_;
  std::vector<Path> paths_;
};

/// Problems at a time that memory allows: X and a copy of its selected columns stay, a slot has six
/// vectors of samples and, while the selection changes, up to ten of features.
Index slots_that_fit(std::size_t free_bytes, Index n, Index p, std::size_t value_bytes) {
  const double bytes = static_cast<double>(value_bytes);
  const double rows = static_cast<double>(n), features = static_cast<double>(p);
  // A tenth stays free for cuBLAS and for what the driver keeps.
  const double room = 0.9 * static_cast<double>(free_bytes) - 2.0 * bytes * rows * features;
  const double slots = room / (bytes * (6.0 * rows + 10.0 * features));
  return static_cast<Index>(std::clamp(slots, 1.0, static_cast<double>(kDeviceSlots)));
}

/// All problems as one chunk, on one thread. Out of memory: half as many at a time, down to one.
template <class T>
void solve_on_device(const Batch& batch, const T* matrix, RunControl& control, FitSink& sink) {
  Accelerator& device = *batch.accelerator;
  const Index n = batch.columns.n_samples(), p = batch.columns.n_features();
  const Index n_problems = static_cast<Index>(batch.problems.size());
  const Index wanted = std::clamp<Index>(n_problems, 1, kDeviceSlots);
  Index n_slots = std::min(wanted, slots_that_fit(device.info().free_bytes, n, p, sizeof(T)));
  OnceSink once(sink, batch.problems.size());
  const Index counted = control.counted();
  for (;;) {
    if (n_slots < wanted) {
      control.note_device(std::to_string(n_slots) + " of " + std::to_string(wanted) +
                          " problems at a time (memory)");
    }
    try {
      ChunkSolver<T>(batch, device.proximal_backend(matrix, n, p), n_slots, control, once, 0,
                     n_problems)
          .run();
      return;
    } catch (const Error& error) {
      if (error.code() != Errc::kOutOfMemory || n_slots == 1) throw;
    }
    control.take_back_to(counted);
    n_slots /= 2;
  }
}

template <class T>
void solve_where_asked(const Batch& batch, const T* matrix, const ThreadPool& pool,
                       RunControl& control, FitSink& sink) {
  if (batch.accelerator != nullptr) {
    solve_on_device(batch, matrix, control, sink);
  } else {
    solve_chunks(batch, matrix, pool, control, sink);
  }
}

}  // namespace

void solve_proximal_gradient(const Batch& batch, const ThreadPool& pool, RunControl& control,
                             FitSink& sink) {
  const Columns& columns = batch.columns;
  columns.build_all(pool);
  if (!columns.float_data()) {
    solve_where_asked(batch, columns.matrix(), pool, control, sink);
    return;
  }
  const Index size = columns.n_samples() * columns.n_features();
  std::vector<float> matrix(at(size));
  const Index n = columns.n_samples();
  pool.run(columns.n_features(), [&](Index j, int) {
    const double* from = columns.column(j);
    std::transform(from, from + n, matrix.begin() + j * n,
                   [](double value) { return static_cast<float>(value); });
  });
  solve_where_asked(batch, static_cast<const float*>(matrix.data()), pool, control, sink);
}

}  // namespace thresher
