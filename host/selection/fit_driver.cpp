#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <sstream>

#include "backend/half_panels.hpp"
#include "backend/simd.hpp"
#include "engines/engine.hpp"
#include "engines/ridge_spectrum.hpp"
#include "engines/ridge_system.hpp"
#include "model/memory_sink.hpp"
#include "selection/choose_lambda.hpp"
#include "selection/cost_model.hpp"
#include "selection/device_choice.hpp"
#include "selection/validate.hpp"
#include "setup/certificate.hpp"
#include "thresher/error.hpp"
#include "thresher/fit.hpp"

namespace thresher {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
// The automatic Ridge grid spans this much around the top eigenvalue (design section 3).
constexpr double kRidgeFirst = 10.0;
constexpr double kRidgeLast = 1e-10;
// The end of extended grids. Where a fold has fewer directions than the data, or rows come twice,
// eigenvalues of X'X are rounding alone, and at smaller lambdas so are coefficients: held-out
// errors came out 1e9 times too large, or less than the least.
constexpr double kRidgeFloor = 1e-12;
constexpr double kLambdaMaxRounding = 256 * std::numeric_limits<double>::epsilon();

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// The fits of one (response, l1_ratio, fold) path as they arrive.
struct PathFits {
  std::vector<Fit> fits;
};

class Collector final : public FitSink {
 public:
  Collector(std::size_t n_problems, const std::vector<Problem>& problems,
            std::optional<double> early_stop, bool keep_fold_end)
      : paths_(n_problems),
        problems_(problems),
        early_stop_(early_stop),
        keep_fold_end_(keep_fold_end) {}

  bool take(Index problem, Index lambda_index, Fit&& fit) override {
    PathFits& path = paths_[at(problem)];
    const Problem& given = problems_[at(problem)];
    const bool last = lambda_index + 1 == static_cast<Index>(given.lambda.size());
    // A fold's coefficients are needed only to go on from where an extended grid begins.
    if (given.fold >= 0 && !(last && keep_fold_end_)) {
      fit.coef.clear();
      fit.coef.shrink_to_fit();
    }
    const bool stop = early_stop_ && given.fold < 0 && fit.deviance > *early_stop_;
    path.fits.push_back(std::move(fit));
    return !stop;
  }

  std::vector<Fit>& fits(std::size_t problem) { return paths_[problem].fits; }

 private:
  std::vector<PathFits> paths_;
  const std::vector<Problem>& problems_;
  std::optional<double> early_stop_;
  bool keep_fold_end_;
};

/// All state of one call.
class Call {
 public:
  Call(std::string function, const Data& data, const Options& options, const CvOptions* cv,
       bool results_in_memory, Observer* observer)
      : function_(std::move(function)),
        data_(data),
        options_(options),
        cv_(cv),
        pool_(options.threads),
        control_(options, options.tol.value_or(default_tol(data.X)), observer) {
    validate(function_, data, options);
    if (cv == nullptr && options.keep_chosen) {
      throw Error(Errc::kInvalidArgument,
                  function_ + ": keep_chosen must come with cross-validation, got a plain path");
    }
    if (cv != nullptr) {
      fold_ = checked_folds(function_, data, *cv);
      n_folds_ = *std::max_element(fold_.begin(), fold_.end()) + 1;
    }
    shape_.n_samples = rows(data.X);
    shape_.n_features = cols(data.X);
    shape_.n_responses = cols(data.Y);
    shape_.n_l1_ratios = static_cast<Index>(options.l1_ratio.size());
    shape_.n_lambdas = options.lambda_grid.empty() ? options.n_lambdas : options.lambda_grid.cols;
    shape_.n_folds = n_folds_;
    shape_.own_weights = !data.response_weight.empty() || data.missing_responses;
    shape_.predictions = cv != nullptr && cv->predictions;
    shape_.may_extend = cv != nullptr && options.lambda_grid.empty();
    shape_.results_in_memory = results_in_memory;
    shape_.row_major = std::visit([](const auto& m) { return m.row_stride != 1; }, data.X);
    shape_.float_data = is_float(data.X);
    const auto is_ridge = [](double ratio) { return ratio == 0.0; };
    shape_.any_ridge = std::any_of(options.l1_ratio.begin(), options.l1_ratio.end(), is_ridge);
    shape_.largest_l1_ratio = *std::max_element(options.l1_ratio.begin(), options.l1_ratio.end());
    shape_.smallest_l1_ratio = shape_.largest_l1_ratio;
    for (const double ratio : options.l1_ratio) {
      if (ratio > 0.0) shape_.smallest_l1_ratio = std::min(shape_.smallest_l1_ratio, ratio);
    }
    choose_where();
  }

