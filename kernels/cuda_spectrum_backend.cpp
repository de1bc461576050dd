#include "cuda_spectrum_backend.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "backend/lanczos.hpp"
#include "column_squares.cuh"
#include "complete_gram.cuh"
#include "correct_spectrum.cuh"
#include "cuda_lane.hpp"
#include "device_memory.hpp"
#include "gather_columns.cuh"
#include "measure_ridge.cuh"
#include "shrink_spectrum.cuh"
#include "thresher/error.hpp"

namespace thresher::cuda {
namespace {

constexpr double kUnit = 0.5 * std::numeric_limits<double>::epsilon();  // one rounding
constexpr std::size_t kKeptShare = 4;  // matrices X that are kept take this part of free memory

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

Index product(Index a, Index b) {
  Index size = 0;
  if (__builtin_mul_overflow(a, b, &size)) {
    throw Error(Errc::kOutOfMemory, "ridge: matrix must fit the address space, got " +
                                        std::to_string(a) + " x " + std::to_string(b));
  }
  return size;
}

/// The distinct responses of some columns, ascending, and where each column finds its own.
struct Responses {
  std::vector<Index> distinct;
  std::vector<Index> place;    // (columns)
  std::vector<double> lambda;  // (columns)

  Responses(const SpectrumColumn* columns, Index count) {
    for (Index c = 0; c < count; ++c) {
      distinct.push_back(columns[c].response);
      lambda.push_back(columns[c].lambda);
    }
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    for (Index c = 0; c < count; ++c) {
      place.push_back(std::lower_bound(distinct.begin(), distinct.end(), columns[c].response) -
                      distinct.begin());
    }
  }

  /// to (rows, distinct) = the columns of `from` (rows, any) they stand for; neighbours at once.
  void upload(Lane& lane, const double* from, Index rows, double* to) const {
    for (std::size_t first = 0; first < distinct.size();) {
      std::size_t last = first + 1;
      while (last < distinct.size() && distinct[last] == distinct[last - 1] + 1) ++last;
      lane.upload(from + distinct[first] * rows, rows * static_cast<Index>(last - first),
                  to + static_cast<Index>(first) * rows);
      first = last;
    }
  }
};

/// Calls use(panel, first, cols) for panels of columns of the host matrix H (rows, cols), each in
/// device memory for what `use` enqueues: freeing it waits for the device.
template <class Use>
void for_each_panel(Lane& lane, const double* H, Index rows, Index cols, Use&& use) {
  if (rows == 0 || cols == 0) return;
  const Index width = lane.columns_at_a_time(rows, cols);
  const DeviceArray<double> panel(product(rows, width));
  for (Index first = 0; first < cols; first += width) {
    const Index w = std::min(width, cols - first);
    lane.upload(H + first * rows, rows * w, panel.data());
    use(panel.data(), first, w);
  }
}

/// out (h, count) = H right, H (h, inner), all in host memory.
void multiply(Lane& lane, Index h, Index inner, const double* H, Index count, const double* right,
              double* out) {
  if (h == 0 || count == 0) return;
  const Index width = lane.columns_at_a_time(inner + h, count);
  const DeviceArray<double> b(product(inner, width));
  DeviceArray<double> c(product(h, width));
  for (Index first = 0; first < count; first += width) {
    const Index w = std::min(width, count - first);
    lane.upload(right + first * inner, inner * w, b.data());
    c.zero(lane.stream());
    for_each_panel(lane, H, h, inner, [&](const double* panel, Index j, Index cols) {
      lane.gemm(false, false, h, w, cols, 1.0, panel, h, b.data() + j, inner, 1.0, c.data(), h);
    });
    lane.download(c.data(), h * w, out + first * h);
  }
}

class CudaSpectrum final : public Spectrum {
 public:
  CudaSpectrum(std::shared_ptr<Lane> lane, RidgeSystem&& system, bool want_map)
      : lane_(std::move(lane)), m_(system.m), p_(system.p), has_delta_(!system.delta.empty()) {
    row_space_ = !has_delta_ && m_ < p_;
    k_ = row_space_ ? m_ : p_;
    const Index size = product(k_, k_);
    A_ = DeviceArray<double>(product(m_, p_));
    lane_->upload(system.A.data(), A_.size(), A_.data());
    delta_ = DeviceArray<double>(has_delta_ ? p_ : 0);
    lane_->upload(system.delta.data(), delta_.size(), delta_.data());

    const DeviceArray<double> gram(size);
    lane_->gram_lower(!row_space_, k_, row_space_ ? p_ : m_, A_.data(), gram.data());
    complete_gram({gram.data(), delta_.data(), k_}, stream());
    U_ = DeviceArray<double>(size);
    s_ = DeviceArray<double>(k_);
    copy_on_device(gram.data(), size, U_.data(), stream());
    converged_ = lane_->symmetric_eigen(k_, U_.data(), s_.data());
    if (!converged_) return;

    values_.resize(at(k_));
    lane_->download(s_.data(), k_, values_.data());
    const double top = k_ > 0 ? std::max(std::fabs(values_.front()), std::fabs(values_.back())) : 0;
    cutoff_ = static_cast<double>(std::max(m_, p_)) * 2.0 * kUnit * top;
    for (double& s : values_) s = std::max(s, 0.0);  // a Gram matrix has no others
    lane_->upload(values_.data(), k_, s_.data());

    norm_ = std::sqrt(sum_squares(m_, p_, A_.data()));
    double trace = norm_ * norm_;
    for (const double d : system.delta) trace += d;
    const double frobenius = std::sqrt(sum_squares(k_, k_, gram.data()));
    const DeviceArray<double> E(size);
    lane_->gemm(false, false, k_, k_, k_, 1.0, gram.data(), k_, U_.data(), k_, 0.0, E.data(), k_);
    // |fl(K) - K| <= inner u |A||A'|, whose Frobenius norm is at most the trace; then the product
    // with U: k u | |K||U| |_F <= k sqrt(k) u |K|_F. Roundings of A's entries, a few of each, are
    // among the 16.
    const double inner = static_cast<double>((row_space_ ? p_ : m_) + 16);
    const double k = static_cast<double>(k_ + 2);
    defect_ = std::sqrt(sum_squares(k_, k_, E.data(), U_.data(), s_.data())) +
              kUnit * (inner * trace + k * std::sqrt(k) * frobenius);
    if (row_space_ && want_map) {
      map_ = DeviceArray<double>(product(p_, k_));
      lane_->gemm(true, false, p_, k_, m_, 1.0, A_.data(), m_, U_.data(), k_, 0.0, map_.data(), p_);
    }
  }

