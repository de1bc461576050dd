#include "setup/columns.hpp"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <new>
#include <string>
#include <thread>

#include "backend/simd.hpp"
#include "thresher/error.hpp"

namespace thresher {
namespace {

/// One block of columns as contiguous vectors: borrowed where X is column-major, else gathered.
template <class T>
class BlockReader {
 public:
  BlockReader(const MatrixView<const T>& X, Index first, Index last)
      : X_(X), first_(first), last_(last) {
    if (X.row_stride == 1) return;
    const auto n = static_cast<std::size_t>(X.rows);
    values_.resize(n * static_cast<std::size_t>(last - first));
    // Rows outermost: a row-major X is then read in memory order.
    for (Index i = 0; i < X.rows; ++i) {
      const T* source = X.data + i * X.row_stride + first * X.col_stride;
      T* target = values_.data() + i;
      for (Index j = first; j < last; ++j, source += X.col_stride, target += n) *target = *source;
    }
  }

  const T* column(Index j) const {
    if (values_.empty()) return X_.data + j * X_.col_stride;
    return values_.data() + (j - first_) * X_.rows;
  }
  /// What to ask memory for while column j is read: the next one, if columns are over before the
  /// processor finds out that they are read in order.
  const T* after(Index j) const {
    constexpr Index kShort = 2048;
    return column(X_.rows <= kShort ? std::min(j + 1, last_ - 1) : j);
  }

