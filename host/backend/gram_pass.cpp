#include "backend/gram_pass.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

#include "backend/blas.hpp"
#include "backend/gram_matrix.hpp"
#include "backend/simd.hpp"

namespace thresher {
namespace {

constexpr Index kParts = 4;
// Long enough to be read from memory at nearly its speed; covered features at a time so that they
// stay in the cache.
constexpr Index kPassRows = 4096;
constexpr Index kPassColumns = 64;
// Rows summed in float before the sum joins one in double: few, because the bound of the rounding
// decides how many features cannot be told from violators.
constexpr Index kFloatRows = 256;
// Where covered features are asked for: candidates at a time, since early ones use few of the
// features, and rows of all covered features that the cache holds.
constexpr Index kTogether = 6;
constexpr Index kInCache = 1 << 16;
constexpr Index kLeastRows = 64, kMostRows = 1024;
// Outside features at a time.
constexpr Index kFloatColumns = 16;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// A power of two that brings a residual of about this norm near 1.
double range_of(double norm) {
  int exponent = 0;
  if (norm > 0.0 && std::isfinite(norm)) std::frexp(norm, &exponent);
  return std::ldexp(1.0, std::clamp(-exponent, -1000, 1000));
}

/// One part's share, with room to work in.
class PassPart {
 public:
  PassPart(const Columns& columns, const RowWeighting& rows, const PassRequest& request)
      : source_(columns, rows), request_(request) {
    const auto n_covered = static_cast<Index>(request.covered.size());
    const Index m = request.n_candidates;
    sums.squares.assign(at(m), 0.0);
    if (request.want_covered) {
      sums.covered.assign(at(n_covered * m), 0.0);
      columns_.resize(at(n_covered));
      part_.resize(at(n_covered * kTogether));
      x_ = std::make_unique_for_overwrite<double[]>(at(rows_at_once(request) * n_covered));
      r_ = std::make_unique_for_overwrite<double[]>(at(rows_at_once(request) * kTogether));
      for (Index c = 0; c < m; c += kTogether) {
        const Index together = std::min(kTogether, m - c);
        for (Index j = 0; j < request.n_covered[at(c + together - 1)]; ++j) {
          for (Index k = c; k < c + together; ++k) {
            minus_coef_.push_back(-request.coef[at(k * n_covered + j)]);
          }
        }
      }
      return;
    }
    sums.outside.assign(request.outside.size() * at(m), 0.0);
    const Index width = std::min(kPassColumns, n_covered);
    x_ = std::make_unique_for_overwrite<double[]>(at(kPassRows * width));
    r_ = std::make_unique_for_overwrite<double[]>(at(kPassRows * m));
    z_ = std::make_unique_for_overwrite<float[]>(at(kPassRows * m));
    x_float_ = std::make_unique_for_overwrite<float[]>(at(kPassRows * kFloatColumns));
    products_ = std::make_unique_for_overwrite<float[]>(at(kFloatColumns * m));
  }

  static Index rows_at_once(const PassRequest& request) {
    if (!request.want_covered) return kPassRows;
    const Index fit = kInCache / std::max<Index>(1, static_cast<Index>(request.covered.size()));
    return std::clamp(fit / kLeastRows * kLeastRows, kLeastRows, kMostRows);
  }

  void read(Index first, Index m) {
    if (request_.want_covered) {
      certify(first, m);
      return;
    }
    residuals(first, m);
    if (!request_.outside.empty()) outside(first, m);
  }

  PassResult sums;

 private:
  /// r and its squares.
  void residuals(Index first, Index m) {
    const auto n_covered = static_cast<Index>(request_.covered.size());
    const Index count = request_.n_candidates;
    for (Index c = 0; c < count; ++c) {
      std::copy_n(request_.response.data() + first, m, r_.get() + c * m);
    }
    for (Index j = 0; j < n_covered; j += kPassColumns) {
      const Index width = std::min(kPassColumns, n_covered - j);
      const GramRows::Block x =
          source_.read(first, m, request_.covered.subspan(at(j), at(width)), x_.get());
      blas::gemm(false, false, m, count, width, -1.0, x.values, x.stride, request_.coef.data() + j,
                 n_covered, 1.0, r_.get(), m);
    }
    for (Index c = 0; c < count; ++c) add_squares(c, m, r_.get() + c * m);
  }