  bool converged() const { return converged_; }
  bool row_space() const override { return row_space_; }
  bool has_delta() const override { return has_delta_; }
  Index size() const override { return k_; }
  const std::vector<double>& values() const override { return values_; }
  double cutoff() const override { return cutoff_; }
  double defect() const override { return defect_; }

  void rotate(Index count, const double* Y, double* Z, double* defects) const override {
    const Turn turn(*lane_);
    const Index width = lane_->columns_at_a_time(m_ + (row_space_ ? 0 : p_) + k_, count);
    const DeviceArray<double> y(product(m_, width)), c(row_space_ ? 0 : product(p_, width));
    const DeviceArray<double> z(product(k_, width)), squares(3 * width);
    std::vector<double> sums(at(3 * width));
    double* const source = row_space_ ? y.data() : c.data();
    const double a = row_space_ ? 0.0 : norm_;
    const double k = static_cast<double>(k_ + 2);
    for (Index first = 0; first < count; first += width) {
      const Index w = std::min(width, count - first);
      lane_->upload(Y + first * m_, m_ * w, y.data());
      if (!row_space_) {
        lane_->gemm(true, false, p_, w, m_, 1.0, A_.data(), m_, y.data(), m_, 0.0, c.data(), p_);
      }
      lane_->gemm(true, false, k_, w, k_, 1.0, U_.data(), k_, source, k_, 0.0, z.data(), k_);
      column_squares({y.data(), nullptr, nullptr, squares.data(), m_, w}, stream());
      column_squares({z.data(), nullptr, nullptr, squares.data() + w, k_, w}, stream());
      lane_->gemm(false, false, k_, w, k_, -1.0, U_.data(), k_, z.data(), k_, 1.0, source, k_);
      column_squares({source, nullptr, nullptr, squares.data() + 2 * w, k_, w}, stream());
      lane_->download(z.data(), k_ * w, Z + first * k_);
      lane_->download(squares.data(), 3 * w, sums.data());
      for (Index r = 0; r < w; ++r) {
        defects[first + r] = std::sqrt(sums[at(2 * w + r)]) +
                             kUnit * (k * std::sqrt(k) * std::sqrt(sums[at(w + r)]) +
                                      static_cast<double>(m_ + 16) * a * std::sqrt(sums[at(r)]));
      }
    }
  }

