#include "round_replay.hpp"

#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "active_set_solve.cuh"
#include "coefficient_harvest.cuh"
#include "cuda_check.hpp"
#include "device_memory.hpp"
#include "device_timing.hpp"
#include "gap_certificate.cuh"
#include "gram_extension.cuh"
#include "half_columns.cuh"
#include "inactive_proof.cuh"
#include "random_case.hpp"
#include "slot_reset.cuh"
#include "sparse_residual.cuh"
#include "working_set_choice.cuh"
#include "working_set_gradient.cuh"
#include "working_set_memory.hpp"

namespace thresher::bench {
namespace {

using cuda::DeviceArray;
using cuda::RoundSlot;

constexpr double kTol = 1e-7;
constexpr Index kMostIterations = 100000;
constexpr Index kMostRetries = 50;

/// Time and declared work of one step, summed over launches.
struct Work {
  double seconds = 0.0, bytes = 0.0, flops = 0.0;
  Index launches = 0;
};

/// Data on the host.
struct Data {
  std::vector<double> X;                    // (n, p)
  std::vector<std::vector<double>> weight;  // by fold, (n)
  std::vector<std::vector<double>> mean;    // by fold, (p)
  std::vector<double> Y;                    // (n, n_slots)
};

Data make_data(const ReplayShape& shape) {
  const Index n = shape.n, p = shape.p;
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal;
  Data data;
  data.X = autoregressive_columns(n, p, [&] { return normal(random); });
  for (Index f = 0; f < shape.n_folds; ++f) {
    std::vector<double> w(at(n), 1.0);
    for (Index i = f; i < n && shape.n_folds > 1; i += shape.n_folds) w[at(i)] = 0.0;
    double total = 0.0;
    for (const double v : w) total += v;
    for (double& v : w) v /= total;
    std::vector<double> mean(at(p), 0.0);
    for (Index j = 0; j < p; ++j) {
      for (Index i = 0; i < n; ++i) mean[at(j)] += w[at(i)] * data.X[at(j * n + i)];
    }
    data.weight.push_back(std::move(w));
    data.mean.push_back(std::move(mean));
  }
  data.Y.resize(at(n * shape.n_slots));
  for (Index s = 0; s < shape.n_slots; ++s) {
    double* y = data.Y.data() + s * n;
    for (Index k = 0; k < shape.support; ++k) {
      const auto j = static_cast<Index>(random() % static_cast<std::uint64_t>(p));
      const double b = normal(random);
      for (Index i = 0; i < n; ++i) y[i] += b * data.X[at(j * n + i)];
    }
    double squares = 0.0;
    for (Index i = 0; i < n; ++i) squares += y[i] * y[i];
    const double noise = std::sqrt(squares / static_cast<double>(n) / shape.snr);
    for (Index i = 0; i < n; ++i) y[i] += noise * normal(random);
  }
  return data;
}

class Replay {
 public:
  Replay(const cuda::DeviceLimits& limits, const cuda::Stream& stream, const cuda::Blas& blas,
         const ReplayShape& shape)
      : limits_(limits), stream_(stream), blas_(blas), shape_(shape), data_(make_data(shape)) {
    take_memory();
    upload();
  }

  bool run() {
    load();
    for (;;) {
      std::vector<RoundSlot> round;
      for (Index s = 0; s < shape_.n_slots; ++s) {
        const Path& path = paths_[at(s)];
        if (path.next == shape_.n_lambdas) continue;
        const double share = shape_.n_lambdas < 2 ? 1.0
                                                  : static_cast<double>(path.next) /
                                                        static_cast<double>(shape_.n_lambdas - 1);
        RoundSlot slot{s,
                       0,
                       path.lambda_max * std::pow(shape_.last, share),
                       path.lambda_now,
                       path.n_support,
                       false};
        round.push_back(slot);
      }
      if (round.empty()) break;
      one_round(round);
      if (failed_) return false;
    }
    print();
    return true;
  }

 private:
  struct Path {
    Index next = 0, retries = 0, n_support = 0;
    double lambda_max = 0.0, lambda_now = std::numeric_limits<double>::quiet_NaN();
  };

