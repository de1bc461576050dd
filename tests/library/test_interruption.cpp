// A call that is cancelled or out of time returns what it has, marked as what it is.

#include <atomic>
#include <chrono>
#include <thread>

#include "library_case.hpp"
#include "setup/run_control.hpp"

namespace thresher::testing_library {
namespace {

/// Cancels once `fits` fits were reported done, or at a poll.
class Watcher final : public Observer {
 public:
  explicit Watcher(Index cancel_after) : cancel_after_(cancel_after) {}

  void progress(const Progress& state) override {
    const bool alone = !inside_.exchange(true);
    overlapped = overlapped || !alone;
    ++calls;
    ordered = ordered && state.fits_done >= last.fits_done;
    last = state;
    inside_ = false;
  }
  bool cancelled() override {
    const Index polls = ++polls_;
    return cancel_after_ >= 0 && polls > cancel_after_;
  }

  Index polls() const { return polls_; }

  Progress last;
  int calls = 0;
  bool ordered = true;
  bool overlapped = false;

 private:
  Index cancel_after_;
  std::atomic<Index> polls_{0};
  std::atomic<bool> inside_{false};
};

struct Setting {
  const char* name;
  Engine engine;
  Mode mode;
  double l1_ratio;
};

std::ostream& operator<<(std::ostream& out, const Setting& setting) { return out << setting.name; }

Options options_of(const Setting& setting) {
  Options options;
  options.engine = setting.engine;
  options.mode = setting.mode;
  options.l1_ratio = {setting.l1_ratio};
  options.n_lambdas = 30;
  options.early_stop.reset();
  options.tol = 1e-12;
  options.threads = 1;
  return options;
}

class Interruption : public testing::TestWithParam<Setting> {};

/// Every fit is either the one of an undisturbed run or says why it is not there.
void expect_valid_part(const Table& table, const Model& model, const Model& whole, Status reason) {
  ASSERT_EQ(model.n_responses, whole.n_responses);
  for (Index r = 0; r < model.n_responses; ++r) {
    double mean = 0.0, null_loss = 0.0;
    for (Index i = 0; i < table.n; ++i) mean += table.y(i, r) / static_cast<double>(table.n);
    for (Index i = 0; i < table.n; ++i) {
      const double y = table.y(i, r) - mean;
      null_loss += 0.5 * y * y / static_cast<double>(table.n);
    }
    for (Index l = 0; l < model.n_lambdas; ++l) {
      SCOPED_TRACE("response " + std::to_string(r) + " lambda " + std::to_string(l));
      const Index f = model.fit(r, 0, l), g = whole.fit(r, 0, l);
      if (is_good(status(model, f))) {
        EXPECT_EQ(model.lambda[at(f)], whole.lambda[at(g)]);
        EXPECT_NEAR(model.objective[at(f)], whole.objective[at(g)], 1e-11 * null_loss);
        const std::vector<double> a = coefficients(model, f), b = coefficients(whole, g);
        for (std::size_t j = 0; j < a.size(); ++j) EXPECT_NEAR(a[j], b[j], 1e-5);
        EXPECT_LE(model.gap[at(f)], 1e-11);
      } else {
        EXPECT_TRUE(status(model, f) == reason || status(model, f) == Status::kNotComputed)
            << name(status(model, f));
        // The fit that was at hand may show how far it came; its gap must not flatter it.
        if (status(model, f) == reason && !std::isnan(model.objective[at(f)])) {
          const double above = model.objective[at(f)] - whole.objective[at(g)];
          EXPECT_LE(above, (model.gap[at(f)] + 1e-11) * null_loss);
          continue;
        }
        EXPECT_TRUE(std::isnan(model.objective[at(f)]));
        EXPECT_EQ(model.coef_indptr[at(f)], model.coef_indptr[at(f + 1)]);
      }
    }
  }
}

TEST_P(Interruption, ProgressIsReportedToTheEnd) {
  const Table table(40, 12, 4);
  Options options = options_of(GetParam());
  options.threads = 3;
  Watcher watcher(-1);
  const Model model = fit_path(table.data(), options, &watcher);
  EXPECT_GE(watcher.calls, 1);
  EXPECT_TRUE(watcher.ordered);
  EXPECT_FALSE(watcher.overlapped);
  EXPECT_GT(watcher.polls(), 0);
  EXPECT_EQ(watcher.last.fits_total, 4 * 30);
  EXPECT_EQ(model.stats.n_fits, 4 * 30);
  EXPECT_GT(watcher.last.seconds, 0.0);
  EXPECT_FALSE(model.stats.interrupted);
  // Watching changes no bit.
  expect_same_model(model, fit_path(table.data(), options), "without an observer");
}

TEST_P(Interruption, ProgressEndsAtTheTotal) {
  const Table table(40, 12, 4);
  Watcher watcher(-1);
  cross_validate(table.data(), options_of(GetParam()), {}, &watcher);
  EXPECT_EQ(watcher.last.fits_done, watcher.last.fits_total);
  EXPECT_GE(watcher.last.fits_total, 4 * 11 * 30);
}

TEST_P(Interruption, CancelledBeforeItBegins) {
  const Table table(40, 12, 4);
  Watcher watcher(0);
  const Model model = fit_path(table.data(), options_of(GetParam()), &watcher);
  EXPECT_TRUE(model.stats.interrupted);
  EXPECT_EQ(model.n_responses, 4);
  ASSERT_EQ(model.status.size(), at(4 * model.n_lambdas));
  for (Index f = 0; f < 4 * model.n_lambdas; ++f) {
    EXPECT_TRUE(status(model, f) == Status::kNotComputed || status(model, f) == Status::kCancelled);
  }
  EXPECT_TRUE(model.coef_values.empty());
}

TEST_P(Interruption, CancelledHalfwayKeepsWhatIsFinished) {
  const Table table(40, 12, 4);
  Options options = options_of(GetParam());
  const Model whole = fit_path(table.data(), options);
  Watcher counter(-1);
  fit_path(table.data(), options, &counter);
  for (const Index part : {1, 2, 3}) {
    Watcher watcher(counter.polls() * part / 4);
    const Model model = fit_path(table.data(), options, &watcher);
    EXPECT_TRUE(model.stats.interrupted);
    expect_valid_part(table, model, whole, Status::kCancelled);
    // Later polls come when all is solved and only to be handed over.
    if (part == 1) {
      EXPECT_LT(model.stats.n_fits - model.stats.n_not_converged, 4 * 30);
    }
  }
}

/// With one response to a tile, earlier tiles are complete and handed over.
TEST_P(Interruption, FinishedTilesStay) {
  const Table table(40, 12, 4);
  Options options = options_of(GetParam());
  const Model whole = cross_validate(table.data(), options);
  // The tightest limit that one response fits.
  std::size_t low = 0, high = plan_cross_validation(table.data(), options).bytes;
  while (low + 1 < high) {
    const std::size_t middle = low + (high - low) / 2;
    options.max_memory = middle;
    try {
      plan_cross_validation(table.data(), options);
      high = middle;
    } catch (const Error&) {
      low = middle;
    }
  }
  options.max_memory = high;
  ASSERT_EQ(plan_cross_validation(table.data(), options).responses_per_tile, 1);
  Watcher counter(-1);
  cross_validate(table.data(), options, {}, &counter);
  Watcher watcher(counter.polls() * 3 / 4);
  const Model model = cross_validate(table.data(), options, {}, &watcher);
  EXPECT_TRUE(model.stats.interrupted);
  EXPECT_GE(model.stats.n_tiles, 2);
  EXPECT_LE(model.stats.n_tiles, 4);
  expect_valid_part(table, model, whole, Status::kCancelled);
  ASSERT_TRUE(model.cv);
  ASSERT_EQ(model.cv->error.size(), at(4 * model.n_lambdas));
  EXPECT_EQ(model.cv->best[1], whole.cv->best[1]);
  for (Index l = 0; l < 30; ++l) {
    EXPECT_TRUE(is_good(status(model, model.fit(0, 0, l))));
    EXPECT_NEAR(model.cv->error[at(model.fit(0, 0, l))] / whole.cv->error[at(whole.fit(0, 0, l))],
                1.0, 1e-5);
    EXPECT_TRUE(std::isnan(model.cv->error[at(model.fit(3, 0, l))]));
    EXPECT_EQ(status(model, model.fit(3, 0, l)), Status::kNotComputed);
  }
}

TEST_P(Interruption, TimeLimitEndsTheCallSoon) {
  const Table table(40, 12, 4);
  Options options = options_of(GetParam());
  const Model whole = fit_path(table.data(), options);
  options.time_limit = 1e-9;
  const Model none = fit_path(table.data(), options);
  EXPECT_TRUE(none.stats.interrupted);
  EXPECT_TRUE(none.coef_values.empty());
  for (Index f = 0; f < 4 * none.n_lambdas; ++f) {
    EXPECT_TRUE(status(none, f) == Status::kNotComputed || status(none, f) == Status::kTimeLimit);
  }
  options.time_limit = 1e9;
  const Model all = fit_path(table.data(), options);
  EXPECT_FALSE(all.stats.interrupted);
  expect_same_model(all, whole, "a limit that is not reached");
}

/// The limit passes while the observer holds up the run: no clock decides what is finished.
TEST_P(Interruption, TimeLimitHalfwayKeepsWhatIsFinished) {
  class Sleeper final : public Observer {
   public:
    explicit Sleeper(Index when) : when_(when) {}
    bool cancelled() override {
      if (++polls_ == when_) std::this_thread::sleep_for(std::chrono::milliseconds(1200));
      return false;
    }

   private:
    Index when_;
    std::atomic<Index> polls_{0};
  };
  const Table table(40, 12, 4);
  Options options = options_of(GetParam());
  const Model whole = fit_path(table.data(), options);
  Watcher counter(-1);
  fit_path(table.data(), options, &counter);
  Sleeper sleeper(std::max<Index>(1, counter.polls() / 2));
  options.time_limit = 1.0;
  const Model model = fit_path(table.data(), options, &sleeper);
  EXPECT_TRUE(model.stats.interrupted);
  expect_valid_part(table, model, whole, Status::kTimeLimit);
}

INSTANTIATE_TEST_SUITE_P(
    Engines, Interruption,
    testing::Values(Setting{"residual", Engine::kActiveSet, Mode::kResidual, 1.0},
                    Setting{"gram", Engine::kActiveSet, Mode::kGram, 0.7},
                    Setting{"proximal", Engine::kProximalGradient, Mode::kAuto, 0.6},
                    Setting{"ridge", Engine::kRidge, Mode::kAuto, 0.0},
                    Setting{"reference", Engine::kReference, Mode::kAuto, 0.8}),
    [](const auto& one) { return std::string(one.param.name); });

/// Several threads poll and report; for the thread sanitizer too.
TEST(InterruptionThreads, CancelledFromAnotherThread) {
  class Flag final : public Observer {
   public:
    std::atomic<bool> raised{false};
    std::atomic<int> reports{0};
    void progress(const Progress&) override { ++reports; }
    bool cancelled() override { return raised; }
  };
  const Table table(60, 150, 12);
  Options options;
  options.threads = 4;
  options.tol = 1e-10;
  for (const int delay : {0, 2, 10}) {
    Flag flag;
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(delay));
      flag.raised = true;
    });
    const Model model = cross_validate(table.data(), options, {}, &flag);
    other.join();
    ASSERT_TRUE(model.cv);
    for (Index r = 0; r < 12; ++r) {
      // A response is there as a whole or not at all.
      const Status first = status(model, model.fit(r, 0, 0));
      EXPECT_TRUE(is_good(first) || first == Status::kNotComputed) << name(first);
    }
  }
}