  void shrink(const std::vector<SpectrumColumn>& columns, const double* Z, double* T,
              ShrunkSums* sums) const override {
    const Turn turn(*lane_);
    const Index count = static_cast<Index>(columns.size());
    const Index width = lane_->columns_at_a_time(2 * k_, count);
    const DeviceArray<double> z(product(k_, width)), t(product(k_, width)), lambda(width);
    const DeviceArray<Index> place(width);
    const DeviceArray<ShrunkSums> found(width);
    for (Index first = 0; first < count; first += width) {
      const Index w = std::min(width, count - first);
      const Responses responses(columns.data() + first, w);
      responses.upload(*lane_, Z, k_, z.data());
      lane_->upload(responses.place.data(), w, place.data());
      lane_->upload(responses.lambda.data(), w, lambda.data());
      shrink_spectrum({s_.data(), cutoff_, z.data(), place.data(), lambda.data(), t.data(),
                       found.data(), k_, w},
                      stream());
      lane_->download(t.data(), k_ * w, T + first * k_);
      lane_->download(found.data(), w, sums + first);
    }
  }

  void map_rows(Index h, const double* H, double* HM) const override {
    if (h == 0 || k_ == 0) return;
    const Turn turn(*lane_);
    DeviceArray<double> mapped(product(h, k_));
    mapped.zero(stream());
    if (row_space_) {
      DeviceArray<double> inner(product(h, m_));
      inner.zero(stream());
      for_each_panel(*lane_, H, h, p_, [&](const double* panel, Index j, Index cols) {
        lane_->gemm(false, true, h, m_, cols, 1.0, panel, h, A_.data() + j * m_, m_, 1.0,
                    inner.data(), h);
      });
      lane_->gemm(false, false, h, k_, m_, 1.0, inner.data(), h, U_.data(), k_, 0.0, mapped.data(),
                  h);
    } else {
      for_each_panel(*lane_, H, h, p_, [&](const double* panel, Index j, Index cols) {
        lane_->gemm(false, false, h, k_, cols, 1.0, panel, h, U_.data() + j, k_, 1.0, mapped.data(),
                    h);
      });
    }
    lane_->download(mapped.data(), mapped.size(), HM);
  }

  void predict(Index h, Index size, const double* HM, Index count, const double* T,
               double* out) const override {
    const Turn turn(*lane_);
    multiply(*lane_, h, size, HM, count, T, out);
  }

  void predict_from(Index h, const double* H, Index count, const double* beta,
                    double* out) const override {
    const Turn turn(*lane_);
    multiply(*lane_, h, p_, H, count, beta, out);
  }

  void coefficients(Index count, const double* T, double* beta) const override {
    const Turn turn(*lane_);
    const Index width = lane_->columns_at_a_time(k_ + p_ + m_, count);
    const DeviceArray<double> t(product(k_, width)), b(product(p_, width));
    const DeviceArray<double> alpha(alpha_size(width));
    for (Index first = 0; first < count; first += width) {
      const Index w = std::min(width, count - first);
      lane_->upload(T + first * k_, k_ * w, t.data());
      map(w, t.data(), alpha.data(), 0.0, b.data());
      lane_->download(b.data(), p_ * w, beta + first * p_);
    }
  }

  void refine(const std::vector<SpectrumColumn>& columns, const double* Y, double* T, double* beta,
              RidgeMeasure* measures) const override {
    const Turn turn(*lane_);
    const Index count = static_cast<Index>(columns.size());
    const Index width = lane_->columns_at_a_time(3 * m_ + 2 * p_ + 2 * k_, count);
    const DeviceArray<double> y(product(m_, width)), r(product(m_, width));
    const DeviceArray<double> b(product(p_, width)), gradient(row_space_ ? 0 : product(p_, width));
    const DeviceArray<double> t(product(k_, width)), d(product(k_, width)), lambda(width);
    const DeviceArray<double> alpha(alpha_size(width));
    const DeviceArray<Index> place(width);
    const DeviceArray<RidgeMeasure> found(width);
    for (Index first = 0; first < count; first += width) {
      const Index w = std::min(width, count - first);
      const Responses responses(columns.data() + first, w);
      responses.upload(*lane_, Y, m_, y.data());
      lane_->upload(responses.place.data(), w, place.data());
      lane_->upload(responses.lambda.data(), w, lambda.data());
      lane_->upload(beta + first * p_, p_ * w, b.data());
      lane_->upload(T + first * k_, k_ * w, t.data());

      gather_columns<double>({y.data(), place.data(), r.data(), m_, w}, stream());
      lane_->gemm(false, false, m_, w, p_, -1.0, A_.data(), m_, b.data(), p_, 1.0, r.data(), m_);
      if (!row_space_) {
        lane_->gemm(true, false, p_, w, m_, 1.0, A_.data(), m_, r.data(), m_, 0.0, gradient.data(),
                    p_);
      }
      measure_ridge({lambda.data(), delta_.data(), r.data(), b.data(), gradient.data(),
                     found.data(), m_, p_, w},
                    stream());
      lane_->gemm(true, false, k_, w, k_, 1.0, U_.data(), k_,
                  row_space_ ? r.data() : gradient.data(), k_, 0.0, d.data(), k_);
      const double top = k_ > 0 ? values_.back() + defect_ : 0.0;
      correct_spectrum({s_.data(), cutoff_, top, row_space_, lambda.data(), d.data(), t.data(),
                        found.data(), k_, w},
                       stream());
      map(w, d.data(), alpha.data(), 1.0, b.data());

      lane_->download(t.data(), k_ * w, T + first * k_);
      lane_->download(b.data(), p_ * w, beta + first * p_);
      lane_->download(found.data(), w, measures + first);
    }
  }