  // As CudaWorkingSetBackend, for a Lasso without projections.
  void take_memory() {
    const Index p = shape_.p, s = shape_.n_slots;
    cuda::set_sizes(shape_.n, p, {}, state_);
    half_rows_ = cuda::half_rows(shape_.n);
    problems_ = memory_.take<cuda::ProblemView>(s);
    state_.problem = problems_;
    memory_.take_slots(s, /*own_gram=*/true, /*projections=*/false, state_);
    const Index a = state_.active_capacity;
    correlations_ = memory_.take<float>(p * s);
    packed_ = memory_.take<__half>(half_rows_ * s);
    round_ = memory_.take<RoundSlot>(s);
    offsets_ = memory_.take<Index>(s + 1);
    harvest_feature_ = memory_.take<Index>(a * s);
    harvest_value_ = memory_.take<double>(a * s);
  }

  template <class T>
  T* put(const std::vector<T>& values) {
    T* out = memory_.take<T>(static_cast<Index>(values.size()));
    cuda::copy_to_device(values.data(), static_cast<Index>(values.size()), out, stream_);
    stream_.wait();
    return out;
  }

  void upload() {
    const Index n = shape_.n, p = shape_.p, s = shape_.n_slots;
    state_.X = put(data_.X);
    half_.n = n;
    half_.p = p;
    half_.padded = half_rows_;
    half_.X = state_.X;
    half_.half = memory_.take<__half>(half_rows_ * p);
    half_.norm = memory_.take<double>(p);
    half_.half_error = memory_.take<double>(p);
    half_.half_norm = memory_.take<double>(p);
    state_.norm = half_.norm;
    timed("round_columns", 10.0 * static_cast<double>(n * p), 0.0,
          [&] { cuda::round_columns(half_, 0, p, stream_); });

    std::vector<cuda::RowsView> rows;
    for (Index f = 0; f < shape_.n_folds; ++f) {
      std::vector<double> root(at(n));
      for (Index i = 0; i < n; ++i) root[at(i)] = std::sqrt(data_.weight[at(f)][at(i)]);
      cuda::RowsView view;
      view.weight = put(data_.weight[at(f)]);
      view.root_weight = put(root);
      view.mean = put(data_.mean[at(f)]);
      rows.push_back(view);
    }
    const std::vector<double> ones(at(p), 1.0), zeros(at(p), 0.0);
    const cuda::FactorsView factors{put(ones), put(ones), put(zeros),
                                    put(std::vector<std::uint8_t>(at(p), 0))};
    std::vector<cuda::ProblemView> problems;
    std::vector<double> held_out(at(n * s), 0.0);
    for (Index k = 0; k < s; ++k) {
      const std::vector<double>& w = data_.weight[at(k % shape_.n_folds)];
      const double* y = data_.Y.data() + k * n;
      cuda::ProblemView view;
      view.rows = rows[at(k % shape_.n_folds)];
      view.factors = factors;
      Index n_held_out = 0;
      for (Index i = 0; i < n; ++i) {
        view.y_mean += w[at(i)] * y[i];
        if (w[at(i)] == 0.0) ++n_held_out;
      }
      view.null_loss = 0.0;
      for (Index i = 0; i < n; ++i) {
        const double r = y[i] - view.y_mean;
        view.null_loss += 0.5 * w[at(i)] * r * r;
        if (w[at(i)] == 0.0) held_out[at(k * n + i)] = 1.0 / static_cast<double>(n_held_out);
      }
      problems.push_back(view);
    }
    problems_host_ = problems;
    cuda::copy_to_device(problems.data(), s, problems_, stream_);
    cuda::copy_to_device(data_.Y.data(), n * s, state_.response, stream_);
    cuda::copy_to_device(held_out.data(), n * s, state_.held_out_weight, stream_);
    stream_.wait();
  }