  Plan plan() const {
    Plan out;
    out.bytes = plan_.bytes();
    out.limit = plan_.limit;
    out.responses_per_tile = plan_.responses_per_tile;
    out.n_tiles = plan_.n_tiles;
    out.n_fits = n_fits();
    out.engine = plan_.engine;
    out.mode = plan_.mode;
    out.threads = plan_.threads;
    out.device = device_.accelerator ? Device::kCuda : Device::kCpu;
    out.device_name = device_.name;
    out.device_note = device_.note;
    out.seconds = plan_.seconds;
    return out;
  }

  RunStats run(ModelSink& sink) {
    set_up();
    note_device();
    sink.begin(header());
    control_.set_total(n_fits());
    for (Index first = 0; first < shape_.n_responses; first += plan_.responses_per_tile) {
      if (control_.interruption() != Status::kConverged) break;
      const Index last = std::min(shape_.n_responses, first + plan_.responses_per_tile);
      run_tile(first, last, sink);
      ++stats_.n_tiles;
    }
    stats_.interrupted = control_.interruption() != Status::kConverged;
    stats_.threads = pool_.n_threads();
    stats_.planned_bytes = plan_.bytes();
    stats_.solve_seconds = control_.seconds();
    note_device();
    sink.amend(metadata());
    return stats_;
  }

 private:
  /// Device and plan. With device auto the plan leaves room for what the CPU needs, in case the
  /// device is given up.
  void choose_where() {
    const int threads = pool_.n_threads();
    if (options_.device != Device::kCuda) plan_ = plan_call(shape_, options_, threads);
    cpu_panels_ = plan_.half_panels;
    cpu_columns_ = plan_.build_columns;
    device_ = choose_device(function_, options_, plan_.core_seconds);
    if (!device_.accelerator) return;
    shape_.on_device = true;
    const CallPlan there = plan_call(shape_, options_, threads);
    if (options_.device == Device::kCuda) {
      plan_ = there;
    } else {
      plan_.half_panels = there.half_panels;
      plan_.build_columns = there.build_columns;
    }
  }

  void note_device() {
    stats_.device = device_.accelerator ? Device::kCuda : Device::kCpu;
    stats_.device_name = device_.name;
    stats_.device_note = device_.note;
    const std::string rung = control_.device_note();
    if (device_.accelerator && !rung.empty()) stats_.device_note = "cuda: " + rung;
  }

  Index n_fits() const {
    return shape_.n_responses * shape_.n_l1_ratios * (1 + n_folds_) * shape_.n_lambdas;
  }

  double row_weight(Index i) const {
    return data_.sample_weight.empty() ? 1.0 : data_.sample_weight[at(i)];
  }

  void set_up() {
    const Index n = shape_.n_samples;
    std::vector<std::uint8_t> counts;
    for (Index i = 0; i < n; ++i) {
      if (row_weight(i) == 0.0 && counts.empty()) counts.assign(at(n), 1);
      if (row_weight(i) == 0.0) counts[at(i)] = 0;
    }
    Columns::Visitor visit;
    if (plan_.half_panels) {
      panels_ = std::make_unique<HalfPanels>(n, shape_.n_features);
      visit = [this](Index j, const double* x) { panels_->set_column(j, x); };
    }
    columns_ = std::make_unique<Columns>(data_.X, options_.intercept, counts, pool_,
                                         plan_.build_columns, visit);
    if (!shape_.own_weights) {
      std::vector<double> base(at(n));
      for (Index i = 0; i < n; ++i) base[at(i)] = row_weight(i);
      shared_weightings_ = weightings_of(base);
      shared_penalties_ = penalties_of(shared_weightings_);
    }
    stats_.setup_seconds = control_.seconds();
  }

  /// All rows first, then each fold's training rows.
  std::vector<std::shared_ptr<const RowWeighting>> weightings_of(
      const std::vector<double>& base) const {
    std::vector<std::vector<double>> weights = {base};
    for (Index k = 0; k < n_folds_; ++k) {
      weights.push_back(base);
      for (std::size_t i = 0; i < base.size(); ++i) {
        if (fold_[i] == k) weights.back()[i] = 0.0;
      }
    }
    return make_row_weightings(*columns_, weights, pool_);
  }