  void sample_vectors(double* S) const override {
    const Turn turn(*lane_);
    if (row_space_) {
      lane_->download(U_.data(), U_.size(), S);
      return;
    }
    const Index width = lane_->columns_at_a_time(m_, k_);
    const DeviceArray<double> part(product(m_, width));
    for (Index first = 0; first < k_; first += width) {
      const Index w = std::min(width, k_ - first);
      lane_->gemm(false, false, m_, w, p_, 1.0, A_.data(), m_, U_.data() + first * k_, k_, 0.0,
                  part.data(), m_);
      lane_->download(part.data(), m_ * w, S + first * m_);
    }
  }

 private:
  cudaStream_t stream() const { return lane_->stream(); }

  /// |X - V diag(scale)|_F^2, or |X|_F^2.
  double sum_squares(Index rows, Index cols, const double* X, const double* V = nullptr,
                     const double* scale = nullptr) const {
    const DeviceArray<double> squares(cols);
    std::vector<double> sums(at(cols));
    column_squares({X, V, scale, squares.data(), rows, cols}, stream());
    lane_->download(squares.data(), cols, sums.data());
    double sum = 0.0;
    for (const double x : sums) sum += x;
    return sum;
  }

  /// Elements that map() needs beside its operands.
  Index alpha_size(Index count) const {
    return row_space_ && map_.size() == 0 ? product(m_, count) : 0;
  }

  /// out (p, count) = M T + beta out; alpha: see alpha_size.
  void map(Index count, const double* T, double* alpha, double beta, double* out) const {
    if (!row_space_) {
      lane_->gemm(false, false, p_, count, k_, 1.0, U_.data(), k_, T, k_, beta, out, p_);
    } else if (map_.size() > 0) {
      lane_->gemm(false, false, p_, count, k_, 1.0, map_.data(), p_, T, k_, beta, out, p_);
    } else {
      lane_->gemm(false, false, m_, count, k_, 1.0, U_.data(), k_, T, k_, 0.0, alpha, m_);
      lane_->gemm(true, false, p_, count, m_, 1.0, A_.data(), m_, alpha, m_, beta, out, p_);
    }
  }

  std::shared_ptr<Lane> lane_;  // outlives the arrays
  Index m_;
  Index p_;
  Index k_ = 0;
  bool has_delta_;
  bool row_space_ = false;
  bool converged_ = false;
  DeviceArray<double> A_;      // (m, p)
  DeviceArray<double> delta_;  // (p), or none
  DeviceArray<double> U_;      // (k, k)
  DeviceArray<double> s_;      // (k)
  DeviceArray<double> map_;    // (p, k) A'U, or none
  std::vector<double> values_;
  double norm_ = 0.0;  // |A|_F
  double cutoff_ = 0.0;
  double defect_ = 0.0;
};

class CudaSpectrumBackend final : public SpectrumBackend {
 public:
  explicit CudaSpectrumBackend(const DeviceLimits& limits)
      : lane_(std::make_shared<Lane>(limits)) {}

  std::unique_ptr<Spectrum> decompose(RidgeSystem&& system, bool want_map) const override {
    const Turn turn(*lane_);
    auto out = std::make_unique<CudaSpectrum>(lane_, std::move(system), want_map);
    if (!out->converged()) return nullptr;
    return out;
  }