  // The step's time goes to the stage that the round is in.
  template <class Step>
  void timed(const std::string& name, double bytes, double flops, Step&& step) {
    const double seconds = timer_.seconds(stream_, step);
    std::vector<Work>& stages = work_[name];
    stages.resize(at(std::max<Index>(1, shape_.n_stages)));
    Work& work = stages[at(stage_)];
    work.seconds += seconds;
    work.bytes += bytes;
    work.flops += flops;
    ++work.launches;
  }

  void load() {
    const Index s = shape_.n_slots;
    std::vector<RoundSlot> round;
    for (Index k = 0; k < s; ++k) {
      round.push_back({k, k, 0.0, std::numeric_limits<double>::quiet_NaN(), 0, false});
    }
    send(round);
    const DeviceArray<Index> offsets =
        cuda::to_device<Index>(std::vector<Index>(at(s + 1), 0), stream_);
    const DeviceArray<Index> nothing(1);
    const DeviceArray<double> none(1);
    timed("reset_slots",
          static_cast<double>(s) * static_cast<double>(state_.p + 13 * state_.capacity), 0.0, [&] {
            cuda::reset_slots(state_, round_, s, {offsets.data(), nothing.data(), none.data()},
                              stream_);
          });
    stream_.wait();
    paths_.assign(at(s), Path{});
    update_residuals(round);
    const std::vector<float> c = fetch(correlations_, state_.p * s, stream_);
    const std::vector<cuda::SlotSums> sums = fetch(state_.sums, s, stream_);
    for (Index k = 0; k < s; ++k) {
      float largest = 0.0F;
      for (Index j = 0; j < state_.p; ++j) {
        largest = std::max(largest, std::fabs(c[at(k * state_.p + j)]));
      }
      paths_[at(k)].lambda_max = std::ldexp(static_cast<double>(largest), sums[at(k)].z_exponent);
    }
  }

  void send(const std::vector<RoundSlot>& round) {
    cuda::copy_to_device(round.data(), static_cast<Index>(round.size()), round_, stream_);
    stream_.wait();
  }

