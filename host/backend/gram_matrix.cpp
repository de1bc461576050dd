#include "backend/gram_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backend/blas.hpp"

namespace thresher {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

GramRows::GramRows(const Columns& columns, const RowWeighting& weights)
    : columns_(columns), weights_(weights), plain_(weights.uniform && weights.direct.empty()) {
  if (plain_) return;
  for (const Index i : weights.rows) root_.push_back(std::sqrt(weights.weight[at(i)]));
}

GramRows::Block GramRows::read(Index first, Index m, std::span<const Index> features,
                               double* buffer) {
  const auto count = static_cast<Index>(features.size());
  // In ascending order without gaps?
  const bool together = features.back() - features.front() == count - 1 &&
                        std::is_sorted(features.begin(), features.end());
  if (plain_ && columns_.all_built() && together) {
    const Index n = columns_.n_samples();
    return {columns_.matrix() + features.front() * n + first, n};
  }
  double* out = buffer;
  for (Index k = 0; k < count; ++k, out += m) {
    const Index j = features[at(k)];
    if (k + 1 < count) columns_.prefetch_rows(features[at(k + 1)], first, m);
    const double* x = read_column(first, m, j, out);
    if (x != out) std::copy_n(x, m, out);
  }
  return {buffer, m};
}

const double* GramRows::read_column(Index first, Index m, Index j, double* buffer) {
  if (plain_) return columns_.read_rows(j, first, m, buffer);
  weigh(first, m, j, buffer);
  return buffer;
}

void GramRows::read_float(Index first, Index m, std::span<const Index> features, float* out) {
  const bool straight = plain_ && !columns_.all_built();
  if (!straight) column_.resize(at(m));
  for (std::size_t k = 0; k < features.size(); ++k, out += m) {
    if (k + 1 < features.size()) columns_.prefetch_rows(features[k + 1], first, m);
    if (straight) {
      columns_.compute_rows(features[k], first, m, out);
      continue;
    }
    const Block x = read(first, m, features.subspan(k, 1), column_.data());
    for (Index i = 0; i < m; ++i) out[i] = static_cast<float>(x.values[i]);
  }
}

void GramRows::weigh(Index first, Index m, Index j, double* out) {
  const Index begin = weights_.rows[at(first)];
  const Index end = weights_.rows[at(first + m - 1)] + 1;
  const Index direct = weights_.direct_index(j);
  const double* x = nullptr;
  if (direct < 0) {
    whole_.resize(at(end - begin));
    x = columns_.read_rows(j, begin, end - begin, whole_.data());
  } else {
    x = weights_.direct_values.data() + direct * columns_.n_samples() + begin;
  }
  const double mean = weights_.column_mean(j);
  for (Index t = 0; t < m; ++t) {
    out[t] = root_[at(first + t)] * (x[weights_.rows[at(first + t)] - begin] - mean);
  }
}

void extend(const Columns& columns, std::span<GramMatrix> grams, std::span<const Index> features,
            const ThreadPool& pool, Index every) {
  const Index old = grams.front().size();
  const Index size = old + static_cast<Index>(features.size());
  struct Task {
    std::size_t matrix;
    Index across, width, down, height;  // places
  };
  std::vector<Task> tasks;
  for (std::size_t k = 0; k < grams.size(); ++k) {
    GramMatrix& gram = grams[k];
    for (const Index j : features) {
      gram.place[at(j)] = gram.size();
      gram.features.push_back(j);
    }
    for (Index across = 0; across < size;) {
      const Index width = std::min(kGramBlock, (across < old ? old : size) - across);
      for (Index down = std::max(across, old); down < size; down += kGramBlock) {
        tasks.push_back({k, across, width, down, std::min(kGramBlock, size - down)});
      }
      across += width;
    }
  }
  pool.run(static_cast<Index>(tasks.size()), [&](Index t, int) {
    const auto& [k, across, width, down, height] = tasks[at(t)];
    GramMatrix& gram = grams[k];
    const Index ld = gram.stride();
    const std::span<const Index> order(gram.features);
    GramRows source(columns, *gram.rows);
    Index n_read = 0;
    for (Index first = 0; first < source.n_rows(); first += every * kGramRows) {
      n_read += std::min(kGramRows, source.n_rows() - first);
    }
    const double scale =
        source.scale() * static_cast<double>(source.n_rows()) / static_cast<double>(n_read);
    double* sums = gram.values.get() + across * ld + down;
    const auto left = std::make_unique_for_overwrite<double[]>(at(kGramRows * width));
    const auto right = std::make_unique_for_overwrite<double[]>(at(kGramRows * height));
    for (Index first = 0; first < source.n_rows(); first += every * kGramRows) {
      const Index m = std::min(kGramRows, source.n_rows() - first);
      const double beta = first == 0 ? 0.0 : 1.0;
      const GramRows::Block x =
          source.read(first, m, order.subspan(at(across), at(width)), left.get());
      if (across == down) {
        blas::syrk_lower(width, m, scale, x.values, x.stride, beta, sums, ld);
      } else {
        const GramRows::Block z =
            source.read(first, m, order.subspan(at(down), at(height)), right.get());
        blas::gemm(true, false, height, width, m, scale, z.values, z.stride, x.values, x.stride,
                   beta, sums, ld);
      }
    }
  });
  pool.run(static_cast<Index>(grams.size()), [&](Index k, int) {
    blas::mirror_lower(size, grams[at(k)].values.get(), grams[at(k)].stride(), old);
  });
}

std::vector<GramMatrix> make_gram_matrices(
    const Columns& columns, const std::vector<std::shared_ptr<const RowWeighting>>& rows,
    const ThreadPool& pool) {
  std::vector<GramMatrix> out;
  for (const auto& weights : rows) out.emplace_back(weights, columns.n_features());
  std::vector<Index> all(at(columns.n_features()));
  std::iota(all.begin(), all.end(), Index{0});
  extend(columns, out, all, pool);
  return out;
}

void copy_held_out(const Columns& columns, std::span<const Problem> problems,
                   std::vector<GramMatrix>& grams, const ThreadPool& pool) {
  for (const Problem& problem : problems) {
    if (problem.keep_coef || problem.projector || !problem.rows->direct.empty()) continue;
    for (GramMatrix& gram : grams) {
      if (gram.rows != problem.rows || !gram.held_out.empty()) continue;
      gram.held_out = problem.held_out;
      gram.held_out_values.assign(at(gram.held_out_stride() * columns.n_features()), 0.0);
    }
  }
  const auto copied = [](const GramMatrix& gram) { return !gram.held_out.empty(); };
  if (std::none_of(grams.begin(), grams.end(), copied)) return;
  columns.for_each(pool, [&](Index j, const double* x) {
    for (GramMatrix& gram : grams) {
      double* out = gram.held_out_values.data() + j * gram.held_out_stride();
      for (const Index i : gram.held_out) *out++ = x[i] - gram.rows->column_mean(j);
    }
  });
}

std::size_t gram_scratch_bytes(Index n_samples) {
  return at(2 * kGramRows * kGramBlock + n_samples) * sizeof(double);
}

}  // namespace thresher
