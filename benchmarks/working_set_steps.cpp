#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>

#include "backend/accelerator.hpp"
#include "backend/cpu_working_set_backend.hpp"
#include "engines/engine.hpp"
#include "setup/certificate.hpp"
#include "step.hpp"

namespace thresher::bench {
namespace {

constexpr double kTol = 1e-9;
constexpr double kLastShare = 0.01;   // the grid ends there, of lambda_max
constexpr Index kGramLookAhead = 32;  // as the engine's

enum : std::size_t { kLoad, kChoose, kSolve, kCorrelate, kCertify, kHarvest, kVerbs };
constexpr std::array<const char*, kVerbs> kVerbNames = {
    "load", "choose_working_sets", "solve_working_sets", "correlate", "certify", "harvest"};

/// What an engine asked of a backend, and the processor time that took.
struct Meter {
  std::array<double, kVerbs> seconds{};
  std::vector<Index> loads;  // problems of each call
  Index n_chosen = 0;        // blocks
  std::vector<std::vector<PathBlock>> rounds;
  Index n_candidates = 0, n_violators = 0, n_harvests = 0;
};

class Stopwatch {
 public:
  explicit Stopwatch(double& total) : total_(total), start_(processor_seconds()) {}
  ~Stopwatch() { total_ += processor_seconds() - start_; }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& total_;
  double start_;
};

/// Hands everything on to `backend`. A spoilt one changes a coefficient of every fit.
class MeteredBackend final : public WorkingSetBackend {
 public:
  MeteredBackend(std::unique_ptr<WorkingSetBackend> backend, Meter& meter, bool spoilt)
      : backend_(std::move(backend)), meter_(meter), spoilt_(spoilt) {}

  Index n_slots() const override { return backend_->n_slots(); }
  Index max_look_ahead(Index slot) const override { return backend_->max_look_ahead(slot); }
  Index first_look_ahead() const override { return backend_->first_look_ahead(); }

  void load(std::span<const Index> slots, std::span<const Problem* const> problems) override {
    meter_.loads.push_back(static_cast<Index>(slots.size()));
    const Stopwatch watch(meter_.seconds[kLoad]);
    backend_->load(slots, problems);
  }
  void choose_working_sets(std::span<const PathBlock> blocks) override {
    meter_.n_chosen += static_cast<Index>(blocks.size());
    const Stopwatch watch(meter_.seconds[kChoose]);
    backend_->choose_working_sets(blocks);
  }
  void solve_working_sets(std::span<const PathBlock> blocks, Index max_iterations) override {
    const Stopwatch watch(meter_.seconds[kSolve]);
    backend_->solve_working_sets(blocks, max_iterations);
  }
  void correlate(std::span<const PathBlock> blocks) override {
    meter_.rounds.emplace_back(blocks.begin(), blocks.end());
    const Stopwatch watch(meter_.seconds[kCorrelate]);
    backend_->correlate(blocks);
  }
  void certify(std::span<const PathBlock> blocks, std::span<CandidateReport> reports) override {
    {
      const Stopwatch watch(meter_.seconds[kCertify]);
      backend_->certify(blocks, reports);
    }
    meter_.n_candidates += static_cast<Index>(reports.size());
    for (const CandidateReport& report : reports) meter_.n_violators += report.n_violators;
  }
  Harvest harvest(Index slot, Index k, bool want_residual) override {
    ++meter_.n_harvests;
    Harvest out;
    {
      const Stopwatch watch(meter_.seconds[kHarvest]);
      out = backend_->harvest(slot, k, want_residual);
    }
    if (spoilt_ && !out.coef.empty()) out.coef.front().second *= 1.1;
    return out;
  }
  void refine(Index slot, Index k) override { backend_->refine(slot, k); }
  void advance(Index slot, Index k) override { backend_->advance(slot, k); }

 private:
  std::unique_ptr<WorkingSetBackend> backend_;
  Meter& meter_;
  bool spoilt_;
};

/// Gives the working-set engine the CPU's backends, metered.
class MeteredAccelerator final : public Accelerator {
 public:
  MeteredAccelerator(const HalfPanels* panels, const Options& options, Meter& meter, bool spoilt)
      : panels_(panels), options_(options), meter_(meter), spoilt_(spoilt) {}

  AcceleratorInfo info() override { return {"the CPU, metered", {}, 0, 0}; }