  void update_residuals(const std::vector<RoundSlot>& round) {
    const auto count = static_cast<Index>(round.size());
    const double n = static_cast<double>(state_.n), p = static_cast<double>(state_.p);
    double nonzero = 0.0;
    for (const RoundSlot& slot : round) nonzero += static_cast<double>(slot.n_support);
    timed("sparse_residual", 8.0 * n * nonzero + 80.0 * n * static_cast<double>(count),
          2.0 * n * nonzero, [&] {
            cuda::sparse_residual(state_, round_, count, packed_, half_rows_, nullptr, stream_);
          });
    const double columns = static_cast<double>(count);
    const double rows = static_cast<double>(half_rows_);
    timed("gemm", 2.0 * rows * (p + columns) + 4.0 * p * columns, 2.0 * rows * p * columns, [&] {
      const float one = 1.0F, zero = 0.0F;
      cuda::check(cublasGemmEx_64(blas_, CUBLAS_OP_T, CUBLAS_OP_N, state_.p, count, half_rows_,
                                  &one, half_.half, CUDA_R_16F, half_rows_, packed_, CUDA_R_16F,
                                  half_rows_, &zero, correlations_, CUDA_R_32F, state_.p,
                                  CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                  "cublasGemmEx_64 (certification)");
    });
  }

  void gradient(Index count, bool only_new, double products) {
    timed(only_new ? "working_set_gradient, new" : "working_set_gradient",
          8.0 * static_cast<double>(state_.n) * products,
          2.0 * static_cast<double>(state_.n) * products, [&] {
            cuda::working_set_gradient(state_, round_, count, only_new,
                                       limits_.workers(count, (state_.capacity + 7) / 8), stream_);
          });
  }

  void one_round(std::vector<RoundSlot>& round) {
    const auto count = static_cast<Index>(round.size());
    const double n = static_cast<double>(state_.n), p = static_cast<double>(state_.p);
    const double slots = static_cast<double>(count);
    for (Index k = 0; k < count; ++k) round[at(k)].column = k;
    stage_ = std::min(shape_.n_stages - 1,
                      paths_[at(round[0].slot)].next * shape_.n_stages / shape_.n_lambdas);
    stages_.resize(at(shape_.n_stages));
    Stage& stage = stages_[at(stage_)];
    send(round);

    cuda::Correlations<float> c{correlations_, half_.half_error, half_.half_norm, 0.0};
    timed("choose_working_set", 3.0 * 13.0 * p * slots, 0.0,
          [&] { cuda::choose_working_set(state_, round_, count, c, stream_); });
    const std::vector<int> n_working = fetch(state_.n_working, shape_.n_slots, stream_);
    const std::vector<int> n_gram = fetch(state_.n_gram, shape_.n_slots, stream_);
    double fresh = 0.0, products = 0.0, working = 0.0;
    for (const RoundSlot& slot : round) {
      const double all = n_working[at(slot.slot)], old = n_gram[at(slot.slot)];
      working += all;
      fresh += all - old;
      products += (all - old) * all;  // both triangles among newcomers, as the kernel computes them
    }
    gradient(count, /*only_new=*/true, fresh);
    const Index tiles = (state_.capacity + 31) / 32;
    timed("extend_gram", n * products * 8.0 * 2.0 / 32.0, 2.0 * n * products, [&] {
      cuda::extend_gram(state_, round_, count, limits_.workers(count, tiles * tiles), stream_);
    });
    if (shape_.compared > 0) compare_gram(round);
    const double before = timer_total("solve_active_sets");
    timed("solve_active_sets", 0.0, 0.0, [&] {
      cuda::solve_active_sets(state_, round_, count, kMostIterations, limits_.shared_bytes,
                              stream_);
    });
    const std::vector<int> n_active = fetch(state_.n_active, shape_.n_slots, stream_);
    for (RoundSlot& slot : round) slot.n_support = n_active[at(slot.slot)];
    update_residuals(round);
    gradient(count, /*only_new=*/false, working);
    c.sum_error = (n + 2.0) * cuda::kHalfSumError;
    if (shape_.compared > 0) {
      compare_products(round);
      // Working sets hold what is within half of lambda and more; below that there is more to find.
      std::vector<RoundSlot> lower = round;
      for (RoundSlot& slot : lower) slot.lambda *= 0.3;
      send(lower);
      cuda::prove_inactive(state_, round_, count, c, stream_);
      compare_proof(lower);
      send(round);
    }
    timed("prove_inactive", 21.0 * p * slots, 0.0,
          [&] { cuda::prove_inactive(state_, round_, count, c, stream_); });
    if (shape_.compared > 0) compare_proof(round);
    timed("certify_gap", 24.0 * working + 0.125 * p * slots, 0.0,
          [&] { cuda::certify_gap(state_, round_, count, stream_); });
    const std::vector<cuda::SlotReport> reports = fetch(state_.report, count, stream_);

    std::vector<Index> offsets(at(count), -1);
    Index total = 0;
    double entries = 0.0;
    Work& solve = work_["solve_active_sets"][at(stage_)];
    for (Index k = 0; k < count; ++k) {
      const RoundSlot& slot = round[at(k)];
      Path& path = paths_[at(slot.slot)];
      const cuda::SlotReport& report = reports[at(k)];
      const double a = n_active[at(slot.slot)], w = n_working[at(slot.slot)];
      const double steps = static_cast<double>(report.iterations);
      // A step is a Newton step and at most one full step; it changes the active set once or more
      // often. The inverse is read from memory where shared memory cannot hold it.
      const double changes = std::max(steps, std::fabs(a - static_cast<double>(path.n_support)));
      const bool in_shared = 8.0 * a * a < static_cast<double>(limits_.shared_bytes);
      const double passes = steps + 2.0 * changes;  // over the inverse
      solve.flops += passes * 2.0 * a * a + steps * 2.0 * w * a;
      solve.bytes += steps * 8.0 * w * a + (in_shared ? 0.0 : passes * 8.0 * a * a);
      stage.changes += changes;
      stage.support += a;
      stage.working += w;
      stage.steps += steps;
      ++stage.fits;
      entries += w;
      const bool accepted = report.gap <= kTol;
      worst_gap_ = accepted ? std::max(worst_gap_, report.gap) : worst_gap_;
      if (!accepted && ++path.retries <= kMostRetries) {
        ++stage.retries;
        continue;
      }
      if (!accepted) {
        fail("certify_gap", slot.slot, report.gap, kTol);
        return;
      }
      path.retries = 0;
      path.lambda_now = slot.lambda;
      path.n_support = report.n_nonzero;
      ++path.next;
      offsets[at(k)] = total;
      total += report.n_nonzero;
    }
    stage.seconds_of_solve += timer_total("solve_active_sets") - before;
    ++stage.rounds;
    cuda::copy_to_device(offsets.data(), count, offsets_, stream_);
    stream_.wait();
    timed("harvest_coefficients", 12.0 * entries + 16.0 * static_cast<double>(total), 0.0, [&] {
      cuda::harvest_coefficients(state_, round_, count,
                                 {offsets_, harvest_feature_, harvest_value_}, stream_);
    });
  }

  double timer_total(const std::string& name) const {
    const auto found = work_.find(name);
    double sum = 0.0;
    if (found != work_.end()) {
      for (const Work& work : found->second) sum += work.seconds;
    }
    return sum;
  }

  void fail(const char* step, Index slot, double got, double want) {
    if (failed_) return;
    failed_ = true;
    Line("wrong")
        .text("step", step)
        .whole("slot", slot)
        .number("got", got)
        .number("want", want)
        .print();
  }

  bool is_compared(const RoundSlot& slot) const {
    return slot.slot % std::max<Index>(1, shape_.n_slots / shape_.compared) == 0;
  }

  double centred(const RoundSlot& slot, Index j, Index i) const {
    return data_.X[at(j * shape_.n + i)] - data_.mean[at(slot.slot % shape_.n_folds)][at(j)];
  }

  void compare_gram(const std::vector<RoundSlot>& round) {
    const Index n = shape_.n, c = state_.capacity;
    for (const RoundSlot& slot : round) {
      if (!is_compared(slot)) continue;
      const std::vector<double>& w = data_.weight[at(slot.slot % shape_.n_folds)];
      const int size = fetch(state_.n_working + slot.slot, 1, stream_)[0];
      const std::vector<int> feature = fetch(state_.feature + slot.slot * c, c, stream_);
      const std::vector<double> gram = fetch(state_.gram + slot.slot * c * c, c * c, stream_);
      for (Index a = 0; a < size; a += 3) {
        for (Index b = 0; b < size; ++b) {
          double sum = 0.0, sizes = 0.0;
          for (Index i = 0; i < n; ++i) {
            const double term =
                w[at(i)] * centred(slot, feature[at(a)], i) * centred(slot, feature[at(b)], i);
            sum += term;
            sizes += std::fabs(term);
          }
          // A rounding or two a term, and as many in the sums.
          const double slack = 4.0 * static_cast<double>(n) * 2.2e-16 * sizes;
          if (!(std::fabs(gram[at(b * c + a)] - sum) <= slack)) {
            fail("extend_gram", slot.slot, gram[at(b * c + a)], sum);
          }
        }
      }
    }
  }

  // Everything after the solve: residual, packed copy and its product, exact products of the
  // working set, optimality there.
  void compare_products(const std::vector<RoundSlot>& round) {
    const Index n = shape_.n, p = shape_.p, c = state_.capacity;
    for (const RoundSlot& slot : round) {
      if (!is_compared(slot)) continue;
      const Index s = slot.slot;
      const std::vector<double>& w = data_.weight[at(s % shape_.n_folds)];
      const int size = fetch(state_.n_working + s, 1, stream_)[0];
      const std::vector<int> feature = fetch(state_.feature + s * c, c, stream_);
      const std::vector<double> coef = fetch(state_.coef + s * c, c, stream_);
      const std::vector<double> grad = fetch(state_.grad + s * c, c, stream_);
      const std::vector<double> residual = fetch(state_.residual + s * n, n, stream_);
      const std::vector<double> weighted = fetch(state_.weighted + s * n, n, stream_);
      const std::vector<__half> packed = fetch(packed_ + slot.column * half_rows_, n, stream_);
      const std::vector<float> product = fetch(correlations_ + slot.column * p, p, stream_);
      const cuda::SlotSums sums = fetch(state_.sums + s, 1, stream_)[0];

      std::vector<double> r(data_.Y.begin() + s * n, data_.Y.begin() + (s + 1) * n);
      double scale = 0.0, intercept = 0.0;
      for (Index i = 0; i < n; ++i) {
        r[at(i)] -= problems_host_[at(s)].y_mean;
        for (Index k = 0; k < size; ++k) {
          r[at(i)] -= centred(slot, feature[at(k)], i) * coef[at(k)];
        }
        intercept += w[at(i)] * r[at(i)];
        scale = std::max(scale, std::fabs(data_.Y[at(s * n + i)]));
      }
      const double slack = 1e-12 * scale * static_cast<double>(1 + size);
      double squares = 0.0;
      std::vector<double> z(at(n));
      for (Index i = 0; i < n; ++i) {
        r[at(i)] -= intercept;
        z[at(i)] = w[at(i)] * r[at(i)];
        squares += z[at(i)] * z[at(i)];
        if (!(std::fabs(residual[at(i)] - r[at(i)]) <= slack)) {
          fail("sparse_residual", s, residual[at(i)], r[at(i)]);
        }
        const double back =
            std::ldexp(static_cast<double>(__half2float(packed[at(i)])), sums.z_exponent);
        if (!(std::fabs(back - weighted[at(i)]) <= sums.packed_error * (1.0 + 1e-9))) {
          fail("sparse_residual, packed", s, back, weighted[at(i)]);
        }
      }
      const double noise = 1e-10 * (1.0 + std::sqrt(squares)) * scale;
      const auto correlation = [&](Index j) {
        double sum = 0.0;
        for (Index i = 0; i < n; ++i) sum += data_.X[at(j * n + i)] * weighted[at(i)];
        return sum;
      };
      for (Index k = 0; k < size; ++k) {
        const double g = correlation(feature[at(k)]);
        if (!(std::fabs(grad[at(k)] - g) <= noise)) fail("working_set_gradient", s, grad[at(k)], g);
        const double away = coef[at(k)] == 0.0
                                ? std::max(0.0, std::fabs(g) - slot.lambda)
                                : std::fabs(g - std::copysign(slot.lambda, coef[at(k)]));
        if (!(away <= 1e-6 * slot.lambda + noise)) fail("solve_active_sets", s, away, 0.0);
      }
      for (Index j = 0; j < p; ++j) {
        const double g = correlation(j);
        double x_squares = 0.0;
        for (Index i = 0; i < n; ++i) x_squares += data_.X[at(j * n + i)] * data_.X[at(j * n + i)];
        // Half precision: 2^-11 of each factor, and the sum's error.
        const double bound =
            std::sqrt(x_squares * squares) *
            (2.0 * 0x1p-11 + static_cast<double>(n + 2) * cuda::kHalfSumError + 1e-6);
        const double c_j = std::ldexp(static_cast<double>(product[at(j)]), sums.z_exponent);
        if (!(std::fabs(c_j - g) <= bound)) fail("gemm", s, c_j, g);
      }
    }
  }

  // The mask of features outside the working set, at the lambda of the round.
  void compare_proof(const std::vector<RoundSlot>& round) {
    const Index n = shape_.n, p = shape_.p;
    for (const RoundSlot& slot : round) {
      if (!is_compared(slot)) continue;
      const Index s = slot.slot;
      const std::vector<double> weighted = fetch(state_.weighted + s * n, n, stream_);
      const std::vector<std::uint8_t> working = fetch(state_.in_working + s * p, p, stream_);
      const std::vector<unsigned> mask =
          fetch(state_.mask + s * state_.n_words, state_.n_words, stream_);
      const std::vector<double> exact = fetch(state_.exact + s * p, p, stream_);
      for (Index j = 0; j < p; ++j) {
        if (working[at(j)] != 0) continue;
        double g = 0.0, sizes = 0.0;
        for (Index i = 0; i < n; ++i) {
          g += data_.X[at(j * n + i)] * weighted[at(i)];
          sizes += std::fabs(data_.X[at(j * n + i)] * weighted[at(i)]);
        }
        const double noise = 4.0 * static_cast<double>(n) * 2.2e-16 * sizes;
        const bool above = (mask[at(j / 32)] >> (j % 32) & 1u) != 0;
        if (std::fabs(std::fabs(g) - slot.lambda) > noise &&
            above != (std::fabs(g) > slot.lambda)) {
          fail("prove_inactive", s, std::fabs(g), slot.lambda);
        }
        if (above && !(std::fabs(exact[at(j)] - g) <= noise)) {
          fail("prove_inactive, exact", s, exact[at(j)], g);
        }
      }
    }
  }

  void print() const {
    double total = 0.0;
    for (const auto& [name, stages] : work_) {
      for (const Work& work : stages) total += work.seconds;
    }
    for (Index k = 0; k < shape_.n_stages; ++k) {
      const Stage& stage = stages_[at(k)];
      const double fits = std::max(1.0, static_cast<double>(stage.fits));
      Line("replay_stage")
          .whole("stage", k)
          .whole("rounds", stage.rounds)
          .whole("retries", stage.retries)
          .number("mean_support", stage.support / fits)
          .number("mean_working_set", stage.working / fits)
          .number("mean_steps", stage.steps / fits)
          .number("mean_changes", stage.changes / fits)
          .number("solve_seconds_a_round",
                  stage.seconds_of_solve / std::max(1.0, static_cast<double>(stage.rounds)))
          .print();
    }
    for (const auto& [name, stages] : work_) {
      for (std::size_t k = 0; k < stages.size(); ++k) {
        const Work& work = stages[k];
        if (work.launches == 0) continue;
        Line("replay_step")
            .text("step", name)
            .whole("stage", static_cast<Index>(k))
            .whole("launches", work.launches)
            .number("seconds", work.seconds)
            .number("share_of_replay", total > 0.0 ? work.seconds / total : 0.0)
            .number("bytes", work.bytes)
            .number("flops", work.flops)
            .print();
      }
    }
    Line("replay")
        .whole("n", shape_.n)
        .whole("p", shape_.p)
        .whole("slots", shape_.n_slots)
        .whole("lambdas", shape_.n_lambdas)
        .number("last", shape_.last)
        .whole("compared", shape_.compared)
        .number("worst_gap", worst_gap_)
        .number("seconds", total)
        .number("fits_a_second",
                total > 0.0 ? static_cast<double>(shape_.n_slots * shape_.n_lambdas) / total : 0.0)
        .print();
  }

  struct Stage {
    Index rounds = 0, fits = 0, retries = 0;
    double support = 0.0, working = 0.0, steps = 0.0, changes = 0.0, seconds_of_solve = 0.0;
  };

  cuda::DeviceLimits limits_;
  const cuda::Stream& stream_;
  const cuda::Blas& blas_;
  ReplayShape shape_;
  Data data_;
  DeviceTimer timer_;
  cuda::WorkingSetMemory memory_;
  cuda::WorkingSetState state_;
  cuda::HalfColumns half_;
  Index half_rows_ = 0;
  cuda::ProblemView* problems_ = nullptr;
  std::vector<cuda::ProblemView> problems_host_;
  float* correlations_ = nullptr;
  __half* packed_ = nullptr;
  RoundSlot* round_ = nullptr;
  Index* offsets_ = nullptr;
  Index* harvest_feature_ = nullptr;
  double* harvest_value_ = nullptr;
  std::vector<Path> paths_;
  std::map<std::string, std::vector<Work>> work_;
  std::vector<Stage> stages_;
  Index stage_ = 0;
  double worst_gap_ = 0.0;
  bool failed_ = false;
};

}  // namespace

bool replay_rounds(const cuda::DeviceLimits& limits, const cuda::Stream& stream,
                   const cuda::Blas& blas, const ReplayShape& shape) {
  return Replay(limits, stream, blas, shape).run();
}

}  // namespace thresher::bench