/// The last fit is counted while the report of an earlier one is under way.
TEST(ProgressThreads, TheLastFitIsReported) {
  struct Slow final : public Observer {
    RunControl* control = nullptr;
    Progress last;
    void progress(const Progress& state) override {
      while (control->counted() < 2) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      last = state;
    }
  } observer;
  RunControl control(Options{}, 1e-9, &observer);
  observer.control = &control;
  control.set_total(2);
  std::thread first([&] { control.count(1); });
  while (control.counted() < 1) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  control.count(1);
  first.join();
  EXPECT_EQ(observer.last.fits_done, 2);
}

TEST(IterationLimit, SaysSoAndTheGapIsHonest) {
  const Table table(40, 60, 2);
  Options options;
  options.engine = Engine::kProximalGradient;
  options.max_iterations = 1;
  options.tol = 1e-12;
  const Model model = fit_path(table.data(), options);
  EXPECT_GT(model.stats.n_not_converged, 0);
  EXPECT_FALSE(model.stats.interrupted);
  Index limited = 0;
  for (std::size_t f = 0; f < model.status.size(); ++f) {
    if (static_cast<Status>(model.status[f]) != Status::kIterationLimit) continue;
    ++limited;
    EXPECT_GT(model.gap[f], 1e-12);
  }
  EXPECT_GT(limited, 0);
}

}  // namespace
}  // namespace thresher::testing_library
