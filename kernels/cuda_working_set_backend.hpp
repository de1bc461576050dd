#pragma once

#include <cuda_fp16.h>

#include <map>
#include <memory>
#include <vector>

#include "backend/accelerator.hpp"
#include "cuda_context.hpp"
#include "device_memory.hpp"
#include "half_columns.cuh"
#include "working_set_memory.hpp"
#include "working_set_state.hpp"

namespace thresher::cuda {

/// WorkingSetBackend on a GPU. Everything a problem needs stays on the device; what crosses in a
/// round is one RoundSlot down and one SlotReport up per problem, and the finished coefficients.
///
///     choose, extend Gram, products of newcomers, exact solves      one lambda of every slot
///     residuals, one matrix product with X, exact products of W, proof for the rest, gap
///
/// All memory is taken by the constructor.
class CudaWorkingSetBackend final : public WorkingSetBackend {
 public:
  CudaWorkingSetBackend(const DeviceLimits& limits, const WorkingSetTask& task);

  Index n_slots() const override { return n_slots_; }
  // A large batch reads X once per round.
  Index max_look_ahead(Index) const override { return 1; }
  Index first_look_ahead() const override { return 1; }
  void load(std::span<const Index> slots, std::span<const Problem* const> problems) override;
  void choose_working_sets(std::span<const PathBlock> blocks) override;
  void solve_working_sets(std::span<const PathBlock> blocks, Index max_iterations) override;
  void correlate(std::span<const PathBlock> blocks) override;
  void certify(std::span<const PathBlock> blocks, std::span<CandidateReport> reports) override;
  Harvest harvest(Index slot, Index k, bool want_residual) override;
  void refine(Index slot, Index k) override;
  void advance(Index slot, Index k) override;

 private:
  /// What the host remembers of a slot.
  struct Slot {
    const Problem* problem = nullptr;
    Index column = -1;  // of the packed residuals and correlations
    double lambda = 0.0;
    double lambda_now = 0.0;
    Index n_support = 0;
    bool rebuild = false;
    bool wants_coef = true;  // at `lambda`
    SlotReport report{};
    bool has_held_out = false;
  };
  /// A list of slots on its way to the device: pinned, so that the copy need not be waited for.
  struct Round {
    PinnedArray<RoundSlot> host;
    DeviceArray<RoundSlot> device;
    Index count = 0;
  };

  void plan(const WorkingSetTask& task);
  void take_memory();
  void upload_columns(const WorkingSetTask& task);
  void upload_rows(const WorkingSetTask& task);
  void upload_factors(const WorkingSetTask& task);
  void compute_grams();
  void send(Round& round);
  void send_blocks(Round& round, std::span<const PathBlock> blocks);
  void update_residuals(const Round& round);
  void multiply_columns(Index first, Index count);
  void exact_gradient(const Round& round, bool only_new);
  void fetch_coefficients(const Round& round, std::span<const Index> wanted);

  DeviceLimits limits_;
  const Columns& columns_;
  bool gram_mode_;
  bool half_;
  bool direct_columns_ = false;
  Index n_slots_;
  Index half_rows_ = 0;
  Index n_bases_ = 0;  // doubles of projection bases per slot
  Stream stream_;
  Blas blas_;
  WorkingSetMemory memory_;
  WorkingSetState state_;
  HalfColumns half_columns_;
  std::map<const RowWeighting*, RowsView> rows_;
  std::map<const Penalties*, FactorsView> factors_;
  ProblemView* problems_ = nullptr;
  double* basis_ = nullptr;  // (n_bases) per slot
  float* half_correlations_ = nullptr;
  double* correlations_ = nullptr;
  __half* packed_half_ = nullptr;
  double* packed_ = nullptr;

  Round load_round_, choose_round_, solve_round_;
  std::vector<Slot> slots_;
  PinnedArray<ProblemView> problem_staging_;
  PinnedArray<double> response_staging_, held_out_staging_;
  PinnedArray<SlotReport> report_staging_;

  // Coefficients of the last round.
  Index* offsets_ = nullptr;
  Index* harvest_feature_ = nullptr;
  double* harvest_value_ = nullptr;
  PinnedArray<Index> offset_staging_, feature_staging_;
  PinnedArray<double> value_staging_;
  std::vector<Index> offset_of_slot_;  // -1: not fetched

  Drain drain_{stream_};
};

}  // namespace thresher::cuda