  /// r, its squares, and products with covered features, which all stay in the cache meanwhile.
  void certify(Index first, Index m) {
    const auto n_covered = static_cast<Index>(request_.covered.size());
    for (Index k = 0; k < n_covered; ++k) {
      columns_[at(k)] = source_.read_column(first, m, request_.covered[at(k)], x_.get() + k * m);
    }
    const double* minus_coef = minus_coef_.data();
    for (Index c = 0; c < request_.n_candidates; c += kTogether) {
      const Index together = std::min(kTogether, request_.n_candidates - c);
      const Index in_use = request_.n_covered[at(c + together - 1)];
      const double* r[kTogether];
      for (Index k = 0; k < together; ++k) {
        std::copy_n(request_.response.data() + first, m, r_.get() + k * m);
        r[k] = r_.get() + k * m;
      }
      simd().update(m, columns_.data(), in_use, minus_coef, together, r_.get(), m);
      minus_coef += in_use * together;
      for (Index k = 0; k < together; ++k) add_squares(c + k, m, r[k]);
      simd().cross(m, columns_.data(), in_use, r, together, part_.data(), in_use);
      for (Index k = 0; k < together; ++k) {
        double* sum = sums.covered.data() + (c + k) * n_covered;
        const double* from = part_.data() + k * in_use;
        for (Index j = 0; j < in_use; ++j) sum[j] += source_.scale() * from[j];
      }
    }
  }

  void add_squares(Index candidate, Index m, const double* r) {
    sums.squares[at(candidate)] += source_.scale() * simd().dot(m, r, r);
  }

  void outside(Index first, Index m) {
    const auto n_outside = static_cast<Index>(request_.outside.size());
    const Index count = request_.n_candidates;
    for (Index c = 0; c < count; ++c) {
      const double share = range_of(request_.root_squares[at(c)]);
      const double* r = r_.get() + c * m;
      float* z = z_.get() + c * m;
      for (Index i = 0; i < m; ++i) z[i] = static_cast<float>(share * r[i]);
    }
    for (Index j = 0; j < n_outside; j += kFloatColumns) {
      const Index width = std::min(kFloatColumns, n_outside - j);
      source_.read_float(first, m, request_.outside.subspan(at(j), at(width)), x_float_.get());
      for (Index i = 0; i < m; i += kFloatRows) {
        blas::gemm(true, false, width, count, std::min(kFloatRows, m - i), 1.0F, x_float_.get() + i,
                   m, z_.get() + i, m, 0.0F, products_.get(), width);
        for (Index c = 0; c < count; ++c) {
          const double back = source_.scale() / range_of(request_.root_squares[at(c)]);
          double* to = sums.outside.data() + c * n_outside + j;
          const float* from = products_.get() + c * width;
          for (Index k = 0; k < width; ++k) to[k] += back * static_cast<double>(from[k]);
        }
      }
    }
  }

  GramRows source_;
  const PassRequest& request_;
  std::unique_ptr<double[]> x_, r_;
  std::vector<const double*> columns_;
  std::vector<double> minus_coef_;  // of kTogether candidates at a time: (covered, candidates)
  std::vector<double> part_;
  std::unique_ptr<float[]> z_, x_float_, products_;
};

void add(std::vector<double>& sum, const std::vector<double>& part) {
  for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += part[k];
}

}  // namespace

PassResult read_through(const Columns& columns, const RowWeighting& rows,
                        const PassRequest& request, const ThreadPool& pool) {
  const auto n_rows = static_cast<Index>(rows.rows.size());
  const Index at_once = PassPart::rows_at_once(request);
  const Index n_chunks = (n_rows + at_once - 1) / at_once;
  const Index n_parts = std::min(kParts, n_chunks);
  std::vector<PassResult> parts(at(n_parts));
  pool.run(n_parts, [&](Index t, int) {
    PassPart part(columns, rows, request);
    for (Index k = t * n_chunks / n_parts; k < (t + 1) * n_chunks / n_parts; ++k) {
      part.read(k * at_once, std::min(at_once, n_rows - k * at_once));
    }
    parts[at(t)] = std::move(part.sums);
  });
  PassResult out = std::move(parts.front());
  for (std::size_t t = 1; t < parts.size(); ++t) {
    add(out.squares, parts[t].squares);
    add(out.covered, parts[t].covered);
    add(out.outside, parts[t].outside);
  }
  for (const double norm : request.root_squares) {
    out.floor.push_back(static_cast<double>(n_rows) * 0x1p-147 / range_of(norm));
  }
  return out;
}

// Rounding of x and r to float and of as many products and sums as are taken in it, the norms' own
// rounding and sums in double covered by 1.01; |x_j| |r| bounds what the chunks add up to
// (Cauchy-Schwarz). Below is what a number or product loses where float ends.
double PassResult::error(double norm, std::size_t candidate) const {
  constexpr double kShare = 1.01 * (static_cast<double>(kFloatRows) + 4.0) * 0x1p-24;
  return kShare * norm * std::sqrt(squares[candidate]) + floor[candidate];
}

}  // namespace thresher