  std::vector<std::shared_ptr<const Penalties>> penalties_of(
      const std::vector<std::shared_ptr<const RowWeighting>>& weightings) const {
    std::vector<std::shared_ptr<const Penalties>> out(weightings.size());
    pool_.run(static_cast<Index>(weightings.size()), [&](Index k, int) {
      out[at(k)] = make_penalties(data_, options_, *columns_, *weightings[at(k)]);
    });
    return out;
  }

  ModelHeader header() const {
    ModelHeader out;
    out.n_samples = shape_.n_samples;
    out.n_features = shape_.n_features;
    out.n_responses = shape_.n_responses;
    out.n_l1_ratios = shape_.n_l1_ratios;
    out.n_folds = n_folds_;
    out.l1_ratio = options_.l1_ratio;
    out.metadata = metadata();
    return out;
  }

  std::map<std::string, std::string> metadata() const {
    std::map<std::string, std::string> m;
    const auto number = [](double value) {
      std::ostringstream text;
      text.precision(17);
      text << value;
      return text.str();
    };
    m["engine"] = name(options_.engine);
    m["mode"] = name(plan_.mode);
    m["device"] = name(stats_.device);
    if (!stats_.device_name.empty()) m["device_name"] = stats_.device_name;
    if (!stats_.device_note.empty()) m["device_note"] = stats_.device_note;
    m["tol"] = number(control_.tol());
    m["intercept"] = options_.intercept ? "true" : "false";
    m["standardize"] = options_.standardize ? "true" : "false";
    m["dropout_rate"] = number(options_.dropout_rate);
    m["lambda_grid"] = options_.lambda_grid.empty() ? "automatic" : "given";
    m["early_stop"] =
        cv_ == nullptr && options_.early_stop ? number(*options_.early_stop) : std::string("off");
    if (cv_ != nullptr) {
      m["folds"] = std::to_string(n_folds_);
      m["seed"] = cv_->fold_id.empty() ? std::to_string(cv_->seed) : std::string("folds given");
      m["keep"] = options_.keep_chosen ? "chosen" : "path";
    }
    return m;
  }

  /// Everything a tile's response needs until it is handed over.
  struct TileResponse {
    Index response = 0;
    std::vector<double> base_weight;  // (n) sample weight * response weight, 0 where missing
    std::shared_ptr<const Response> y;
    std::vector<std::shared_ptr<const RowWeighting>> weightings;
    std::vector<std::shared_ptr<const Penalties>> penalties;
    std::vector<double> fold_weight;  // (K)
    // [A]: grids, and fits of all rows and of each fold, [A][1 + K].
    std::vector<std::vector<double>> grid;
    std::vector<std::vector<std::vector<Fit>>> fits;
  };

  Problem make_problem(const TileResponse& tile, Index ratio, Index fold) const {
    Problem problem;
    problem.response = tile.response;
    problem.l1_ratio_index = ratio;
    problem.l1_ratio = options_.l1_ratio[at(ratio)];
    problem.intercept = options_.intercept;
    problem.fold = fold;
    problem.rows = tile.weightings[at(fold + 1)];
    problem.penalties = tile.penalties[at(fold + 1)];
    problem.y = tile.y;
    if (fold >= 0) {
      for (Index i = 0; i < shape_.n_samples; ++i) {
        if (fold_[at(i)] != fold) continue;
        problem.held_out.push_back(i);
        problem.held_out_weight.push_back(tile.base_weight[at(i)]);
      }
    }
    finish_problem(*columns_, problem);
    return problem;
  }

  std::vector<double> automatic_grid(const Problem& problem) {
    const Index n_lambdas = options_.n_lambdas;
    if (problem.l1_ratio == 0.0) {
      const double top = top_eigenvalue(problem);
      if (!(top > 0.0)) return log_grid(1.0, kRidgeLast / kRidgeFirst, n_lambdas);
      const double ratio = options_.lambda_min_ratio.value_or(kRidgeLast / kRidgeFirst);
      return log_grid(kRidgeFirst * top, ratio, n_lambdas);
    }
    const double ratio = options_.lambda_min_ratio.value_or(
        default_lambda_min_ratio(static_cast<Index>(problem.rows->rows.size()), shape_.n_features));
    double first = lambda_max_by_panels(problem);
    if (!(first > 0.0)) first = 1.0;
    // Rounded up by more than the sums behind it can be off, so that zero is the answer there.
    first *= 1.0 + kLambdaMaxRounding;
    return log_grid(first, ratio, n_lambdas);
  }