  std::unique_ptr<WorkingSetBackend> working_set_backend(const WorkingSetTask& task) override {
    std::unique_ptr<WorkingSetBackend> backend;
    if (task.mode == Mode::kGram) {
      grams_ = make_gram_matrices(task.columns, {task.problems.front().rows}, pool_);
      backend = std::make_unique<GramBackend>(task.columns, grams_, pool_, kGramLookAhead, 1e-9);
    } else {
      backend = std::make_unique<ResidualBackend>(task.columns, panels_, task.n_slots,
                                                  options_.look_ahead, options_.proven_skip);
    }
    return std::make_unique<MeteredBackend>(std::move(backend), meter_, spoilt_);
  }
  std::unique_ptr<ProximalBackend<double>> proximal_backend(const double*, Index, Index) override {
    throw std::logic_error("not asked for by the working-set engine");
  }
  std::unique_ptr<ProximalBackend<float>> proximal_backend(const float*, Index, Index) override {
    throw std::logic_error("not asked for by the working-set engine");
  }
  std::unique_ptr<SpectrumBackend> spectrum_backend() override {
    throw std::logic_error("not asked for by the working-set engine");
  }

 private:
  const HalfPanels* panels_;
  const Options& options_;
  Meter& meter_;
  bool spoilt_;
  const ThreadPool pool_{1};
  std::vector<GramMatrix> grams_;
};

class Paths final : public FitSink {
 public:
  explicit Paths(std::size_t n_problems) : fits(n_problems) {}
  bool take(Index problem, Index, Fit&& fit) override {
    fits[at(problem)].push_back(std::move(fit));
    return true;
  }
  std::vector<std::vector<Fit>> fits;  // by problem
};

struct PathShape {
  Mode mode = Mode::kResidual;
  Index n = 0, p = 0, n_problems = 1, n_lambdas = 100, support = 50;
  bool spoilt = false;
};

/// Lasso paths of simulated responses on shared columns.
class PathWorkload {
 public:
  explicit PathWorkload(const PathShape& shape) : shape_(shape), pool_(1), paths_(0) {
    const Index n = shape.n, p = shape.p;
    std::mt19937_64 random(1);
    std::normal_distribution<double> normal;
    X_ = autoregressive_columns(n, p, [&] { return normal(random); });
    // Every candidate is read, none proven from the one before: so correlate's work is known.
    options_.proven_skip = false;
    Data data;
    const auto view = MatrixView<const double>::column_major(X_.data(), n, p);
    data.X = view;
    Columns::Visitor visit;
    if (shape.mode == Mode::kResidual) {
      panels_ = std::make_unique<HalfPanels>(n, p);
      visit = [this](Index j, const double* x) { panels_->set_column(j, x); };
    }
    const std::vector<double> ones(at(n), 1.0);
    columns_ =
        std::make_unique<Columns>(view, true, std::vector<std::uint8_t>{}, pool_, true, visit);
    const auto rows = make_row_weightings(*columns_, {ones}, pool_).front();
    const auto penalties = make_penalties(data, options_, *columns_, *rows);
    for (Index r = 0; r < shape.n_problems; ++r) {
      std::vector<double> y(at(n));
      for (Index k = 0; k < shape.support; ++k) {
        const double* x = X_.data() + (k * (p / shape.support) + r) % p * n;
        for (Index i = 0; i < n; ++i) y[at(i)] += x[i];
      }
      const double noise = std::sqrt(real(shape.support) / 3.0);  // signal to noise: 3
      for (double& v : y) v += noise * normal(random);
      Problem problem;
      problem.response = r;
      problem.rows = rows;
      problem.penalties = penalties;
      problem.y = std::make_shared<Response>(make_response(y, ones, true));
      finish_problem(*columns_, problem);
      problem.lambda = log_grid(lambda_max(*columns_, problem), kLastShare, shape.n_lambdas);
      problems_.push_back(std::move(problem));
    }
  }

  std::vector<Verb> run() {
    meter_ = {};
    paths_ = Paths(problems_.size());
    MeteredAccelerator metered(panels_.get(), options_, meter_, shape_.spoilt);
    RunControl control(options_, kTol, nullptr);
    const Batch batch{*columns_, problems_, options_, false, panels_.get(), &metered};
    solve_active_set(batch, shape_.mode, pool_, control, paths_);
    return shape_.mode == Mode::kGram ? gram_verbs() : residual_verbs();
  }

