#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "thresher/error.hpp"
#include "thresher/fit.hpp"

// One function per instruction set, chosen when the library is loaded. Sums run in the same order
// without fused multiply-add in all of them, so the bits agree. Sanitizers start too late for that.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define THRESHER_PREDICT_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define THRESHER_PREDICT_CLONES
#endif

namespace thresher {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw Error(Errc::kInvalidArgument, "predict: " + what);
}

std::string text(Index value) { return std::to_string(value); }

std::size_t size(Index n) { return static_cast<std::size_t>(n); }

// Copies of X's rows in flight: they should stay in the second-level cache. Untuned.
constexpr Index kBlockBytes = Index{1} << 20;
constexpr Index kLane = 8;      // rows are padded to this, so that the loops need no tail
constexpr Index kMinRows = 32;  // fewer, and filling the dense panel costs as much as using it
constexpr Index kMaxRows = 256;
constexpr Index kTogether = 4;  // responses that share one pass over dense columns

// x * 0 is 0 for finite x and NaN otherwise, so a sum tells whether all are finite.
template <class T>
bool all_finite(const MatrixView<const T>& X) {
  const bool rows_inside = std::abs(X.row_stride) <= std::abs(X.col_stride);
  const Index outer = rows_inside ? X.cols : X.rows;
  const Index inner = rows_inside ? X.rows : X.cols;
  const Index outer_stride = rows_inside ? X.col_stride : X.row_stride;
  const Index inner_stride = rows_inside ? X.row_stride : X.col_stride;
  for (Index o = 0; o < outer; ++o) {
    const T* line = X.data + o * outer_stride;
    T sum = 0;
    for (Index i = 0; i < inner; ++i) sum += line[i * inner_stride] * T{0};
    if (!(sum == T{0})) return false;
  }
  return true;
}

template <class T>
void check_finite(const MatrixView<const T>& X) {
  if (all_finite(X)) return;
  for (Index i = 0; i < X.rows; ++i) {
    for (Index j = 0; j < X.cols; ++j) {
      if (!std::isfinite(X(i, j))) {
        refuse("X must be finite, got " + std::to_string(X(i, j)) + " in row " + text(i) +
               ", column " + text(j) + " (counted from 0)");
      }
    }
  }
}

// One response's coefficients, by place among the columns that any response uses.
struct Sparse {
  double intercept = 0.0;
  const double* values = nullptr;
  const Index* features = nullptr;
  Index count = 0;
};

// sums[i] = b0 + sum_k x(i, column k) b_k in the order of k, for the rows of one block.
THRESHER_PREDICT_CLONES
void multiply_sparse(const double* block, Index n_rows, const Sparse& coef, const Index* place,
                     double* sums) {
  for (Index i = 0; i < n_rows; ++i) sums[i] = coef.intercept;
  for (Index k = 0; k < coef.count; ++k) {
    const double* column = block + place[coef.features[k]] * n_rows;
    const double b = coef.values[k];
    for (Index i = 0; i < n_rows; ++i) sums[i] += column[i] * b;
  }
}

// The same for kTogether responses whose coefficients lie in panel[column * kTogether + t]: the
// sums of kLane rows stay in registers while the columns pass by.
THRESHER_PREDICT_CLONES
void multiply_dense(const double* block, Index n_rows, Index n_columns, const double* panel,
                    const double* intercept, double* sums) {
  for (Index i = 0; i < n_rows; i += kLane) {
    double sum[kTogether][kLane];
    for (Index t = 0; t < kTogether; ++t) {
      for (Index l = 0; l < kLane; ++l) sum[t][l] = intercept[t];
    }
    for (Index c = 0; c < n_columns; ++c) {
      const double* x = block + c * n_rows + i;
      const double* b = panel + c * kTogether;
      for (Index t = 0; t < kTogether; ++t) {
        for (Index l = 0; l < kLane; ++l) sum[t][l] += x[l] * b[t];
      }
    }
    for (Index t = 0; t < kTogether; ++t) {
      for (Index l = 0; l < kLane; ++l) sums[t * n_rows + i + l] = sum[t][l];
    }
  }
}

// block(i, c) = X(first + i, columns[c]), column-major with leading dimension n_rows; rows past the
// end of X are 0.
template <class T>
void pack(const MatrixView<const T>& X, Index first, Index n_rows,
          const std::vector<Index>& columns, double* block) {
  const Index there = std::min(n_rows, X.rows - first);
  const T* rows = X.data + first * X.row_stride;
  if (std::abs(X.row_stride) <= std::abs(X.col_stride)) {
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const T* from = rows + columns[c] * X.col_stride;
      double* to = block + static_cast<Index>(c) * n_rows;
      for (Index i = 0; i < there; ++i) to[i] = static_cast<double>(from[i * X.row_stride]);
    }
    return;
  }
  for (Index i = 0; i < there; ++i) {
    const T* from = rows + i * X.row_stride;
    for (std::size_t c = 0; c < columns.size(); ++c) {
      block[static_cast<Index>(c) * n_rows + i] =
          static_cast<double>(from[columns[c] * X.col_stride]);
    }
  }
}