  double top_eigenvalue(const Problem& problem) {
    const std::lock_guard lock(top_mutex_);
    for (const auto& [rows, value] : top_eigenvalues_) {
      if (rows == problem.rows) return value;
    }
    const double value = ridge_top_eigenvalue(*columns_, problem);
    top_eigenvalues_.emplace_back(problem.rows, value);
    return value;
  }

  /// lambda_max with most features ruled out by their half-precision bound.
  double lambda_max_by_panels(const Problem& problem) const {
    if (!panels_ || problem.negligible || !problem.rows->direct.empty()) {
      return lambda_max(*columns_, problem);
    }
    const RowWeighting& rows = *problem.rows;
    const Index n = shape_.n_samples;
    std::vector<double> q = unexplained_response(*columns_, problem);
    double largest_z = 0.0;
    for (Index i = 0; i < n; ++i) {
      q[at(i)] *= rows.weight[at(i)];
      largest_z = std::max(largest_z, std::fabs(q[at(i)]));
    }
    int exponent = 0;
    if (largest_z > 0.0) std::frexp(largest_z, &exponent);
    std::vector<float> z(at(n)), c(at(panels_->padded_features()));
    for (Index i = 0; i < n; ++i) {
      z[at(i)] = static_cast<float>(std::ldexp(q[at(i)], -exponent));
    }
    panels_->correlate(1, z.data(), c.data());
    const double norm = std::sqrt(simd().dot(n, q.data(), q.data())) * (1.0 + 1e-12);
    const double unit = std::ldexp(1.0, exponent);
    const Penalties& factors = *problem.penalties;
    const auto bounds = [&](Index j, double sign) {
      const double c_j = std::fabs(static_cast<double>(c[at(j)])) * unit;
      return (c_j + sign * static_cast<double>(panels_->slack()[j]) * norm) / factors.l1[at(j)];
    };
    double surely = 0.0;
    for (Index j = 0; j < shape_.n_features; ++j) {
      if (factors.excluded[at(j)] || factors.l1[at(j)] == 0.0) continue;
      surely = std::max(surely, bounds(j, -1.0));
    }
    double largest = 0.0;
    for (Index j = 0; j < shape_.n_features; ++j) {
      if (factors.excluded[at(j)] || factors.l1[at(j)] == 0.0) continue;
      if (bounds(j, 1.0) < surely) continue;
      const double g = simd().dot(n, columns_->column(j), q.data());
      largest = std::max(largest, std::fabs(g) / (problem.l1_ratio * factors.l1[at(j)]));
    }
    return std::ldexp(largest, problem.y->exponent);
  }

  TileResponse make_tile_response(Index r) {
    const Index n = shape_.n_samples;
    TileResponse out;
    out.response = r;
    out.base_weight.resize(at(n));
    std::vector<double> y(at(n));
    for (Index i = 0; i < n; ++i) {
      y[at(i)] = element(data_.Y, i, r);
      double w = row_weight(i);
      if (!data_.response_weight.empty()) w *= data_.response_weight(i, r);
      if (std::isnan(y[at(i)])) {
        y[at(i)] = 0.0;  // 0 * NaN is NaN
        w = 0.0;
      }
      out.base_weight[at(i)] = w;
    }
    out.y = std::make_shared<Response>(make_response(y, out.base_weight, options_.intercept));
    out.fold_weight.assign(at(n_folds_), 0.0);
    for (Index i = 0; i < n && n_folds_ > 0; ++i) {
      out.fold_weight[at(fold_[at(i)])] += out.base_weight[at(i)];
    }
    return out;
  }