  void residuals(Index n, Index p, const double* X, Index count, const double* B,
                 double* R) const override {
    if (n == 0 || count == 0) return;
    const Turn turn(*lane_);
    const Index width = lane_->columns_at_a_time(n + p, count);
    const DeviceArray<double> b(product(p, width)), r(product(n, width));
    for (Index first = 0; first < count; first += width) {
      const Index w = std::min(width, count - first);
      lane_->upload(B + first * p, p * w, b.data());
      lane_->upload(R + first * n, n * w, r.data());
      for_each_kept_panel(X, n, p, [&](const double* panel, Index j, Index cols) {
        lane_->gemm(false, false, n, w, cols, -1.0, panel, n, b.data() + j, p, 1.0, r.data(), n);
      });
      lane_->download(r.data(), n * w, R + first * n);
    }
  }

  void correlate(Index n, Index p, const double* X, Index count, const double* Z,
                 double* G) const override {
    if (p == 0 || count == 0) return;
    const Turn turn(*lane_);
    const Index width = lane_->columns_at_a_time(n + p, count);
    const DeviceArray<double> z(product(n, width));
    DeviceArray<double> g(product(p, width));
    for (Index first = 0; first < count; first += width) {
      const Index w = std::min(width, count - first);
      lane_->upload(Z + first * n, n * w, z.data());
      g.zero(lane_->stream());
      for_each_kept_panel(X, n, p, [&](const double* panel, Index j, Index cols) {
        lane_->gemm(true, false, cols, w, n, 1.0, panel, n, z.data(), n, 0.0, g.data() + j, p);
      });
      lane_->download(g.data(), p * w, G + first * p);
    }
  }

  double top_eigenvalue(const RidgeSystem& system) const override {
    if (system.m == 0 || system.p == 0) return 0.0;
    const Turn turn(*lane_);
    const Index m = system.m, p = system.p, k = std::min(m, p);
    const bool rows = m < p;
    const DeviceArray<double> A(product(m, p)), x(k), other(std::max(m, p));
    lane_->upload(system.A.data(), A.size(), A.data());
    return lanczos_top_eigenvalue(
        k,
        [&](const double* v, double* next) {
          lane_->upload(v, k, x.data());
          const auto times = [&](bool trans, const double* from, double* to) {
            lane_->gemm(trans, false, trans ? p : m, 1, trans ? m : p, 1.0, A.data(), m, from,
                        trans ? m : p, 0.0, to, trans ? p : m);
          };
          times(rows, x.data(), other.data());
          times(!rows, other.data(), x.data());
          lane_->download(x.data(), k, next);
        },
        [&](Index size, double* T, double* w) {
          const DeviceArray<double> matrix(size * size), values(size);
          lane_->upload(T, size * size, matrix.data());
          const bool converged = lane_->symmetric_eigen(size, matrix.data(), values.data());
          lane_->download(matrix.data(), size * size, T);
          lane_->download(values.data(), size, w);
          return converged;
        });
  }

 private:
  struct Kept {
    const double* host;
    Index rows, cols;
    DeviceArray<double> device;
  };

  /// As for_each_panel, in one piece if X is kept on the device; it is from its first use on, where
  /// it fits, until matrices that came later need the room.
  template <class Use>
  void for_each_kept_panel(const double* X, Index rows, Index cols, Use&& use) const {
    if (rows == 0 || cols == 0) return;
    for (const Kept& kept : kept_) {
      if (kept.host != X || kept.rows != rows || kept.cols != cols) continue;
      use(kept.device.data(), 0, cols);
      return;
    }
    const Index room = static_cast<Index>(lane_->free_bytes() / kKeptShare / sizeof(double));
    const Index size = product(rows, cols);
    if (size > room) {
      for_each_panel(*lane_, X, rows, cols, use);
      return;
    }
    Index held = 0;
    for (const Kept& kept : kept_) held += kept.device.size();
    while (held > room - size) {
      held -= kept_.front().device.size();
      kept_.pop_front();
    }
    DeviceArray<double> device(size);
    lane_->upload(X, size, device.data());
    kept_.push_back({X, rows, cols, std::move(device)});
    use(kept_.back().device.data(), 0, cols);
  }

  std::shared_ptr<Lane> lane_;
  mutable std::list<Kept> kept_;  // oldest first; under the lane's turn
};

}  // namespace

std::unique_ptr<SpectrumBackend> make_spectrum_backend(const DeviceLimits& limits) {
  return std::make_unique<CudaSpectrumBackend>(limits);
}

}  // namespace thresher::cuda