template <class T>
void multiply(const MatrixView<const T>& X, const std::vector<Sparse>& coefs,
              MatrixView<double> out) {
  check_finite(X);
  // Only columns with a coefficient are copied; place[j] is column j's position in the copy.
  std::vector<Index> place(size(X.cols), -1);
  for (const Sparse& coef : coefs) {
    for (Index k = 0; k < coef.count; ++k) place[size(coef.features[k])] = 0;
  }
  std::vector<Index> columns;
  for (Index j = 0; j < X.cols; ++j) {
    if (place[size(j)] < 0) continue;
    place[size(j)] = static_cast<Index>(columns.size());
    columns.push_back(j);
  }
  const Index n_columns = static_cast<Index>(columns.size());
  const Index n_responses = static_cast<Index>(coefs.size());

  const Index fitting = kBlockBytes / (std::max<Index>(n_columns, 1) * Index{sizeof(double)});
  const Index wanted = std::min(std::clamp(fitting, kMinRows, kMaxRows), X.rows);
  const Index n_rows = (wanted + kLane - 1) / kLane * kLane;
  std::vector<double> block(size(n_columns * n_rows), 0.0);
  std::vector<double> sums(size(kTogether * n_rows));
  std::vector<double> panel;

  // Neighbouring responses go through the dense kernel where at least half of its work counts.
  const auto is_dense = [&](Index r) {
    if (r + kTogether > n_responses || n_columns == 0) return false;
    Index used = 0;
    for (Index t = 0; t < kTogether; ++t) used += coefs[size(r + t)].count;
    return used >= n_columns * kTogether / 2;
  };
  for (Index first = 0; first < X.rows; first += n_rows) {
    pack(X, first, n_rows, columns, block.data());
    const Index there = std::min(n_rows, X.rows - first);
    for (Index r = 0; r < n_responses;) {
      const bool dense = is_dense(r);
      const Index together = dense ? kTogether : 1;
      if (dense) {
        panel.assign(size(n_columns * kTogether), 0.0);
        double intercept[kTogether];
        for (Index t = 0; t < kTogether; ++t) {
          const Sparse& coef = coefs[size(r + t)];
          intercept[t] = coef.intercept;
          for (Index k = 0; k < coef.count; ++k) {
            panel[size(place[size(coef.features[k])] * kTogether + t)] = coef.values[k];
          }
        }
        multiply_dense(block.data(), n_rows, n_columns, panel.data(), intercept, sums.data());
      } else {
        multiply_sparse(block.data(), n_rows, coefs[size(r)], place.data(), sums.data());
      }
      for (Index t = 0; t < together; ++t) {
        for (Index i = 0; i < there; ++i) out(first + i, r + t) = sums[size(t * n_rows + i)];
      }
      r += together;
    }
  }
}

}  // namespace

void predict(const Model& model, const AnyMatrix& X,
             const std::vector<std::pair<Index, Index>>& choice, MatrixView<double> out) {
  if (cols(X) != model.n_features) {
    refuse("X must have the model's " + text(model.n_features) + " columns, got " + text(cols(X)));
  }
  if (static_cast<Index>(choice.size()) != model.n_responses) {
    refuse("choice must have one entry for each of the " + text(model.n_responses) +
           " responses, got " + text(static_cast<Index>(choice.size())));
  }
  if (out.rows != rows(X) || out.cols != model.n_responses) {
    refuse("out must be " + text(rows(X)) + " x " + text(model.n_responses) + ", got " +
           text(out.rows) + " x " + text(out.cols));
  }
  std::vector<Sparse> coefs;
  coefs.reserve(choice.size());
  for (Index r = 0; r < model.n_responses; ++r) {
    const auto [a, l] = choice[size(r)];
    const std::string fit_text = "fit (" + text(a) + ", " + text(l) + ") of response " + text(r);
    if (a < 0 || a >= model.n_l1_ratios || l < 0 || l >= model.n_lambdas) {
      refuse("choice must be in [0, " + text(model.n_l1_ratios) + ") x [0, " +
             text(model.n_lambdas) + "), got " + fit_text);
    }
    const std::size_t f = size(model.fit(r, a, l));
    if (model.status[f] == static_cast<std::uint8_t>(Status::kNotComputed)) {
      refuse("choice must be a fit that was computed, got " + fit_text);
    }
    if (!model.coef_kept[f]) {
      refuse("choice must be a fit whose coefficients were kept, got " + fit_text);
    }
    const Index begin = model.coef_indptr[f];
    coefs.push_back({model.intercept[f], model.coef_values.data() + begin,
                     model.coef_indices.data() + begin, model.coef_indptr[f + 1] - begin});
  }
  std::visit([&](const auto& view) { multiply(view, coefs, out); }, X);
}

}  // namespace thresher