  void run_tile(Index first, Index last, ModelSink& sink) {
    std::vector<TileResponse> tile(at(last - first));
    pool_.run(last - first, [&](Index t, int) { tile[at(t)] = make_tile_response(first + t); });
    for (TileResponse& response : tile) {
      if (shape_.own_weights) {
        response.weightings = weightings_of(response.base_weight);
        response.penalties = penalties_of(response.weightings);
      } else {
        response.weightings = shared_weightings_;
        response.penalties = shared_penalties_;
      }
    }

    // The full-data problem of each response and l1_ratio gives the grid of its folds.
    const Index n_paths = (last - first) * shape_.n_l1_ratios;
    std::vector<Problem> whole(at(n_paths));
    pool_.run(n_paths, [&](Index path, int) {
      TileResponse& response = tile[at(path / shape_.n_l1_ratios)];
      const Index ratio = path % shape_.n_l1_ratios;
      Problem& problem = whole[at(path)];
      problem = make_problem(response, ratio, -1);
      if (options_.lambda_grid.empty()) {
        problem.lambda = automatic_grid(problem);
      } else {
        const Index row = options_.lambda_grid.rows == 1 ? 0 : response.response;
        for (Index l = 0; l < options_.lambda_grid.cols; ++l) {
          problem.lambda.push_back(options_.lambda_grid(row, l));
        }
      }
      set_start(problem);
    });
    const bool may_extend = n_folds_ > 0 && options_.lambda_grid.empty();
    for (TileResponse& response : tile) {
      response.grid.resize(at(shape_.n_l1_ratios));
      response.fits.resize(at(shape_.n_l1_ratios));
      for (std::vector<std::vector<Fit>>& paths : response.fits) paths.resize(at(1 + n_folds_));
    }
    // What a response keeps is settled by its folds. Ridge solves them first, and then need not
    // form the other coefficients.
    const bool folds_first =
        n_folds_ > 0 &&
        std::all_of(options_.l1_ratio.begin(), options_.l1_ratio.end(),
                    [&](double a) { return engine_for(shape_, options_, a) == Engine::kRidge; });
    const Index begin = folds_first ? 0 : -1;
    const Index members = n_folds_ - begin;
    std::vector<Problem> problems(at(n_paths * members));
    pool_.run(n_paths, [&](Index path, int) {
      const Index ratio = path % shape_.n_l1_ratios;
      TileResponse& response = tile[at(path / shape_.n_l1_ratios)];
      response.grid[at(ratio)] = whole[at(path)].lambda;
      for (Index k = 0; k < n_folds_; ++k) {
        Problem& fold = problems[at(path * members + k - begin)];
        fold = make_problem(response, ratio, k);
        fold.lambda = whole[at(path)].lambda;
        fold.keep_coef = false;
        fold.keep_last_coef = may_extend;
      }
      if (!folds_first) problems[at(path * members)] = std::move(whole[at(path)]);
    });
    solve(problems, may_extend, tile, first);

    std::vector<ResponseResult> results(tile.size());
    const auto combine_all = [&] {
      pool_.run(static_cast<Index>(tile.size()),
                [&](Index t, int) { results[at(t)] = combine(tile[at(t)]); });
    };
    combine_all();
    if (may_extend && control_.interruption() == Status::kConverged) {
      extend(tile, first, begin, results);
    }
    if (folds_first) {
      for (Index path = 0; path < n_paths; ++path) {
        Problem& problem = whole[at(path)];
        const std::size_t t = at(path / shape_.n_l1_ratios);
        problem.lambda = tile[t].grid[at(problem.l1_ratio_index)];
        if (!options_.keep_chosen) continue;
        for (const Index* chosen : {results[t].best, results[t].one_se}) {
          if (chosen[0] == problem.l1_ratio_index) problem.keep_only.push_back(chosen[1]);
        }
      }
      solve(whole, false, tile, first);
      combine_all();
    }
    for (std::size_t t = 0; t < tile.size(); ++t) {
      count(tile[t]);
      if (interrupted(tile[t])) continue;
      sink.take(finished(tile[t], std::move(results[t])));
    }
  }

  /// A response whose paths were cut by a limit of the whole call is not handed over, unless some
  /// of it was computed and it is a plain path.
  bool interrupted(const TileResponse& response) const {
    if (control_.interruption() == Status::kConverged) return false;
    for (const auto& ratio : response.fits) {
      for (std::size_t k = 0; k < ratio.size(); ++k) {
        const bool cut = ratio[k].empty() || ratio[k].back().status == Status::kCancelled ||
                         ratio[k].back().status == Status::kTimeLimit;
        if (cut && (n_folds_ > 0 || ratio[k].empty())) return true;
      }
    }
    return false;
  }

  void set_start(Problem& problem) const {
    if (options_.warm_start.empty()) return;
    for (Index j = 0; j < shape_.n_features; ++j) {
      const double b = options_.warm_start(j, problem.response);
      if (b == 0.0 || problem.excluded(j)) continue;
      problem.start.emplace_back(j, std::ldexp(b, columns_->exponent(j) - problem.y->exponent));
    }
  }

