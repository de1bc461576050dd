#include "cuda_working_set_backend.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "active_set_solve.cuh"
#include "coefficient_harvest.cuh"
#include "cuda_check.hpp"
#include "gap_certificate.cuh"
#include "gram_extension.cuh"
#include "inactive_proof.cuh"
#include "slot_reset.cuh"
#include "sparse_residual.cuh"
#include "working_set_choice.cuh"
#include "working_set_gradient.cuh"

namespace thresher::cuda {
namespace {

// A share of the free memory stays free: cuBLAS takes its workspaces from it.
constexpr double kUsableMemory = 0.9;
constexpr double kLibraryBytes = 128e6;
constexpr Index kStagingColumns = 256;  // of X under way at a time

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

CudaWorkingSetBackend::CudaWorkingSetBackend(const DeviceLimits& limits, const WorkingSetTask& task)
    : limits_((use_device(limits), limits)),
      columns_(task.columns),
      gram_mode_(task.mode == Mode::kGram),
      half_(task.mode != Mode::kGram && task.low_precision),
      n_slots_(task.n_slots),
      blas_(stream_) {
  plan(task);
  take_memory();
  upload_columns(task);
  upload_rows(task);
  upload_factors(task);
  if (gram_mode_) compute_grams();
  stream_.wait();
}

// Sizes first: nothing is taken unless everything will fit.
void CudaWorkingSetBackend::plan(const WorkingSetTask& task) {
  const Index n = columns_.n_samples(), p = columns_.n_features();
  if (n > std::numeric_limits<int>::max() || p > std::numeric_limits<int>::max()) {
    throw Error(Errc::kOutOfMemory, "cuda: n_samples and n_features must be below 2^31, got " +
                                        std::to_string(n) + " and " + std::to_string(p));
  }
  bool elastic = false, least_squares = false;
  std::set<const RowWeighting*> rows;
  std::set<const Penalties*> factors;
  for (const Problem& problem : task.problems) {
    const auto positive = [](double value) { return value > 0.0; };
    const std::vector<double>& fixed = problem.penalties->fixed_l2;
    elastic =
        elastic || problem.l1_ratio < 1.0 || std::any_of(fixed.begin(), fixed.end(), positive);
    least_squares = least_squares || (!problem.lambda.empty() && problem.lambda.back() == 0.0);
    if (problem.projector) {
      n_bases_ = std::max(n_bases_, static_cast<Index>(problem.projector->basis().size()));
    }
    direct_columns_ = direct_columns_ || !problem.rows->direct.empty();
    rows.insert(problem.rows.get());
    factors.insert(problem.penalties.get());
  }
  set_sizes(n, p, {elastic, gram_mode_ || least_squares}, state_);
  half_rows_ = half_rows(n);

  const auto d = [](Index size) { return static_cast<double>(size); };
  double direct = 0.0;
  for (const RowWeighting* weighting : rows)
    direct += 8.0 * d(n) * d(static_cast<Index>(weighting->direct.size()));
  const double shared =
      8.0 * d(n) * d(p) + (half_ ? 2.0 * d(half_rows_) * d(p) : 0.0) + 24.0 * d(p) +
      d(static_cast<Index>(rows.size())) * (16.0 * d(n) + 8.0 * d(p)) + direct +
      d(static_cast<Index>(factors.size())) * 25.0 * d(p) +
      (gram_mode_ ? d(static_cast<Index>(rows.size())) * 8.0 * d(p) * d(p) + 8.0 * d(n) * d(p)
                  : 0.0);
  const double capacity = d(state_.capacity), active = d(state_.active_capacity);
  const double slot = 48.0 * d(n) + 2.0 * d(half_rows_) + d(p) * (half_ ? 13.0 : 17.0) +
                      d(state_.n_words) * 4.0 + (gram_mode_ ? 0.0 : 8.0 * capacity * capacity) +
                      8.0 * active * active + 66.0 * capacity + 80.0 * active + 8.0 * d(n_bases_) +
                      1024.0;
  const double bytes = shared + slot * d(n_slots_);
  std::size_t free_bytes = 0, total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  const double usable =
      std::min(kUsableMemory * static_cast<double>(free_bytes),
               static_cast<double>(free_bytes) -
                   std::min(kLibraryBytes, 0.05 * static_cast<double>(free_bytes)));
  if (bytes > usable) {
    throw Error(Errc::kOutOfMemory, "cuda: " + std::to_string(n_slots_) +
                                        " problems at a time must fit in memory, need " +
                                        std::to_string(static_cast<std::size_t>(bytes)) +
                                        " bytes, free are " + std::to_string(free_bytes));
  }
}

void CudaWorkingSetBackend::take_memory() {
  const Index n = state_.n, p = state_.p, s = n_slots_;
  const Index a = state_.active_capacity;
  problems_ = memory_.take<ProblemView>(s);
  state_.problem = problems_;
  memory_.take_slots(s, !gram_mode_, n_bases_ > 0, state_);
  basis_ = memory_.take<double>(n_bases_ * s);
  if (half_) {
    half_correlations_ = memory_.take<float>(p * s);
    packed_half_ = memory_.take<__half>(half_rows_ * s);
  } else {
    correlations_ = memory_.take<double>(p * s);
    packed_ = memory_.take<double>(n * s);
  }
  slots_.resize(at(s));
  for (Round* round : {&load_round_, &choose_round_, &solve_round_}) {
    round->host = PinnedArray<RoundSlot>(s);
    round->device = DeviceArray<RoundSlot>(s);
  }
  problem_staging_ = PinnedArray<ProblemView>(s);
  response_staging_ = PinnedArray<double>(n * s);
  held_out_staging_ = PinnedArray<double>(n * s);
  report_staging_ = PinnedArray<SlotReport>(s);
  offsets_ = memory_.take<Index>(s + 1);
  harvest_feature_ = memory_.take<Index>(a * s);
  harvest_value_ = memory_.take<double>(a * s);
  offset_staging_ = PinnedArray<Index>(s + 1);
  feature_staging_ = PinnedArray<Index>(a * s);
  value_staging_ = PinnedArray<double>(a * s);
  offset_of_slot_.assign(at(s), -1);
}

// Two staging buffers: one is filled while the other travels.
void CudaWorkingSetBackend::upload_columns(const WorkingSetTask& task) {
  const Index n = state_.n, p = state_.p;
  auto* X = memory_.take<double>(n * p);
  state_.X = X;
  half_columns_.n = n;
  half_columns_.p = p;
  half_columns_.padded = half_ ? half_rows_ : n;
  half_columns_.X = X;
  half_columns_.norm = memory_.take<double>(p);
  state_.norm = half_columns_.norm;
  if (half_) {
    half_columns_.half = memory_.take<__half>(half_rows_ * p);
    half_columns_.half_error = memory_.take<double>(p);
    half_columns_.half_norm = memory_.take<double>(p);
  }
  const Index block = std::min(kStagingColumns, p);
  PinnedArray<double> staging[2] = {PinnedArray<double>(n * block), PinnedArray<double>(n * block)};
  Event sent[2];
  const Drain drain(stream_);
  Index number = 0;
  for (Index first = 0; first < p; first += block, ++number) {
    const Index count = std::min(block, p - first);
    const PinnedArray<double>& buffer = staging[number % 2];
    sent[number % 2].wait();
    for (Index j = 0; j < count; ++j) task.read_column(first + j, buffer.data() + j * n);
    copy_to_device(buffer.data(), n * count, X + first * n, stream_);
    sent[number % 2].record(stream_);
    round_columns(half_columns_, first, count, stream_);
  }
  stream_.wait();
}

void CudaWorkingSetBackend::upload_rows(const WorkingSetTask& task) {
  const Index n = state_.n, p = state_.p;
  for (const Problem& problem : task.problems) {
    const RowWeighting* given = problem.rows.get();
    if (rows_.contains(given)) continue;
    RowsView view;
    auto* weight = memory_.take<double>(n);
    copy_to_device(given->weight.data(), n, weight, stream_);
    std::vector<double> root(at(n));
    for (Index i = 0; i < n; ++i) root[at(i)] = std::sqrt(given->weight[at(i)]);
    auto* root_weight = memory_.take<double>(n);
    copy_to_device(root.data(), n, root_weight, stream_);
    auto* mean = memory_.take<double>(p);
    copy_to_device(given->mean.data(), p, mean, stream_);
    view.weight = weight;
    view.root_weight = root_weight;
    view.mean = mean;
    view.n_direct = static_cast<Index>(given->direct.size());
    std::vector<double> values(at(n * view.n_direct));
    if (view.n_direct > 0) {
      auto* direct = memory_.take<Index>(view.n_direct);
      copy_to_device(given->direct.data(), view.n_direct, direct, stream_);
      for (Index k = 0; k < view.n_direct; ++k) {
        task.read_centred_column(*given, given->direct[at(k)], values.data() + k * n);
      }
      auto* direct_values = memory_.take<double>(n * view.n_direct);
      copy_to_device(values.data(), n * view.n_direct, direct_values, stream_);
      view.direct = direct;
      view.direct_values = direct_values;
    }
    stream_.wait();
    rows_[given] = view;
  }
}

void CudaWorkingSetBackend::upload_factors(const WorkingSetTask& task) {
  const Index p = state_.p;
  for (const Problem& problem : task.problems) {
    const Penalties* given = problem.penalties.get();
    if (factors_.contains(given)) continue;
    auto* l1 = memory_.take<double>(p);
    auto* l2 = memory_.take<double>(p);
    auto* fixed_l2 = memory_.take<double>(p);
    auto* excluded = memory_.take<std::uint8_t>(p);
    copy_to_device(given->l1.data(), p, l1, stream_);
    copy_to_device(given->l2.data(), p, l2, stream_);
    copy_to_device(given->fixed_l2.data(), p, fixed_l2, stream_);
    copy_to_device(given->excluded.data(), p, excluded, stream_);
    stream_.wait();
    factors_[given] = {l1, l2, fixed_l2, excluded};
  }
}

void CudaWorkingSetBackend::compute_grams() {
  const Index n = state_.n, p = state_.p;
  DeviceArray<double> weighted(n * p);
  for (auto& [given, view] : rows_) {
    auto* gram = memory_.take<double>(p * p);
    weigh_columns(state_, view, weighted.data(), stream_);
    const double one = 1.0, zero = 0.0;
    check(cublasDgemm_64(blas_, CUBLAS_OP_T, CUBLAS_OP_N, p, p, n, &one, weighted.data(), n,
                         weighted.data(), n, &zero, gram, p),
          "cublasDgemm_64 (Gram)");
    view.gram = gram;
  }
  stream_.wait();  // before `weighted` goes
}

void CudaWorkingSetBackend::send(Round& round) {
  copy_to_device(round.host.data(), round.count, round.device.data(), stream_);
}

void CudaWorkingSetBackend::send_blocks(Round& round, std::span<const PathBlock> blocks) {
  round.count = static_cast<Index>(blocks.size());
  for (Index k = 0; k < round.count; ++k) {
    const PathBlock& block = blocks[at(k)];
    Slot& slot = slots_[at(block.slot)];
    slot.lambda = slot.problem->lambda[at(block.first)];
    slot.wants_coef = slot.lambda == 0.0 || slot.problem->wants_coef(block.first);
    round.host[k] = {block.slot,      slot.column,    slot.lambda,
                     slot.lambda_now, slot.n_support, slot.rebuild};
  }
  send(round);
}

void CudaWorkingSetBackend::load(std::span<const Index> slots,
                                 std::span<const Problem* const> problems) {
  use_device(limits_);
  stream_.wait();  // staging is free again
  const Index n = state_.n;
  const auto count = static_cast<Index>(slots.size());
  // Their columns are those that no other problem in flight needs for its next choice.
  std::vector<std::uint8_t> taken(at(n_slots_), 0);
  for (const Index s : slots) slots_[at(s)].column = -1;
  for (const Slot& slot : slots_) {
    if (slot.column >= 0) taken[at(slot.column)] = 1;
  }
  Index column = 0;
  load_round_.count = count;
  std::vector<Index> offset(1, 0), start_feature;
  std::vector<double> start_value;
  for (Index k = 0; k < count; ++k) {
    const Index s = slots[at(k)];
    const Problem& problem = *problems[at(k)];
    while (taken[at(column)]) ++column;
    Slot& slot = slots_[at(s)];
    slot = Slot{};
    slot.problem = &problem;
    slot.column = column++;
    slot.lambda_now = std::numeric_limits<double>::quiet_NaN();
    load_round_.host[k] = {s, slot.column, 0.0, slot.lambda_now, 0, false};
    offset_of_slot_[at(s)] = -1;

    ProblemView view;
    view.rows = rows_.at(problem.rows.get());
    view.factors = factors_.at(problem.penalties.get());
    if (problem.projector) {
      view.rank = problem.projector->rank();
      view.basis = basis_ + s * n_bases_;
      copy_to_device(problem.projector->basis().data(), n * view.rank, basis_ + s * n_bases_,
                     stream_);
    }
    view.l1_ratio = problem.l1_ratio;
    view.y_mean = problem.y_mean;
    view.null_loss = problem.null_loss;
    view.y_exponent = problem.y->exponent;
    view.intercept = problem.intercept;
    problem_staging_[k] = view;
    std::copy_n(problem.y->value.data(), n, response_staging_.data() + k * n);
    double* held = held_out_staging_.data() + k * n;
    std::fill_n(held, n, 0.0);
    double total = 0.0;
    for (const double w : problem.held_out_weight) total += w;
    for (std::size_t i = 0; i < problem.held_out.size() && total > 0.0; ++i) {
      held[problem.held_out[i]] = problem.held_out_weight[i] / total;
    }
    slot.has_held_out = total > 0.0;
    // A start with more features than fit is cut: the path finds the others.
    Index room = state_.active_capacity;
    for (const auto& [j, b] : problem.start) {
      if (b == 0.0 || problem.excluded(j) || room-- == 0) continue;
      start_feature.push_back(j);
      start_value.push_back(b);
    }
    offset.push_back(static_cast<Index>(start_feature.size()));
  }
  send(load_round_);
  // Neighbouring slots travel together: thousands of problems start at once.
  for (Index first = 0, last = 0; first < count; first = last) {
    for (last = first + 1; last < count && slots[at(last)] == slots[at(last - 1)] + 1;) ++last;
    const Index s = slots[at(first)], run = last - first;
    copy_to_device(problem_staging_.data() + first, run, problems_ + s, stream_);
    copy_to_device(response_staging_.data() + first * n, run * n, state_.response + s * n, stream_);
    copy_to_device(held_out_staging_.data() + first * n, run * n, state_.held_out_weight + s * n,
                   stream_);
  }
  const DeviceArray<Index> offsets = to_device<Index>(offset, stream_);
  const DeviceArray<Index> features = to_device<Index>(start_feature, stream_);
  const DeviceArray<double> values = to_device<double>(start_value, stream_);
  reset_slots(state_, load_round_.device.data(), count,
              {offsets.data(), features.data(), values.data()}, stream_);
  update_residuals(load_round_);
  exact_gradient(load_round_, /*only_new=*/false);
  stream_.wait();  // before the starts go
}

void CudaWorkingSetBackend::choose_working_sets(std::span<const PathBlock> blocks) {
  use_device(limits_);
  if (gram_mode_) return;  // products with all features are at hand: the set is everything
  send_blocks(choose_round_, blocks);
  if (half_) {
    const Correlations<float> c{half_correlations_, half_columns_.half_error,
                                half_columns_.half_norm, 0.0};
    choose_working_set(state_, choose_round_.device.data(), choose_round_.count, c, stream_);
  } else {
    const Correlations<double> c{correlations_, nullptr, nullptr, 0.0};
    choose_working_set(state_, choose_round_.device.data(), choose_round_.count, c, stream_);
  }
}

void CudaWorkingSetBackend::solve_working_sets(std::span<const PathBlock> blocks,
                                               Index max_iterations) {
  use_device(limits_);
  // Working sets are chosen: nobody needs the old correlations any more, and columns are dealt out
  // anew, without gaps.
  for (Slot& slot : slots_) slot.column = -1;
  for (std::size_t k = 0; k < blocks.size(); ++k) {
    slots_[at(blocks[k].slot)].column = static_cast<Index>(k);
  }
  send_blocks(solve_round_, blocks);
  for (const PathBlock& block : blocks) slots_[at(block.slot)].rebuild = false;
  const RoundSlot* round = solve_round_.device.data();
  const Index count = solve_round_.count;
  if (!gram_mode_) {
    const Index tiles = (state_.capacity + 31) / 32;
    exact_gradient(solve_round_, /*only_new=*/true);
    extend_gram(state_, round, count, limits_.workers(count, tiles * tiles), stream_);
  }
  solve_active_sets(state_, round, count, max_iterations, limits_.shared_bytes, stream_);
}

void CudaWorkingSetBackend::correlate(std::span<const PathBlock>) {
  use_device(limits_);
  update_residuals(solve_round_);
  exact_gradient(solve_round_, /*only_new=*/false);
}

void CudaWorkingSetBackend::update_residuals(const Round& round) {
  sparse_residual(state_, round.device.data(), round.count, packed_half_, half_rows_, packed_,
                  stream_);
  // One product for every run of neighbouring columns.
  Index first = 0;
  while (first < round.count) {
    Index last = first + 1;
    while (last < round.count && round.host[last].column == round.host[last - 1].column + 1) {
      ++last;
    }
    multiply_columns(round.host[first].column, last - first);
    first = last;
  }
}

void CudaWorkingSetBackend::multiply_columns(Index first, Index count) {
  const Index n = state_.n, p = state_.p;
  if (half_) {
    const float one = 1.0F, zero = 0.0F;
    check(cublasGemmEx_64(blas_, CUBLAS_OP_T, CUBLAS_OP_N, p, count, half_rows_, &one,
                          half_columns_.half, CUDA_R_16F, half_rows_,
                          packed_half_ + first * half_rows_, CUDA_R_16F, half_rows_, &zero,
                          half_correlations_ + first * p, CUDA_R_32F, p, CUBLAS_COMPUTE_32F,
                          CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx_64 (certification)");
    return;
  }
  const double one = 1.0, zero = 0.0;
  check(cublasDgemm_64(blas_, CUBLAS_OP_T, CUBLAS_OP_N, p, count, n, &one, state_.X, n,
                       packed_ + first * n, n, &zero, correlations_ + first * p, p),
        "cublasDgemm_64 (certification)");
}

void CudaWorkingSetBackend::exact_gradient(const Round& round, bool only_new) {
  if (gram_mode_ && !direct_columns_ && n_bases_ == 0) {
    const Correlations<double> c{correlations_, nullptr, nullptr, 0.0};
    gather_gradient(state_, round.device.data(), round.count, c, stream_);
    return;
  }
  constexpr Index kFeaturesOfBlock = 8;
  const Index most = (state_.capacity + kFeaturesOfBlock - 1) / kFeaturesOfBlock;
  working_set_gradient(state_, round.device.data(), round.count, only_new,
                       limits_.workers(round.count, most), stream_);
}

void CudaWorkingSetBackend::certify(std::span<const PathBlock>,
                                    std::span<CandidateReport> reports) {
  use_device(limits_);
  const RoundSlot* round = solve_round_.device.data();
  const Index count = solve_round_.count;
  if (half_) {
    const double sum_error = static_cast<double>(state_.n + 2) * kHalfSumError;
    const Correlations<float> c{half_correlations_, half_columns_.half_error,
                                half_columns_.half_norm, sum_error};
    prove_inactive(state_, round, count, c, stream_);
  } else {
    const Correlations<double> c{correlations_, nullptr, nullptr, 0.0};
    prove_inactive(state_, round, count, c, stream_);
  }
  certify_gap(state_, round, count, stream_);
  copy_to_host(state_.report, count, report_staging_.data(), stream_);
  stream_.wait();

  std::vector<Index> wanted;
  for (Index k = 0; k < count; ++k) {
    const SlotReport& found = report_staging_[k];
    Slot& slot = slots_[at(solve_round_.host[k].slot)];
    slot.report = found;
    offset_of_slot_[at(solve_round_.host[k].slot)] = -1;
    CandidateReport& report = reports[at(k)];
    report = {};
    report.gap = found.gap;
    report.n_violators = found.n_violators;
    report.exact = found.exact != 0;
    report.finite = std::isfinite(found.gap);
    // All that harvest() may ask for: violators do not keep a gap from being small enough, and one
    // fetched later costs as much as all of them together.
    if (report.finite && slot.wants_coef) wanted.push_back(solve_round_.host[k].slot);
  }
  if (wanted.empty()) return;
  fetch_coefficients(solve_round_, wanted);
}

void CudaWorkingSetBackend::fetch_coefficients(const Round& round, std::span<const Index> wanted) {
  for (const Index s : wanted) offset_of_slot_[at(s)] = 0;
  Index total = 0;
  for (Index k = 0; k < round.count; ++k) {
    const Index s = round.host[k].slot;
    offset_staging_[k] = -1;
    if (offset_of_slot_[at(s)] != 0) continue;
    offset_staging_[k] = total;
    total += slots_[at(s)].report.n_nonzero;
  }
  for (Index k = 0; k < round.count; ++k) {
    offset_of_slot_[at(round.host[k].slot)] = offset_staging_[k];
  }
  copy_to_device(offset_staging_.data(), round.count, offsets_, stream_);
  harvest_coefficients(state_, round.device.data(), round.count,
                       {offsets_, harvest_feature_, harvest_value_}, stream_);
  copy_to_host(harvest_feature_, total, feature_staging_.data(), stream_);
  copy_to_host(harvest_value_, total, value_staging_.data(), stream_);
  stream_.wait();
}

Harvest CudaWorkingSetBackend::harvest(Index s, Index, bool want_residual) {
  use_device(limits_);
  const Slot& slot = slots_[at(s)];
  if (slot.wants_coef && offset_of_slot_[at(s)] < 0) {
    // One that was not expected to be accepted; the others' are copied again with it.
    std::vector<Index> wanted = {s};
    for (Index k = 0; k < solve_round_.count; ++k) {
      const Index other = solve_round_.host[k].slot;
      if (offset_of_slot_[at(other)] >= 0) wanted.push_back(other);
    }
    std::fill(offset_of_slot_.begin(), offset_of_slot_.end(), -1);
    fetch_coefficients(solve_round_, wanted);
  }
  Harvest out;
  const Index first = offset_of_slot_[at(s)];
  if (slot.wants_coef) out.coef.reserve(at(slot.report.n_nonzero));
  for (Index k = first; slot.wants_coef && k < first + slot.report.n_nonzero; ++k) {
    out.coef.emplace_back(feature_staging_[k], value_staging_[k]);
  }
  out.sums.loss = slot.report.loss;
  out.sums.held_out =
      slot.has_held_out ? slot.report.held_out : std::numeric_limits<double>::quiet_NaN();
  out.iterations = slot.report.iterations;
  out.dependent = slot.report.n_dependent > 0;
  if (want_residual) {
    out.residual.resize(at(state_.n));
    copy_to_host(state_.residual + s * state_.n, state_.n, out.residual.data(), stream_);
    stream_.wait();
  }
  return out;
}

void CudaWorkingSetBackend::refine(Index slot, Index) {
  // Products start from exact ones every time; what can be worn out is the inverse.
  slots_[at(slot)].rebuild = true;
}

void CudaWorkingSetBackend::advance(Index s, Index) {
  Slot& slot = slots_[at(s)];
  slot.lambda_now = slot.lambda;
  slot.n_support = slot.report.n_nonzero;
}

}  // namespace thresher::cuda