 private:
  MatrixView<const T> X_;
  Index first_, last_;
  std::vector<T> values_;
};

ColumnCentred centre(Index n, const double* x, double mean, double scale, double* out,
                     const double* next) {
  return simd().centre_f64(n, x, mean, scale, out, next);
}
ColumnCentred centre(Index n, const float* x, double mean, double scale, double* out,
                     const float* next) {
  return simd().centre_f32(n, x, mean, scale, out, next);
}
ColumnScan scan(Index n, const double* x, const std::uint8_t* counts) {
  return simd().scan_f64(n, x, counts);
}
ColumnScan scan(Index n, const float* x, const std::uint8_t* counts) {
  return simd().scan_f32(n, x, counts);
}

void centred_dots(Index n, const double* const* x, const double* mean, const double* scale,
                  Index count, const double* z, double* out) {
  simd().centred_dots_f64(n, x, mean, scale, count, z, out);
}
void centred_dots(Index n, const float* const* x, const double* mean, const double* scale,
                  Index count, const double* z, double* out) {
  simd().centred_dots_f32(n, x, mean, scale, count, z, out);
}

/// 2^-exponent and its products are far from under- and overflow.
bool in_range(int exponent) { return exponent > -1000 && exponent < 1000; }

/// (x - mean) * 2^-exponent; two factors where the power itself is out of range.
template <class T>
ColumnCentred centre_by_exponent(Index n, const T* x, double mean, int exponent, double* out,
                                 const T* next) {
  if (in_range(exponent)) {
    return centre(n, x, mean, std::ldexp(1.0, -exponent), out, next);
  }
  ColumnCentred told{0.0, 0.0, 0.0};
  for (Index i = 0; i < n; ++i) {
    out[i] = std::ldexp(static_cast<double>(x[i]) - mean, -exponent);
    told.squares += out[i] * out[i];
    told.sum += out[i];
    told.max_abs = std::max(told.max_abs, std::fabs(out[i]));
  }
  return told;
}

void shift(Index n, const double* x, double mean, double scale, double* out) {
  simd().shift_f64(n, x, mean, scale, out);
}
void shift(Index n, const float* x, double mean, double scale, double* out) {
  simd().shift_f32(n, x, mean, scale, out);
}
void shift(Index n, const double* x, double mean, double scale, float* out) {
  simd().narrow_f64(n, x, mean, scale, out);
}
void shift(Index n, const float* x, double mean, double scale, float* out) {
  simd().narrow_f32(n, x, mean, scale, out);
}

template <class T, class Out>
void shift_by_exponent(Index n, const T* x, double mean, int exponent, Out* out) {
  if (in_range(exponent)) {
    shift(n, x, mean, std::ldexp(1.0, -exponent), out);
    return;
  }
  for (Index i = 0; i < n; ++i) {
    out[i] = static_cast<Out>(std::ldexp(static_cast<double>(x[i]) - mean, -exponent));
  }
}

double round_up(double value) {
  return value * (1.0 + 1e-10);  // far above the rounding of a sum of squares, far below any bound
}

// Columns whose products are formed together.
constexpr std::size_t kAtOnce = 64;

// max|xhat| >= 2^kLeastRange keeps half precision away from its subnormals.
constexpr int kLeastRange = -4;

Index n_blocks(Index p) { return (p + kColumnBlock - 1) / kColumnBlock; }

}  // namespace

void Columns::Free::operator()(void* p) const { std::free(p); }

Columns::Columns(const AnyMatrix& X, bool do_centre, const std::vector<std::uint8_t>& counts,
                 const ThreadPool& pool, bool build_all, const Visitor& visit)
    : X_(X), n_(rows(X)), p_(cols(X)), centre_(do_centre) {
  const auto p = static_cast<std::size_t>(p_);
  mean_.assign(p, 0.0);
  max_abs_.assign(p, 0.0);
  norm_.assign(p, 0.0);
  squares_.assign(p, 0.0);
  exponent_.assign(p, 0);

  // Untouched pages of this allocation cost nothing, so lazy columns need no second structure. By
  // malloc, since glibc then keeps up to 32 MB for the next call; what aligned_alloc gave it maps
  // anew each time, and clearing 20 MB took a tenth of a path on 5,000 x 500.
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  const std::size_t bytes = static_cast<std::size_t>(n_) * p * sizeof(double);
  std::size_t room = bytes + kHugePage;
  storage_.reset(std::malloc(room));
  if (!storage_) {
    throw Error(Errc::kOutOfMemory,
                "fit: X must fit in memory, need " + std::to_string(bytes) + " bytes");
  }
  void* start = storage_.get();
  values_ = static_cast<double*>(std::align(kHugePage, bytes, start, room));
  // Huge pages save most page faults, but make lazy columns commit their neighbours too.
  madvise(values_, bytes, build_all || bytes <= kLittleMatrix ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  built_ = std::make_unique<std::atomic<std::uint8_t>[]>(p);

  const double n_counted =
      counts.empty() ? static_cast<double>(n_)
                     : static_cast<double>(std::count_if(counts.begin(), counts.end(),
                                                         [](std::uint8_t c) { return c != 0; }));
  const double eps = std::numeric_limits<double>::epsilon();
  const std::uint8_t* count_data = counts.empty() ? nullptr : counts.data();
  std::mutex bad_mutex;
  Index bad_column = p_;

  std::visit(
      [&](const auto& view) {
        pool.run(n_blocks(p_), [&](Index block, int) {
          const Index first = block * kColumnBlock;
          const Index last = std::min(p_, first + kColumnBlock);
          const BlockReader reader(view, first, last);
          std::vector<double> buffer(build_all ? 0 : static_cast<std::size_t>(n_));
          for (Index j = first; j < last; ++j) {
            double* out = build_all ? values_ + j * n_ : buffer.data();
            const auto* x = reader.column(j);
            const ColumnScan seen = scan(n_, x, count_data);
            if (!seen.finite) {
              const std::lock_guard lock(bad_mutex);
              bad_column = std::min(bad_column, j);
              return;
            }
            const std::size_t at_j = at(j);
            max_abs_[at_j] = seen.max_abs;
            // A first mean from the sum, corrected by the mean of what is left: exact to rounding
            // also when the sum has cancelled or the values are huge.
            double mean = 0.0;
            if (centre_ && n_counted > 0) {
              mean = seen.sum / n_counted;
              if (!std::isfinite(mean)) mean = 0.0;
            }
            // Scaled by the exponent max|x| asks for at most; if that leaves little of the range,
            // or the mean was not exact, once more with better ones.
            int exponent = 0;
            if (seen.max_abs > 0.0) std::frexp(seen.max_abs, &exponent);
            if (centre_) ++exponent;
            ColumnCentred told = centre_by_exponent(n_, x, mean, exponent, out, reader.after(j));
            int finer = 0;
            if (told.max_abs > 0.0) std::frexp(told.max_abs, &finer);
            const double left_sum =
                count_data == nullptr ? told.sum : simd().scan_f64(n_, out, count_data).sum;
            const double left_mean = centre_ && n_counted > 0 ? left_sum / n_counted : 0.0;
            if (finer > 0 || finer < kLeastRange || std::fabs(left_mean) > eps * told.max_abs) {
              mean += std::ldexp(left_mean, exponent);
              exponent += finer;
              told = centre_by_exponent(n_, x, mean, exponent, out, x);
            }
            mean_[at_j] = mean;
            exponent_[at_j] = exponent;
            const double squares = told.squares;
            double counted_squares = squares;
            if (count_data != nullptr) {
              counted_squares = 0.0;
              for (Index i = 0; i < n_; ++i) {
                if (count_data[i] != 0) counted_squares += out[i] * out[i];
              }
            }
            const double sd = std::sqrt(counted_squares / std::max(1.0, n_counted));
            const double noise =
                static_cast<double>(n_) * eps * std::ldexp(seen.max_abs, -exponent);
            if (centre_ && counts.empty() && sd <= noise) {
              norm_[at_j] = 0.0;  // constant: exact zeros
              exponent_[at_j] = 0;
              std::fill(out, out + n_, 0.0);
            } else {
              norm_[at_j] = round_up(std::sqrt(squares));
              squares_[at_j] = squares;
            }
            if (build_all) built_[at_j].store(2, std::memory_order_release);
            if (visit) visit(j, out);
          }
        });
      },
      X_);

  all_built_.store(build_all, std::memory_order_release);

  if (bad_column < p_) {
    for (Index i = 0; i < n_; ++i) {
      const double value = element(X_, i, bad_column);
      if (!std::isfinite(value)) {
        throw Error(Errc::kInvalidArgument,
                    "fit: X must be finite, got " +
                        std::string(std::isnan(value) ? "NaN" : "infinity") + " in row " +
                        std::to_string(i) + ", column " + std::to_string(bad_column));
      }
    }
  }
}

template <class Out>
void Columns::compute(Index j, Index first, Index count, Out* out) const {
  if (norm_[at(j)] == 0.0) {
    std::fill(out, out + count, Out{0});
    return;
  }
  std::visit(
      [&]<class T>(const MatrixView<const T>& view) {
        const MatrixView<const T> part{view.data + first * view.row_stride, count, view.cols,
                                       view.row_stride, view.col_stride};
        const BlockReader reader(part, j, j + 1);
        shift_by_exponent(count, reader.column(j), mean_[at(j)], exponent_[at(j)], out);
      },
      X_);
}

void Columns::compute_rows(Index j, Index first, Index count, double* out) const {
  compute(j, first, count, out);
}

void Columns::compute_rows(Index j, Index first, Index count, float* out) const {
  compute(j, first, count, out);
}

const double* Columns::read_rows(Index j, Index first, Index count, double* buffer) const {
  if (built_[at(j)].load(std::memory_order_acquire) == 2) return values_ + j * n_ + first;
  compute_rows(j, first, count, buffer);
  return buffer;
}

void Columns::prefetch_rows(Index j, Index first, Index count) const {
  const auto prefetch = [&]<class T>(const T* x) {
    constexpr Index kLine = 64 / static_cast<Index>(sizeof(T));
    for (Index i = 0; i < count; i += kLine) __builtin_prefetch(x + first + i);
  };
  if (built_[at(j)].load(std::memory_order_acquire) == 2) {
    prefetch(values_ + j * n_);
    return;
  }
  std::visit(
      [&](const auto& view) {
        if (view.row_stride == 1) prefetch(view.data + j * view.col_stride);
      },
      X_);
}

const double* Columns::column(Index j) const {
  std::atomic<std::uint8_t>& state = built_[at(j)];
  double* out = values_ + j * n_;
  if (state.load(std::memory_order_acquire) == 2) return out;
  std::uint8_t expected = 0;
  if (state.compare_exchange_strong(expected, 1)) {
    compute_column(j, out);
    state.store(2, std::memory_order_release);
  } else {
    while (state.load(std::memory_order_acquire) != 2) sched_yield();
  }
  return out;
}

void Columns::dots(std::span<const Index> features, const double* z, double* out) const {
  std::visit(
      [&]<class T>(const MatrixView<const T>& view) {
        for (std::size_t first = 0; first < features.size(); first += kAtOnce) {
          const std::size_t last = std::min(features.size(), first + kAtOnce);
          const double* kept[kAtOnce];
          const T* given[kAtOnce];
          double mean[kAtOnce], scale[kAtOnce];
          std::size_t place[kAtOnce], n_kept = 0, n_given = 0;  // the given ones from the end
          for (std::size_t k = first; k < last; ++k) {
            const Index j = features[k];
            const bool read = view.row_stride == 1 && norm_[at(j)] != 0.0 &&
                              in_range(exponent_[at(j)]) &&
                              built_[at(j)].load(std::memory_order_acquire) != 2;
            if (read) {
              given[n_given] = view.data + j * view.col_stride;
              mean[n_given] = mean_[at(j)];
              scale[n_given++] = std::ldexp(1.0, -exponent_[at(j)]);
              place[kAtOnce - n_given] = k;
            } else {
              place[n_kept] = k;
              kept[n_kept++] = column(j);
            }
          }
          double sums[kAtOnce];
          for (std::size_t k = first; k < last; ++k) out[k] = 0.0;
          for (Index row = 0; row < n_; row += kDotRows) {
            const Index m = std::min(kDotRows, n_ - row);
            simd().dots(m, kept, static_cast<Index>(n_kept), z + row, sums);
            for (std::size_t k = 0; k < n_kept; ++k) {
              out[place[k]] += sums[k];
              kept[k] += m;
            }
            centred_dots(m, given, mean, scale, static_cast<Index>(n_given), z + row, sums);
            for (std::size_t k = 0; k < n_given; ++k) {
              out[place[kAtOnce - 1 - k]] += sums[k];
              given[k] += m;
            }
          }
        }
      },
      X_);
}

void Columns::build_all(const ThreadPool& pool) const {
  std::visit(
      [&](const auto& view) {
        pool.run(n_blocks(p_), [&](Index block, int) {
          const Index first = block * kColumnBlock;
          const Index last = std::min(p_, first + kColumnBlock);
          const BlockReader reader(view, first, last);
          for (Index j = first; j < last; ++j) {
            if (built_[at(j)].load(std::memory_order_acquire) == 2) continue;
            double* out = values_ + j * n_;
            if (norm_[at(j)] == 0.0) {
              std::fill(out, out + n_, 0.0);
            } else {
              centre_by_exponent(n_, reader.column(j), mean_[at(j)], exponent_[at(j)], out,
                                 reader.after(j));
            }
            built_[at(j)].store(2, std::memory_order_release);
          }
        });
      },
      X_);
  all_built_.store(true, std::memory_order_release);
}

void Columns::for_each(const ThreadPool& pool,
                       const std::function<void(Index, const double*)>& visit) const {
  std::visit(
      [&](const auto& view) {
        pool.run(n_blocks(p_), [&](Index block, int) {
          const Index first = block * kColumnBlock;
          const Index last = std::min(p_, first + kColumnBlock);
          const BlockReader reader(view, first, last);
          std::vector<double> buffer(static_cast<std::size_t>(n_));
          for (Index j = first; j < last; ++j) {
            if (built_[at(j)].load(std::memory_order_acquire) == 2) {
              visit(j, values_ + j * n_);
              continue;
            }
            if (norm_[at(j)] == 0.0) {
              std::fill(buffer.begin(), buffer.end(), 0.0);
            } else {
              centre_by_exponent(n_, reader.column(j), mean_[at(j)], exponent_[at(j)],
                                 buffer.data(), reader.after(j));
            }
            visit(j, buffer.data());
          }
        });
      },
      X_);
}

}  // namespace thresher