  void solve(const std::vector<Problem>& problems, bool keep_fold_end,
             std::vector<TileResponse>& tile, Index first) {
    // Problems by the engine that solves them; each engine gets its share as one batch.
    std::vector<std::pair<Engine, std::vector<Problem>>> shares;
    for (const Problem& problem : problems) {
      const Engine engine = engine_for(shape_, options_, problem.l1_ratio);
      const auto share = std::find_if(shares.begin(), shares.end(),
                                      [&](const auto& s) { return s.first == engine; });
      (share == shares.end() ? shares.emplace_back(engine, std::vector<Problem>()) : *share)
          .second.push_back(problem);
    }
    for (const auto& [engine, share] : shares) {
      Collector collector = solve_share(engine, share, keep_fold_end);
      for (std::size_t i = 0; i < share.size(); ++i) {
        const Problem& problem = share[i];
        TileResponse& response = tile[at(problem.response - first)];
        std::vector<Fit>& fits = response.fits[at(problem.l1_ratio_index)][at(problem.fold + 1)];
        std::vector<Fit>& fresh = collector.fits(i);
        std::move(fresh.begin(), fresh.end(), std::back_inserter(fits));
      }
    }
  }

  /// On the device while there is one; what it fails at is solved again on the CPU.
  Collector solve_share(Engine engine, const std::vector<Problem>& share, bool keep_fold_end) {
    const auto fresh = [&] {
      return Collector(share.size(), share,
                       cv_ == nullptr ? options_.early_stop : std::optional<double>(),
                       keep_fold_end);
    };
    if (device_.accelerator && engine != Engine::kReference) {
      const Index counted = control_.counted();
      try {
        Collector collector = fresh();
        run_engine(engine, share, device_.accelerator.get(), collector);
        return collector;
      } catch (const Error& error) {
        if (error.code() != Errc::kOutOfMemory && error.code() != Errc::kDevice) throw;
        give_up_device(error, counted);
      }
      control_.take_back_to(counted);
    }
    Collector collector = fresh();
    run_engine(engine, share, nullptr, collector);
    return collector;
  }

  void run_engine(Engine engine, const std::vector<Problem>& share, Accelerator* accelerator,
                  Collector& collector) {
    const Batch batch{*columns_,
                      share,
                      options_,
                      shape_.predictions,
                      panels_.get(),
                      accelerator,
                      accelerator == nullptr ? &products_ : nullptr,
                      plan_.gram_grows};
    switch (engine) {
      case Engine::kRidge:
        solve_ridge(batch, pool_, control_, collector);
        break;
      case Engine::kProximalGradient:
        solve_proximal_gradient(batch, pool_, control_, collector);
        break;
      case Engine::kReference:
        solve_reference(batch, pool_, control_, collector);
        break;
      default:
        solve_active_set(batch, plan_.mode, pool_, control_, collector);
    }
  }

  /// The last rung: the CPU for the rest of the call or, if the caller insists on the device, an
  /// error that says what failed.
  void give_up_device(const Error& error, Index fits_before) {
    std::string failure = error.what();
    // A plan that did not fit has said what is free; a failed allocation knows of itself alone.
    if (error.code() == Errc::kOutOfMemory && failure.find("free") == std::string::npos) {
      try {
        const AcceleratorInfo info = device_.accelerator->info();
        failure += "; " + std::to_string(info.free_bytes) + " of " +
                   std::to_string(info.total_bytes) + " bytes are free on the device";
      } catch (const Error&) {
        // A device that cannot even say this has nothing to add to the first failure.
      }
    }
    device_.accelerator.reset();
    if (options_.device == Device::kCuda) {
      throw Error(error.code(), function_ + ": device cuda failed: " + failure);
    }
    device_.note = "cuda was given up after " + std::to_string(fits_before) + " of " +
                   std::to_string(n_fits()) + " fits: " + failure;
    if (cpu_panels_ && !panels_) {
      panels_ = std::make_unique<HalfPanels>(shape_.n_samples, shape_.n_features);
      columns_->for_each(pool_, [this](Index j, const double* x) { panels_->set_column(j, x); });
    }
    if (cpu_columns_) columns_->build_all(pool_);
  }