  /// Every fit's certificate, computed afresh from X, y and the coefficients in double.
  std::string check() const {
    for (std::size_t r = 0; r < problems_.size(); ++r) {
      const Problem& problem = problems_[r];
      const std::vector<Fit>& fits = paths_.fits[r];
      if (fits.size() != problem.lambda.size()) return "fits are missing";
      for (std::size_t l = 0; l < fits.size(); ++l) {
        SparseCoef coef;
        for (const auto& [j, b] : fits[l].coef) {
          coef.emplace_back(j, std::ldexp(b, columns_->exponent(j) - problem.y->exponent));
        }
        const Fit found =
            thresher::certify(*columns_, problem, problem.lambda[l], coef, kTol, false);
        const std::string wrong =
            compare("gap", static_cast<Index>(r * fits.size() + l), found.gap, 0.0, kTol);
        if (!wrong.empty()) return wrong;
      }
    }
    return {};
  }

 private:
  /// A path at one lambda, from its fits.
  struct Support {
    double size = 0.0;     // coefficients that are not 0
    double entered = 0.0;  // of these, 0 at the lambda before
    double so_far = 0.0;   // features that were in some support up to here
  };

  std::vector<Support> supports(std::size_t problem) const {
    std::vector<Support> out;
    std::set<Index> before, all;
    for (const Fit& fit : paths_.fits[problem]) {
      std::set<Index> now;
      for (const auto& entry : fit.coef) now.insert(entry.first);
      all.insert(now.begin(), now.end());
      const auto stayed =
          std::count_if(now.begin(), now.end(), [&](Index j) { return before.count(j) > 0; });
      const auto size = static_cast<Index>(now.size());
      out.push_back({real(size), real(size - stayed), real(static_cast<Index>(all.size()))});
      before.swap(now);
    }
    return out;
  }

  /// X in half precision for `m` right-hand sides.
  void add_pass(Index m, Work& work) const {
    const Index padded = panels_->padded_features();
    work.bytes += 2.0 * real((m + kMaxRightSides - 1) / kMaxRightSides * shape_.n * padded) +
                  4.0 * real((shape_.n + padded) * m);
    work.flops += 2.0 * real(shape_.n) * real(shape_.p) * real(m);
    work.distinct_bytes = 2.0 * real(shape_.n * padded);
    work.single = true;
  }

  std::vector<Verb> verbs(const std::array<Work, kVerbs>& work) const {
    std::vector<Verb> out;
    for (std::size_t v = 0; v < kVerbs; ++v) {
      if (shape_.mode == Mode::kGram && v == kChoose) continue;  // nothing is chosen there
      out.push_back({kVerbNames[v], meter_.seconds[v], work[v]});
    }
    return out;
  }

  /// The factor and the triangular solves of one lambda, and the copy of its coefficients.
  static void add_factor(const Support& at_lambda, Work& solve, Work& harvest) {
    const double k = at_lambda.size;
    solve.flops += at_lambda.entered * k * k + 2.0 * k * k;
    solve.bytes += 8.0 * (at_lambda.entered > 0.0 ? 1.5 : 1.0) * k * k;
    harvest.bytes += 32.0 * k;
  }

  std::vector<Verb> residual_verbs() const {
    const double n = real(shape_.n), p = real(shape_.p);
    std::array<Work, kVerbs> work;
    for (const Index m : meter_.loads) add_pass(m, work[kLoad]);
    for (const std::vector<PathBlock>& blocks : meter_.rounds) {
      Index m = 0;
      for (const PathBlock& block : blocks) m += block.count;
      add_pass(m, work[kCorrelate]);
    }
    // A correlation in single precision and a factor in double for each feature.
    work[kChoose] = {12.0 * p * real(meter_.n_chosen), 0.0, 12.0 * p};
    // The residual's square, and the column of each feature that joined. How many more columns the
    // bounds left open is not reported.
    const double joined = real(meter_.n_violators), candidates = real(meter_.n_candidates);
    work[kCertify] = {16.0 * n * candidates + 8.0 * n * joined, 2.0 * n * (candidates + joined),
                      16.0 * n};
    work[kHarvest] = {16.0 * n * real(meter_.n_harvests), 4.0 * n * real(meter_.n_harvests),
                      16.0 * n};
    // At each lambda: Gram rows of the features that entered, the residual from the coefficients,
    // then the gradients of the support. The gradients of the rest of the working set, and features
    // that came and went within a lambda, are not reported.
    Work& solve = work[kSolve];
    for (std::size_t r = 0; r < problems_.size(); ++r) {
      for (const Support& s : supports(r)) {
        solve.flops += 2.0 * n * s.entered * (s.size - 0.5 * (s.entered - 1.0)) + 4.0 * n * s.size;
        solve.bytes += 8.0 * n * (s.entered > 0.0 ? 3.0 : 2.0) * s.size;
        solve.distinct_bytes = std::max(solve.distinct_bytes, 8.0 * n * s.size);
        add_factor(s, solve, work[kHarvest]);
      }
    }
    return verbs(work);
  }