  /// Doubles the grids whose best lambda is their end, for the problems from fold `begin` on.
  void extend(std::vector<TileResponse>& tile, Index first, Index begin,
              std::vector<ResponseResult>& results) {
    std::vector<Problem> more;
    std::vector<std::size_t> extended;
    for (std::size_t t = 0; t < tile.size(); ++t) {
      if (!results[t].boundary || shape_.n_lambdas < 2) continue;
      TileResponse& response = tile[t];
      const Index ratio = results[t].best[0];
      const std::vector<double>& grid = response.grid[at(ratio)];
      const double step = grid.back() / grid[grid.size() - 2];
      const bool is_ridge = options_.l1_ratio[at(ratio)] == 0.0;
      const double floor = is_ridge ? kRidgeFloor / kRidgeFirst * grid.front() : 0.0;
      std::vector<double> next;
      for (std::size_t l = 0; l < grid.size(); ++l) {
        const double lambda = (l == 0 ? grid.back() : next.back()) * step;
        if (is_ridge && lambda < floor) break;
        next.push_back(lambda);
      }
      if (next.empty() || !(next.back() > 0.0)) continue;
      response.grid[at(ratio)].insert(response.grid[at(ratio)].end(), next.begin(), next.end());
      extended_fits_ += (1 + n_folds_) * static_cast<Index>(next.size());
      for (Index k = begin; k < n_folds_; ++k) {
        Problem problem = make_problem(response, ratio, k);
        problem.lambda = next;
        problem.keep_coef = k < 0;
        problem.keep_last_coef = false;
        for (const auto& [j, b] : response.fits[at(ratio)][at(k + 1)].back().coef) {
          problem.start.emplace_back(j, std::ldexp(b, columns_->exponent(j) - problem.y->exponent));
        }
        more.push_back(std::move(problem));
      }
      extended.push_back(t);
    }
    if (more.empty()) return;
    control_.set_total(n_fits() + extended_fits_);
    solve(more, false, tile, first);
    for (const std::size_t t : extended) results[t] = combine(tile[t]);
  }

  /// Scalars of all fits of a response and, with folds, its choice of lambda.
  ResponseResult combine(const TileResponse& response) const {
    ResponseResult out;
    out.response = response.response;
    for (const auto& grid : response.grid) {
      out.n_lambdas = std::max(out.n_lambdas, static_cast<Index>(grid.size()));
    }
    const std::size_t n_lambdas = at(out.n_lambdas);
    const std::size_t n_fits = at(shape_.n_l1_ratios) * n_lambdas;
    const std::size_t n_folds = at(n_folds_);
    out.lambda.assign(n_fits, kNaN);
    out.intercept = out.objective = out.gap = out.deviance = out.lambda;
    out.status.assign(n_fits, static_cast<std::uint8_t>(Status::kNotComputed));
    out.engine.assign(n_fits, 0);
    out.mode.assign(n_fits, 0);
    out.rank_deficient.assign(n_fits, 0);
    out.n_nonzero.assign(n_fits, 0);
    out.iterations.assign(n_fits, 0);
    out.coef_kept.assign(n_fits, 0);
    out.cv_fold_error.assign(n_fits * n_folds, kNaN);
    std::vector<double> fold_train(n_fits * n_folds, kNaN);
    for (std::size_t a = 0; a < response.fits.size(); ++a) {
      for (std::size_t l = 0; l < response.grid[a].size(); ++l) {
        out.lambda[a * n_lambdas + l] = response.grid[a][l];
      }
      const std::vector<Fit>& whole = response.fits[a][0];
      for (std::size_t l = 0; l < whole.size(); ++l) {
        const std::size_t f = a * n_lambdas + l;
        const Fit& fit = whole[l];
        out.status[f] = static_cast<std::uint8_t>(fit.status);
        out.engine[f] = static_cast<std::uint8_t>(fit.engine);
        out.mode[f] = static_cast<std::uint8_t>(fit.mode);
        out.rank_deficient[f] = fit.rank_deficient ? 1 : 0;
        out.intercept[f] = fit.intercept;
        out.objective[f] = fit.objective;
        out.gap[f] = fit.gap;
        out.deviance[f] = fit.deviance;
        out.n_nonzero[f] = fit.n_nonzero;
        out.iterations[f] = fit.iterations;
      }
      for (std::size_t k = 0; k < n_folds; ++k) {
        const std::vector<Fit>& fits = response.fits[a][k + 1];
        for (std::size_t l = 0; l < fits.size(); ++l) {
          const std::size_t f = (a * n_lambdas + l) * n_folds + k;
          out.cv_fold_error[f] = fits[l].held_out_error;
          fold_train[f] = fits[l].train_error;
        }
      }
    }
    if (n_folds == 0) return out;
    choose_lambda(fold_train, response.fold_weight, out);
    const Index best = out.best[0] * out.n_lambdas + out.best[1];
    const Index features = std::max<Index>(out.n_nonzero[at(best)], 0);
    for (Index& n_nonzero : out.n_nonzero) n_nonzero = n_nonzero < 0 ? features : n_nonzero;
    return out;
  }

  /// Adds coefficients and predictions to a combined result.
  ResponseResult finished(TileResponse& response, ResponseResult out) const {
    const std::size_t n_lambdas = at(out.n_lambdas);
    out.coef.resize(out.lambda.size());
    const std::size_t best = at(out.best[0]) * n_lambdas + at(out.best[1]);
    const std::size_t one_se = at(out.one_se[0]) * n_lambdas + at(out.one_se[1]);
    for (std::size_t a = 0; a < response.fits.size(); ++a) {
      std::vector<Fit>& whole = response.fits[a][0];
      for (std::size_t l = 0; l < whole.size(); ++l) {
        const std::size_t f = a * n_lambdas + l;
        if (options_.keep_chosen && f != best && f != one_se) continue;
        out.coef[f] = take_coef(whole[l], shape_.n_features);
        out.coef_kept[f] = 1;
      }
    }
    if (shape_.predictions) {
      out.predictions.assign(at(shape_.n_samples), kNaN);
      for (Index k = 0; k < n_folds_; ++k) {
        const std::vector<Fit>& fits = response.fits[at(out.best[0])][at(k + 1)];
        if (at(out.best[1]) >= fits.size()) continue;
        const std::vector<double>& values = fits[at(out.best[1])].held_out_prediction;
        std::size_t next = 0;
        for (Index i = 0; i < shape_.n_samples && next < values.size(); ++i) {
          if (fold_[at(i)] == k) out.predictions[at(i)] = values[next++];
        }
      }
    }
    return out;
  }

  void count(const TileResponse& response) {
    for (const auto& ratio : response.fits) {
      for (const auto& path : ratio) {
        for (const Fit& fit : path) {
          ++stats_.n_fits;
          if (!is_good(fit.status)) {
            ++stats_.n_not_converged;
          } else {
            stats_.worst_gap = std::max(stats_.worst_gap, fit.gap);
          }
        }
      }
    }
  }

  std::string function_;
  const Data& data_;
  const Options& options_;
  const CvOptions* cv_;
  ThreadPool pool_;
  RunControl control_;
  std::vector<Index> fold_;
  Index n_folds_ = 0;
  Index extended_fits_ = 0;  // on grids that were extended, all tiles
  CallShape shape_;
  CallPlan plan_;
  DeviceChoice device_;
  bool cpu_panels_ = false, cpu_columns_ = false;  // what the CPU's engines want set up
  std::unique_ptr<HalfPanels> panels_;
  std::unique_ptr<Columns> columns_;
  RowProducts products_;  // of columns_, on the CPU
  std::vector<std::shared_ptr<const RowWeighting>> shared_weightings_;
  std::vector<std::shared_ptr<const Penalties>> shared_penalties_;
  std::mutex top_mutex_;
  std::vector<std::pair<std::shared_ptr<const RowWeighting>, double>> top_eigenvalues_;
  RunStats stats_;
};

Model run_in_memory(Call&& call) {
  MemorySink sink;
  const RunStats stats = call.run(sink);
  Model model = sink.finish();
  model.stats = stats;
  return model;
}

}  // namespace

Model fit_path(const Data& data, const Options& options, Observer* observer) {
  return run_in_memory(Call("fit_path", data, options, nullptr, true, observer));
}

RunStats fit_path(const Data& data, const Options& options, ModelSink& sink, Observer* observer) {
  return Call("fit_path", data, options, nullptr, false, observer).run(sink);
}

Model cross_validate(const Data& data, const Options& options, const CvOptions& cv,
                     Observer* observer) {
  return run_in_memory(Call("cross_validate", data, options, &cv, true, observer));
}

RunStats cross_validate(const Data& data, const Options& options, const CvOptions& cv,
                        ModelSink& sink, Observer* observer) {
  return Call("cross_validate", data, options, &cv, false, observer).run(sink);
}

Plan plan_path(const Data& data, const Options& options) {
  return Call("plan_path", data, options, nullptr, true, nullptr).plan();
}

Plan plan_cross_validation(const Data& data, const Options& options, const CvOptions& cv) {
  return Call("plan_cross_validation", data, options, &cv, true, nullptr).plan();
}

}  // namespace thresher