  std::vector<Verb> gram_verbs() const {
    const double n = real(shape_.n), p = real(shape_.p);
    std::array<Work, kVerbs> work;
    work[kLoad] = {8.0 * n * p, 2.0 * n * p};
    // The residual's square; the scan of all correlations and norms.
    const double candidates = real(meter_.n_candidates);
    work[kCertify] = {16.0 * (n + p) * candidates, 2.0 * n * candidates, 16.0 * (n + p)};
    work[kHarvest] = {32.0 * n * real(meter_.n_harvests), 4.0 * n * real(meter_.n_harvests),
                      32.0 * n};
    // At each lambda the correlations of all features from the rows of the support.
    const std::vector<Support> path = supports(0);
    for (const Support& s : path) {
      work[kSolve].flops += 2.0 * p * s.size;
      work[kSolve].bytes += 8.0 * p * s.size;
      work[kSolve].distinct_bytes = std::max(work[kSolve].distinct_bytes, 8.0 * p * s.size);
      add_factor(s, work[kSolve], work[kHarvest]);
    }
    // Residuals and correlations of the features that were in some support, columns read once.
    for (const std::vector<PathBlock>& blocks : meter_.rounds) {
      const PathBlock& block = blocks.front();
      const double k = path[at(block.first + block.count - 1)].so_far, m = real(block.count);
      work[kCorrelate].flops += 4.0 * n * k * m;
      work[kCorrelate].bytes += 8.0 * n * k;
      work[kCorrelate].distinct_bytes = 8.0 * n * k;
    }
    return verbs(work);
  }

  PathShape shape_;
  ThreadPool pool_;
  std::vector<double> X_;
  Options options_;
  std::unique_ptr<HalfPanels> panels_;
  std::unique_ptr<Columns> columns_;
  std::vector<Problem> problems_;
  Meter meter_;
  Paths paths_;
};

void register_paths(const char* backend, const PathShape& shape, const std::string& name) {
  std::vector<std::string> verbs;
  for (std::size_t v = 0; v < kVerbs; ++v) {
    if (shape.mode == Mode::kGram && v == kChoose) continue;
    verbs.push_back(std::string(backend) + "." + kVerbNames[v]);
  }
  register_workload(name, verbs, [shape] {
    const auto paths = std::make_shared<PathWorkload>(shape);
    return Workload{[paths] { return paths->run(); }, [paths] { return paths->check(); }};
  });
}

}  // namespace

void register_working_set_steps(const Sizes& sizes) {
  PathShape wide;
  wide.n = sizes.of(500, 40);
  wide.p = sizes.of(20000, 150);
  wide.n_lambdas = sizes.of(100, 20);
  wide.support = sizes.of(50, 5);
  for (const Index n_problems : {1, 8}) {
    wide.n_problems = n_problems;
    register_paths("residual_backend", wide,
                   bench::shape(wide.n, wide.p) + "/problems:" + std::to_string(n_problems));
  }
  PathShape tall = wide;
  tall.mode = Mode::kGram;
  tall.n = sizes.of(5000, 200);
  tall.p = sizes.of(500, 30);
  tall.n_problems = 1;
  register_paths("gram_backend", tall, bench::shape(tall.n, tall.p));
}

void register_spoilt_path() {
  PathShape path;
  path.n = 40;
  path.p = 150;
  path.n_lambdas = 10;
  path.support = 5;
  path.spoilt = true;
  register_paths("wrong_on_purpose", path, bench::shape(path.n, path.p));
}

}  // namespace thresher::bench
