// The inner loops of simd.hpp. Included once per instruction set, inside its own namespace and with
// its own compiler flags; includes nothing that has inline functions, so that no code built for a
// newer processor can be picked by the linker for an older one.

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
using Doubles = double __attribute__((vector_size(kBytes), aligned(8), may_alias));
using Floats = float __attribute__((vector_size(kBytes), aligned(4), may_alias));
using Places = std::int64_t __attribute__((vector_size(kBytes)));
constexpr Index kDoubles = kBytes / 8;
constexpr Index kFloats = kBytes / 4;

inline Doubles load(const double* p) { return *reinterpret_cast<const Doubles*>(p); }
inline Doubles load(const float* p) {
  Doubles out;
  for (int k = 0; k < kDoubles; ++k) out[k] = static_cast<double>(p[k]);
  return out;
}
/// The first `count` of them, then zeros.
template <class T>
Doubles load_some(const T* p, Index count) {
  double out[kDoubles] = {};
  for (Index k = 0; k < count; ++k) out[k] = static_cast<double>(p[k]);
  return load(out);
}
#if defined(__AVX512F__)
inline Doubles load_some(const double* p, Index count) {
  return (Doubles)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << count) - 1u), p);
}
#endif
inline void store(double* p, Doubles v) { *reinterpret_cast<Doubles*>(p) = v; }
inline void store_some(double* p, Doubles v, Index count) {
  for (Index k = 0; k < count; ++k) p[k] = v[k];
}

// Sums neighbours until one is left, as cross_tile's totals do.
inline double total(Doubles v) {
  double lane[kDoubles];
  for (int k = 0; k < kDoubles; ++k) lane[k] = v[k];
  for (Index width = kDoubles / 2; width > 0; width /= 2) {
    for (Index k = 0; k < width; ++k) lane[k] = lane[2 * k] + lane[2 * k + 1];
  }
  return lane[0];
}

/// The neighbours of a, then those of b, summed.
inline Doubles sum_neighbours(Doubles a, Doubles b) {
  Places even, odd;
  for (int k = 0; k < kDoubles; ++k) {
    even[k] = 2 * k;
    odd[k] = 2 * k + 1;
  }
  return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}

/// v[0 .. kDoubles - 1] summed each; spoils v.
inline Doubles totals(Doubles* v) {
  for (Index count = kDoubles / 2; count > 0; count /= 2) {
#pragma GCC unroll 8
    for (Index k = 0; k < count; ++k) v[k] = sum_neighbours(v[2 * k], v[2 * k + 1]);
  }
  return v[0];
}

inline float half_to_float(std::uint16_t h) {
  // Shifting the exponent field into place leaves a value that is 2^112 too small, also for
  // subnormal halves; the multiplication is exact.
  const std::uint32_t magnitude = static_cast<std::uint32_t>(h & 0x7fffu) << 13;
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  return __builtin_bit_cast(
      float,
      __builtin_bit_cast(std::uint32_t, __builtin_bit_cast(float, magnitude) * 0x1p112f) | sign);
}

/// Nearest half, ties to even, for |x| <= 1 (the range of xhat).
inline std::uint16_t double_to_half(double x) {
  const double magnitude = x < 0 ? -x : x;
  // Adding 2^(e+42) with e the exponent of x rounds to 11 significant bits; below 2^-14 the spacing
  // of halves is 2^-24 throughout.
  std::uint64_t bits = __builtin_bit_cast(std::uint64_t, magnitude);
  std::int64_t exponent = static_cast<std::int64_t>(bits >> 52) - 1023;
  if (exponent < -14) exponent = -14;
  const double big =
      __builtin_bit_cast(double, static_cast<std::uint64_t>(exponent + 42 + 1023) << 52);
  const double rounded = (magnitude + big) - big;
  // `rounded` is a half exactly: read its fields off a float scaled by 2^-112.
  const float scaled = static_cast<float>(rounded) * 0x1p-112f;
  const std::uint32_t field = __builtin_bit_cast(std::uint32_t, scaled) >> 13;
  return static_cast<std::uint16_t>(field | (x < 0 ? 0x8000u : 0u));
}

inline Floats halves_to_floats(const std::uint16_t* p) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
  return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  Floats out;
  for (int k = 0; k < kFloats; ++k) out[k] = half_to_float(p[k]);
  return out;
#endif
}

inline Floats load_floats(const std::uint16_t* p) { return halves_to_floats(p); }
inline Floats load_floats(const float* p) { return *reinterpret_cast<const Floats*>(p); }

template <class T>
ColumnScan scan(Index n, const T* x, const std::uint8_t* counts) {
  double sums[4] = {0, 0, 0, 0};
  double largest[4] = {0, 0, 0, 0};
  // x - x is 0 for finite x and NaN otherwise; the sum of these keeps the NaN.
  double poison[4] = {0, 0, 0, 0};
  const auto visit = [&](Index i, int lane) {
    const double v = static_cast<double>(x[i]);
    poison[lane] += v - v;
    if (counts != nullptr && counts[i] == 0) return;
    const double magnitude = v < 0 ? -v : v;
    sums[lane] += v;
    largest[lane] = magnitude > largest[lane] ? magnitude : largest[lane];
  };
  Index i = 0;
  if (counts == nullptr) {
    Doubles sum0{}, sum1{}, big0{}, big1{}, bad{};
    for (; i + 2 * kDoubles <= n; i += 2 * kDoubles) {
      const Doubles v0 = load(x + i), v1 = load(x + i + kDoubles);
      sum0 += v0;
      sum1 += v1;
      bad += (v0 - v0) + (v1 - v1);
      const Doubles m0 = v0 < 0 ? -v0 : v0;
      const Doubles m1 = v1 < 0 ? -v1 : v1;
      big0 = m0 > big0 ? m0 : big0;
      big1 = m1 > big1 ? m1 : big1;
    }
    sums[0] = total(sum0 + sum1);
    poison[0] = total(bad);
    for (int k = 0; k < kDoubles; ++k) {
      const double m = big0[k] > big1[k] ? big0[k] : big1[k];
      largest[0] = m > largest[0] ? m : largest[0];
    }
  }
  for (; i < n; ++i) visit(i, static_cast<int>(i & 3));
  ColumnScan out;
  out.sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double big = largest[0];
  for (int k = 1; k < 4; ++k) big = largest[k] > big ? largest[k] : big;
  out.max_abs = big;
  const double poisoned = (poison[0] + poison[1]) + (poison[2] + poison[3]);
  out.finite = poisoned == 0.0;
  return out;
}

ColumnScan scan_f64(Index n, const double* x, const std::uint8_t* counts) {
  return scan(n, x, counts);
}
ColumnScan scan_f32(Index n, const float* x, const std::uint8_t* counts) {
  return scan(n, x, counts);
}

template <class T>
ColumnCentred centre(Index n, const T* x, double mean, double scale, double* out, const T* next) {
  constexpr Index kLine = 64 / static_cast<Index>(sizeof(T));
  Doubles s0{}, s1{}, sum0{}, sum1{}, big{};
  Index i = 0;
  for (; i + 2 * kDoubles <= n; i += 2 * kDoubles) {
    Doubles v0 = load(x + i), v1 = load(x + i + kDoubles);
    v0 = (v0 - mean) * scale;
    v1 = (v1 - mean) * scale;
    store(out + i, v0);
    store(out + i + kDoubles, v1);
#pragma GCC unroll 2
    for (Index k = 0; k < 2 * kDoubles; k += kLine) __builtin_prefetch(next + i + k, 0, 2);
    s0 += v0 * v0;
    s1 += v1 * v1;
    sum0 += v0;
    sum1 += v1;
    const Doubles m0 = v0 < 0 ? -v0 : v0;
    const Doubles m1 = v1 < 0 ? -v1 : v1;
    big = m0 > big ? m0 : big;
    big = m1 > big ? m1 : big;
  }
  ColumnCentred told{total(s0 + s1), total(sum0 + sum1), 0.0};
  for (int k = 0; k < kDoubles; ++k) told.max_abs = big[k] > told.max_abs ? big[k] : told.max_abs;
  for (; i < n; ++i) {
    out[i] = (static_cast<double>(x[i]) - mean) * scale;
    told.squares += out[i] * out[i];
    told.sum += out[i];
    const double magnitude = out[i] < 0 ? -out[i] : out[i];
    told.max_abs = magnitude > told.max_abs ? magnitude : told.max_abs;
  }
  return told;
}

ColumnCentred centre_f64(Index n, const double* x, double mean, double scale, double* out,
                         const double* next) {
  return centre(n, x, mean, scale, out, next);
}
ColumnCentred centre_f32(Index n, const float* x, double mean, double scale, double* out,
                         const float* next) {
  return centre(n, x, mean, scale, out, next);
}

template <class T, class Out>
void shift(Index n, const T* x, double mean, double scale, Out* __restrict__ out) {
  for (Index i = 0; i < n; ++i) {
    out[i] = static_cast<Out>((static_cast<double>(x[i]) - mean) * scale);
  }
}

void shift_f64(Index n, const double* x, double mean, double scale, double* out) {
  shift(n, x, mean, scale, out);
}
void shift_f32(Index n, const float* x, double mean, double scale, double* out) {
  shift(n, x, mean, scale, out);
}
void narrow_f64(Index n, const double* x, double mean, double scale, float* out) {
  shift(n, x, mean, scale, out);
}
void narrow_f32(Index n, const float* x, double mean, double scale, float* out) {
  shift(n, x, mean, scale, out);
}

double dot(Index n, const double* x, const double* y) {
  Doubles s0{}, s1{}, s2{}, s3{};
  Index i = 0;
  for (; i + 4 * kDoubles <= n; i += 4 * kDoubles) {
    s0 += load(x + i) * load(y + i);
    s1 += load(x + i + kDoubles) * load(y + i + kDoubles);
    s2 += load(x + i + 2 * kDoubles) * load(y + i + 2 * kDoubles);
    s3 += load(x + i + 3 * kDoubles) * load(y + i + 3 * kDoubles);
  }
  for (; i + kDoubles <= n; i += kDoubles) s0 += load(x + i) * load(y + i);
  double s = total((s0 + s1) + (s2 + s3));
  for (; i < n; ++i) s += x[i] * y[i];
  return s;
}

void axpy(Index n, double alpha, const double* x, double* y) {
  Index i = 0;
  for (; i + kDoubles <= n; i += kDoubles) store(y + i, load(y + i) + alpha * load(x + i));
  for (; i < n; ++i) y[i] += alpha * x[i];
}

void moments(Index n, const double* w, const double* x, double* first, double* second) {
  Doubles a0{}, a1{}, b0{}, b1{};
  Index i = 0;
  for (; i + 2 * kDoubles <= n; i += 2 * kDoubles) {
    const Doubles x0 = load(x + i), x1 = load(x + i + kDoubles);
    const Doubles p0 = load(w + i) * x0, p1 = load(w + i + kDoubles) * x1;
    a0 += p0;
    a1 += p1;
    b0 += p0 * x0;
    b1 += p1 * x1;
  }
  double a = total(a0 + a1);
  double b = total(b0 + b1);
  for (; i < n; ++i) {
    a += w[i] * x[i];
    b += w[i] * x[i] * x[i];
  }
  *first = a;
  *second = b;
}

/// A column as it lies in memory, and one that is centred while it is read: the same values and, as
/// all of it is summed as vectors, the same sums (plain loops are contracted now so, now so).
struct StoredColumn {
  const double* x;
  Doubles at(Index i) const { return load(x + i); }
  Doubles some(Index i, Index count) const { return load_some(x + i, count); }
};
template <class T>
struct CentredColumn {
  const T* x;
  double mean, scale;
  Doubles at(Index i) const { return (load(x + i) - mean) * scale; }
  Doubles some(Index i, Index count) const { return (load_some(x + i, count) - mean) * scale; }
};

// Four columns share each load of z. A column's sum does not depend on its neighbours.
template <class Column>
void dots_of(Index n, Index count, const Column& column, const double* z, double* out) {
  Index k = 0;
  for (; k + 4 <= count; k += 4) {
    const auto x0 = column(k), x1 = column(k + 1), x2 = column(k + 2), x3 = column(k + 3);
    Doubles a0{}, a1{}, a2{}, a3{}, b0{}, b1{}, b2{}, b3{};
    Index i = 0;
    for (; i + 2 * kDoubles <= n; i += 2 * kDoubles) {
      const Doubles z0 = load(z + i), z1 = load(z + i + kDoubles);
      a0 += x0.at(i) * z0;
      a1 += x1.at(i) * z0;
      a2 += x2.at(i) * z0;
      a3 += x3.at(i) * z0;
      b0 += x0.at(i + kDoubles) * z1;
      b1 += x1.at(i + kDoubles) * z1;
      b2 += x2.at(i + kDoubles) * z1;
      b3 += x3.at(i + kDoubles) * z1;
    }
    for (; i + kDoubles <= n; i += kDoubles) {
      const Doubles z0 = load(z + i);
      a0 += x0.at(i) * z0;
      a1 += x1.at(i) * z0;
      a2 += x2.at(i) * z0;
      a3 += x3.at(i) * z0;
    }
    if (i < n) {
      const Doubles z0 = load_some(z + i, n - i);
      b0 += x0.some(i, n - i) * z0;
      b1 += x1.some(i, n - i) * z0;
      b2 += x2.some(i, n - i) * z0;
      b3 += x3.some(i, n - i) * z0;
    }
    out[k] = total(a0 + b0);
    out[k + 1] = total(a1 + b1);
    out[k + 2] = total(a2 + b2);
    out[k + 3] = total(a3 + b3);
  }
  for (; k < count; ++k) {
    const auto x0 = column(k);
    Doubles a{}, b{};
    Index i = 0;
    for (; i + 2 * kDoubles <= n; i += 2 * kDoubles) {
      a += x0.at(i) * load(z + i);
      b += x0.at(i + kDoubles) * load(z + i + kDoubles);
    }
    for (; i + kDoubles <= n; i += kDoubles) a += x0.at(i) * load(z + i);
    if (i < n) b += x0.some(i, n - i) * load_some(z + i, n - i);
    out[k] = total(a + b);
  }
}

void dots(Index n, const double* const* x, Index count, const double* z, double* out) {
  dots_of(
      n, count, [&](Index k) { return StoredColumn{x[k]}; }, z, out);
}

template <class T>
void centred_dots(Index n, const T* const* x, const double* mean, const double* scale, Index count,
                  const double* z, double* out) {
  dots_of(
      n, count,
      [&](Index k) {
        return CentredColumn<T>{x[k], mean[k], scale[k]};
      },
      z, out);
}

void centred_dots_f64(Index n, const double* const* x, const double* mean, const double* scale,
                      Index count, const double* z, double* out) {
  centred_dots(n, x, mean, scale, count, z, out);
}
void centred_dots_f32(Index n, const float* const* x, const double* mean, const double* scale,
                      Index count, const double* z, double* out) {
  centred_dots(n, x, mean, scale, count, z, out);
}

// A tile of A columns against B columns keeps A * B sums in registers, so memory is read once for
// the tile; the next columns x come from farther away meanwhile.
template <Index A, Index B>
void cross_tile(Index n, const double* const* x, const double* const* next, const double* const* y,
                double* out, Index ldc) {
  constexpr Index kSums = (A * B + kDoubles - 1) / kDoubles * kDoubles;
  Doubles sum[static_cast<std::size_t>(kSums)] = {};
  Index i = 0;
  for (; i + kDoubles <= n; i += kDoubles) {
    Doubles xs[static_cast<std::size_t>(A)];
#pragma GCC unroll 8
    for (Index a = 0; a < A; ++a) xs[a] = load(x[a] + i);
#pragma GCC unroll 8
    for (Index a = 0; a < A; ++a) __builtin_prefetch(next[a] + i);
#pragma GCC unroll 8
    for (Index b = 0; b < B; ++b) {
      const Doubles ys = load(y[b] + i);
#pragma GCC unroll 8
      for (Index a = 0; a < A; ++a) sum[b * A + a] += xs[a] * ys;
    }
  }
  double whole[static_cast<std::size_t>(kSums)];
#pragma GCC unroll 8
  for (Index k = 0; k < kSums; k += kDoubles) store(whole + k, totals(sum + k));
  for (Index b = 0; b < B; ++b) {
    for (Index a = 0; a < A; ++a) {
      double t = whole[b * A + a];
      for (Index k = i; k < n; ++k) t += x[a][k] * y[b][k];
      out[b * ldc + a] = t;
    }
  }
}

// As many sums as the registers hold: most columns of y that share a reading of x.
constexpr Index kMostSides = kBytes == 64 ? 6 : 2;

template <Index B>
void cross_sides(Index n, const double* const* x, Index n_x, const double* const* y, double* out,
                 Index ldc) {
  constexpr Index kAtOnce = B == 1 ? 8 : 4;
  Index a = 0;
  for (; a + kAtOnce <= n_x; a += kAtOnce) {
    const double* const* next = a + 2 * kAtOnce <= n_x ? x + a + kAtOnce : x + a;
    cross_tile<kAtOnce, B>(n, x + a, next, y, out + a, ldc);
  }
  for (; a < n_x; ++a) cross_tile<1, B>(n, x + a, x + a, y, out + a, ldc);
}

template <Index B>
void cross_rest(Index n, const double* const* x, Index n_x, const double* const* y, Index n_y,
                double* out, Index ldc) {
  if (n_y == B) {
    cross_sides<B>(n, x, n_x, y, out, ldc);
  } else if constexpr (B > 1) {
    cross_rest<B - 1>(n, x, n_x, y, n_y, out, ldc);
  }
}

void cross(Index n, const double* const* x, Index n_x, const double* const* y, Index n_y,
           double* out, Index ldc) {
  Index b = 0;
  for (; b + kMostSides <= n_y; b += kMostSides) {
    cross_sides<kMostSides>(n, x, n_x, y + b, out + b * ldc, ldc);
  }
  cross_rest<kMostSides>(n, x, n_x, y + b, n_y - b, out + b * ldc, ldc);
}

void axpys(Index n, Index count, const double* alpha, const double* const* x, double* r) {
  Index k = 0;
  for (; k + 4 <= count; k += 4) {
    const double *x0 = x[k], *x1 = x[k + 1], *x2 = x[k + 2], *x3 = x[k + 3];
    const double c0 = alpha[k], c1 = alpha[k + 1], c2 = alpha[k + 2], c3 = alpha[k + 3];
    Index i = 0;
    for (; i + kDoubles <= n; i += kDoubles) {
      store(r + i, (load(r + i) + (c0 * load(x0 + i) + c1 * load(x1 + i))) +
                       (c2 * load(x2 + i) + c3 * load(x3 + i)));
    }
    for (; i < n; ++i) r[i] = (r[i] + (c0 * x0[i] + c1 * x1[i])) + (c2 * x2[i] + c3 * x3[i]);
  }
  for (; k < count; ++k) axpy(n, alpha[k], x[k], r);
}

// Four vectors of rows times C columns stay in registers while the sum over k runs.
template <Index C>
void update_tile(Index n, const double* const* x, Index first, Index count, const double* b,
                 Index m, double* r, Index ldr) {
  Index i = 0;
  for (; i + 4 * kDoubles <= n; i += 4 * kDoubles) {
    Doubles sum[static_cast<std::size_t>(C)][4];
    for (Index c = 0; c < C; ++c) {
      for (int v = 0; v < 4; ++v) {
        sum[c][v] = load(r + c * ldr + i + v * kDoubles);
      }
    }
    for (Index k = 0; k < count; ++k) {
      const double* xk = x[k] + first + i;
      const Doubles x0 = load(xk), x1 = load(xk + kDoubles);
      const Doubles x2 = load(xk + 2 * kDoubles), x3 = load(xk + 3 * kDoubles);
      // Columns lie far apart, so the next rows of each are asked for by hand.
      for (int v = 4; v < 8; ++v) __builtin_prefetch(xk + v * kDoubles);
      const double* bk = b + k * m;
#pragma GCC unroll 6
      for (Index c = 0; c < C; ++c) {
        sum[c][0] += x0 * bk[c];
        sum[c][1] += x1 * bk[c];
        sum[c][2] += x2 * bk[c];
        sum[c][3] += x3 * bk[c];
      }
    }
    for (Index c = 0; c < C; ++c) {
      for (int v = 0; v < 4; ++v) {
        store(r + c * ldr + i + v * kDoubles, sum[c][v]);
      }
    }
  }
  // As vectors too, so that a column's sums are the same in any company.
  for (; i < n; i += kDoubles) {
    const Index some = n - i < kDoubles ? n - i : kDoubles;
    Doubles sum[static_cast<std::size_t>(C)];
    for (Index c = 0; c < C; ++c) sum[c] = load_some(r + c * ldr + i, some);
    for (Index k = 0; k < count; ++k) {
      const Doubles x0 = load_some(x[k] + first + i, some);
#pragma GCC unroll 6
      for (Index c = 0; c < C; ++c) sum[c] += x0 * b[k * m + c];
    }
    for (Index c = 0; c < C; ++c) store_some(r + c * ldr + i, sum[c], some);
  }
}

/// Of so many columns.
template <Index C>
void update_rest(Index columns, Index n, const double* const* x, Index first, Index count,
                 const double* b, Index m, double* r, Index ldr) {
  if (columns == C) {
    update_tile<C>(n, x, first, count, b, m, r, ldr);
  } else if constexpr (C > 1) {
    update_rest<C - 1>(columns, n, x, first, count, b, m, r, ldr);
  }
}

void update(Index n, const double* const* x, Index count, const double* b, Index m, double* r,
            Index ldr) {
  // Rows in blocks: what a block reads of x serves all columns of r from the cache.
  constexpr Index kRows = 256;
  for (Index i = 0; i < n; i += kRows) {
    const Index rows = kRows < n - i ? kRows : n - i;
    Index c = 0;
    for (; c + kMostSides <= m; c += kMostSides) {
      update_tile<kMostSides>(rows, x, i, count, b + c, m, r + c * ldr + i, ldr);
    }
    update_rest<kMostSides>(m - c, rows, x, i, count, b + c, m, r + c * ldr + i, ldr);
  }
}

/// a0 b0 a1 b1 ... of the lower halves, of the upper halves.
inline void interleave(Doubles a, Doubles b, Doubles& low, Doubles& high) {
  Places first, second;
  for (int k = 0; k < kDoubles; ++k) {
    first[k] = k / 2 + (k % 2 == 0 ? 0 : kDoubles);
    second[k] = first[k] + kDoubles / 2;
  }
  low = __builtin_shuffle(a, b, first);
  high = __builtin_shuffle(a, b, second);
}

/// Of kDoubles vectors.
inline void transpose(Doubles* v) {
  Doubles w[kDoubles];
  // Each round interleaves the first half of the vectors with the second.
#pragma GCC unroll 4
  for (Index size = 1; size < kDoubles; size *= 2) {
#pragma GCC unroll 4
    for (Index f = 0; f < kDoubles / 2; ++f) {
      interleave(v[f], v[f + kDoubles / 2], w[2 * f], w[2 * f + 1]);
    }
#pragma GCC unroll 8
    for (Index f = 0; f < kDoubles; ++f) v[f] = w[f];
  }
}

void rotate(Index count, const Rotation* rotations, double* const* rows, double* x) {
  for (Index first = 0; first < kRotatedRows; first += kDoubles) {
    double* const* r = rows + first;
    Doubles carried = load(x + first);
    Index c = 0;
    for (; c + kDoubles <= count; c += kDoubles) {
      Doubles v[kDoubles];
#pragma GCC unroll 8
      for (Index f = 0; f < kDoubles; ++f) v[f] = load(r[f] + c);
      transpose(v);
#pragma GCC unroll 8
      for (Index f = 0; f < kDoubles; ++f) {
        const auto [cosine, sine] = rotations[c + f];
        // First what the next column waits for.
        const Doubles kept = cosine * carried;
        const Doubles t = v[f];
        v[f] = cosine * t + sine * carried;
        carried = kept - sine * t;
      }
      transpose(v);
#pragma GCC unroll 8
      for (Index f = 0; f < kDoubles; ++f) store(r[f] + c, v[f]);
    }
    store(x + first, carried);
    for (; c < count; ++c) {
      const auto [cosine, sine] = rotations[c];
      for (Index k = 0; k < kDoubles; ++k) {
        const double t = r[k][c];
        r[k][c] = cosine * t + sine * x[first + k];
        x[first + k] = cosine * x[first + k] - sine * t;
      }
    }
  }
}

constexpr Index kTriangleVectors = kTriangleRows / kDoubles;
// Rows whose sums, or factors, and addresses the registers hold.
constexpr Index kRowsTogether = kTriangleRows / 2;

/// Lane f in all lanes.
inline Doubles spread(Doubles v, Index f) { return __builtin_shuffle(v, Places{} + f); }

/// v in lanes first .. last - 1, else 0.
inline Doubles some_lanes(Doubles v, Index first, Index last) {
  Places lane;
  for (int k = 0; k < kDoubles; ++k) lane[k] = k;
  return lane >= first && lane < last ? v : Doubles{};
}

/// 1 / the diagonal of the square at `rows`.
inline void invert_diagonal(const double* rows, Index stride, Doubles* out) {
#pragma GCC unroll 8
  for (Index v = 0; v < kTriangleVectors; ++v) {
    Doubles diagonal;
#pragma GCC unroll 8
    for (Index f = 0; f < kDoubles; ++f) diagonal[f] = rows[(v * kDoubles + f) * (stride + 1)];
    out[v] = 1.0 / diagonal;
  }
}

void solve_forward(Index n, const double* rows, Index stride, double* x) {
  double* b = x + n;
  for (Index first = 0; first < kTriangleRows; first += kRowsTogether) {
    Doubles sum[kRowsTogether];
#pragma GCC unroll 8
    for (Index r = 0; r < kRowsTogether; ++r) sum[r] = Doubles{};
    for (Index i = 0; i < n; i += kDoubles) {
      const Doubles z = load(x + i);
#pragma GCC unroll 8
      for (Index r = 0; r < kRowsTogether; ++r) sum[r] += load(rows + (first + r) * stride + i) * z;
    }
#pragma GCC unroll 8
    for (Index r = 0; r < kRowsTogether; r += kDoubles) {
      store(b + first + r, load(b + first + r) - totals(sum + r));
    }
  }
  rows += n;
  Doubles inverse[kTriangleVectors], left[kTriangleVectors];
  invert_diagonal(rows, stride, inverse);
  for (Index v = 0; v < kTriangleVectors; ++v) left[v] = load(b + v * kDoubles);
    // Column by column of the triangle divided by its diagonal: what a column waits for is one
    // product.
#pragma GCC unroll 8
  for (Index q = 0; q < kTriangleVectors; ++q) {
    Doubles column[kTriangleVectors][kDoubles];
#pragma GCC unroll 8
    for (Index v = q; v < kTriangleVectors; ++v) {
#pragma GCC unroll 8
      for (Index f = 0; f < kDoubles; ++f) {
        column[v][f] = load(rows + (v * kDoubles + f) * stride + q * kDoubles);
      }
      transpose(column[v]);
#pragma GCC unroll 8
      for (Index f = 0; f < kDoubles; ++f) column[v][f] *= spread(inverse[q], f);
    }
#pragma GCC unroll 8
    for (Index f = 0; f < kDoubles; ++f) {
      const Doubles known = spread(left[q], f);
      left[q] -= some_lanes(column[q][f], f + 1, kDoubles) * known;
#pragma GCC unroll 8
      for (Index v = q + 1; v < kTriangleVectors; ++v) left[v] -= column[v][f] * known;
    }
    store(b + q * kDoubles, left[q] * inverse[q]);
  }
}

void solve_backward(Index n, const double* rows, Index stride, double* x) {
  double* b = x + n;
  const double* square = rows + n;
  Doubles inverse[kTriangleVectors], left[kTriangleVectors];
  invert_diagonal(square, stride, inverse);
  for (Index v = 0; v < kTriangleVectors; ++v) left[v] = load(b + v * kDoubles);
#pragma GCC unroll 8
  for (Index q = kTriangleVectors - 1; q >= 0; --q) {
#pragma GCC unroll 8
    for (Index f = kDoubles - 1; f >= 0; --f) {
      const double* row = square + (q * kDoubles + f) * stride;
      const Doubles share = spread(inverse[q], f);
      const Doubles known = spread(left[q], f);
      left[q] -= some_lanes(load(row + q * kDoubles) * share, 0, f) * known;
#pragma GCC unroll 8
      for (Index v = 0; v < q; ++v) left[v] -= load(row + v * kDoubles) * share * known;
    }
    store(b + q * kDoubles, left[q] * inverse[q]);
  }
  for (Index first = 0; first < kTriangleRows; first += kRowsTogether) {
    Doubles factor[kRowsTogether];
#pragma GCC unroll 8
    for (Index r = 0; r < kRowsTogether; ++r) factor[r] = Doubles{} + b[first + r];
    for (Index i = 0; i < n; i += kDoubles) {
      Doubles even{}, odd{};
#pragma GCC unroll 8
      for (Index r = 0; r < kRowsTogether; r += 2) {
        even += load(rows + (first + r) * stride + i) * factor[r];
        odd += load(rows + (first + r + 1) * stride + i) * factor[r + 1];
      }
      store(x + i, load(x + i) - (even + odd));
    }
  }
}

#if defined(__AVX2__)
constexpr Index kPanelWidth = kDoubles;

void pack_columns(Index n, const double* x, Index ldx, Index count, double* out) {
  for (Index j = 0; j < count; j += kPanelWidth, x += kPanelWidth * ldx, out += n * kPanelWidth) {
    const Index some = count - j < kPanelWidth ? count - j : kPanelWidth;
    Index i = 0;
    for (; some == kPanelWidth && i + kDoubles <= n; i += kDoubles) {
      Doubles v[kDoubles];
#pragma GCC unroll 8
      for (Index f = 0; f < kDoubles; ++f) v[f] = load(x + f * ldx + i);
      transpose(v);
#pragma GCC unroll 8
      for (Index f = 0; f < kDoubles; ++f) store(out + (i + f) * kPanelWidth, v[f]);
    }
    for (; i < n; ++i) {
      for (Index f = 0; f < kPanelWidth; ++f) {
        out[i * kPanelWidth + f] = f < some ? x[f * ldx + i] : 0.0;
      }
    }
  }
}

void pack_rows(Index n, const double* x, Index ldx, Index count, double* out) {
  // Lines that are written side by side may fall into one set of the cache: few at a time.
  constexpr Index kTogether = 4 * kPanelWidth;
  for (Index first = 0; first < count; first += kTogether) {
    const Index last = count - first < kTogether ? count : first + kTogether;
    for (Index i = 0; i < n; ++i) {
      const double* from = x + i * ldx;
      double* to = out + first * n + i * kPanelWidth;
      Index j = first;
      for (; j + kPanelWidth <= last; j += kPanelWidth, to += n * kPanelWidth) {
        store(to, load(from + j));
      }
      if (j < last) store(to, load_some(from + j, last - j));
    }
  }
}

template <Index A>
void multiply_tile(Index n, const double* a, const double* b, double alpha, double beta, double* c,
                   Index ldc) {
  Doubles sum[kPanelWidth][static_cast<std::size_t>(A)] = {};
  for (Index i = 0; i < n; ++i) {
    Doubles x[static_cast<std::size_t>(A)];
#pragma GCC unroll 3
    for (Index v = 0; v < A; ++v) x[v] = load(a + (v * n + i) * kPanelWidth);
#pragma GCC unroll 8
    for (Index f = 0; f < kPanelWidth; ++f) {
      const double y = b[i * kPanelWidth + f];
#pragma GCC unroll 3
      for (Index v = 0; v < A; ++v) sum[f][v] += x[v] * y;
    }
  }
  for (Index f = 0; f < kPanelWidth; ++f) {
    for (Index v = 0; v < A; ++v) {
      double* to = c + f * ldc + v * kDoubles;
      const Doubles scaled = alpha * sum[f][v];
      store(to, beta == 0.0 ? scaled : beta * load(to) + scaled);
    }
  }
}

void multiply_panels(Index n, const double* a, Index n_panels, const double* b, double alpha,
                     double beta, double* c, Index ldc) {
  if (n_panels == 3) {
    multiply_tile<3>(n, a, b, alpha, beta, c, ldc);
  } else if (n_panels == 2) {
    multiply_tile<2>(n, a, b, alpha, beta, c, ldc);
  } else {
    multiply_tile<1>(n, a, b, alpha, beta, c, ldc);
  }
}
#else
constexpr Index kPanelWidth = 0;
constexpr decltype(Simd::pack_columns) pack_columns = nullptr, pack_rows = nullptr;
constexpr decltype(Simd::multiply_panels) multiply_panels = nullptr;
#endif

double to_half(Index n, const double* x, std::uint16_t* out) {
  double s0 = 0, s1 = 0;
  Index i = 0;
#if defined(__AVX512F__)
  // Rounding twice (double to float to half) may miss the nearest half by one spacing in rare ties;
  // the error that counts is measured below either way.
  Doubles e{};
  for (; i + kFloats <= n; i += kFloats) {
    const Doubles a = load(x + i), b = load(x + i + kDoubles);
    Floats v;
    const __m256 low = _mm512_cvtpd_ps((__m512d)a), high = _mm512_cvtpd_ps((__m512d)b);
    __builtin_memcpy(&v, &low, 32);
    __builtin_memcpy(reinterpret_cast<char*>(&v) + 32, &high, 32);
    std::uint16_t h[kFloats];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(h),
                        _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    for (int k = 0; k < kFloats; ++k) out[(i + k) * kPanel] = h[k];
    const Floats back = (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<__m256i*>(h)));
    __m256 back_low, back_high;
    __builtin_memcpy(&back_low, &back, 32);
    __builtin_memcpy(&back_high, reinterpret_cast<const char*>(&back) + 32, 32);
    const Doubles d0 = a - (Doubles)_mm512_cvtps_pd(back_low);
    const Doubles d1 = b - (Doubles)_mm512_cvtps_pd(back_high);
    e += d0 * d0 + d1 * d1;
  }
  s0 = total(e);
#endif
  for (; i < n; ++i) {
    const std::uint16_t h = double_to_half(x[i]);
    out[i * kPanel] = h;
    const double d = x[i] - static_cast<double>(half_to_float(h));
    s1 += d * d;
  }
  return s0 + s1;
}

// As many right-hand sides at once as the accumulators fit the registers.
constexpr Index kVectors = kPanel / kFloats;
constexpr Index kRegisterBlock = kBytes == 64 ? kMaxRightSides : kBytes == 32 ? 2 : 1;

// P panels, `stride` apart, at once: with few right-hand sides the sums of one wait for each other.
template <Index M, Index P, class T>
void correlate_rows(Index n, const T* panel, Index stride, Index m, const float* z, float* c,
                    Index ldc) {
  Floats sum[static_cast<std::size_t>(P)][static_cast<std::size_t>(M)][kVectors] = {};
  for (Index first = 0; first < n; first += kRowBlock) {
    const Index last = first + kRowBlock < n ? first + kRowBlock : n;
    Floats part[static_cast<std::size_t>(P)][static_cast<std::size_t>(M)][kVectors] = {};
    for (Index i = first; i < last; ++i) {
      const float* zi = z + i * m;
#pragma GCC unroll 3
      for (Index p = 0; p < P; ++p) {
        Floats x[kVectors];
#pragma GCC unroll 8
        for (Index v = 0; v < kVectors; ++v) {
          x[v] = load_floats(panel + p * stride + i * kPanel + v * kFloats);
        }
#pragma GCC unroll 12
        for (Index b = 0; b < M; ++b) {
#pragma GCC unroll 8
          for (Index v = 0; v < kVectors; ++v) part[p][b][v] += x[v] * zi[b];
        }
      }
    }
    for (Index p = 0; p < P; ++p) {
      for (Index b = 0; b < M; ++b) {
        for (Index v = 0; v < kVectors; ++v) sum[p][b][v] += part[p][b][v];
      }
    }
  }
  for (Index p = 0; p < P; ++p) {
    for (Index b = 0; b < M; ++b) {
      for (Index v = 0; v < kVectors; ++v) {
        *reinterpret_cast<Floats*>(c + p * kPanel + b * ldc + v * kFloats) = sum[p][b][v];
      }
    }
  }
}

template <Index M, class T>
void correlate_block(Index count, Index n, const T* panels, Index n_panels, Index m, const float* z,
                     float* c, Index ldc) {
  if (count >= M) {
    constexpr Index kFitting = (kBytes == 64 ? 24 : 8) / (M * kVectors);
    constexpr Index kAtOnce = kFitting < 1 ? 1 : kFitting > 3 ? 3 : kFitting;
    // Short panels come from memory faster one after the other.
    constexpr Index kLong = 1024;
    const Index stride = n * kPanel;
    Index p = 0;
    for (; n >= kLong && p + kAtOnce <= n_panels; p += kAtOnce) {
      correlate_rows<M, kAtOnce>(n, panels + p * stride, stride, m, z, c + p * kPanel, ldc);
    }
    for (; p < n_panels; ++p) {
      correlate_rows<M, 1>(n, panels + p * stride, stride, m, z, c + p * kPanel, ldc);
    }
  } else if constexpr (M > 1) {
    correlate_block<M - 1>(count, n, panels, n_panels, m, z, c, ldc);
  }
}

template <class T>
void correlate_any(Index n, const T* panels, Index n_panels, Index m, const float* z, float* c,
                   Index ldc) {
  for (Index b = 0; b < m; b += kRegisterBlock) {
    correlate_block<kRegisterBlock>(m - b, n, panels, n_panels, m, z + b, c + b * ldc, ldc);
  }
}

void correlate_panels(Index n, const std::uint16_t* panels, Index n_panels, Index m, const float* z,
                      float* c, Index ldc) {
  correlate_any(n, panels, n_panels, m, z, c, ldc);
}
void correlate_floats(Index n, const float* panel, Index m, const float* z, float* c, Index ldc) {
  correlate_any(n, panel, 1, m, z, c, ldc);
}

/// The halves of v, lane by lane, added in double.
inline Doubles add_halves(Floats v) {
  using Half = float __attribute__((vector_size(kBytes / 2)));
  Half low, high;
  __builtin_memcpy(&low, &v, kBytes / 2);
  __builtin_memcpy(&high, reinterpret_cast<const char*>(&v) + kBytes / 2, kBytes / 2);
  return __builtin_convertvector(low, Doubles) + __builtin_convertvector(high, Doubles);
}

void combine_floats(Index n, const float* const* panels, Index count, const float* b, double* r) {
  Floats scale[kMostTogether][kVectors];
  for (Index p = 0; p < count; ++p) {
    for (Index v = 0; v < kVectors; ++v) scale[p][v] = load_floats(b + p * kPanel + v * kFloats);
  }
  const auto row = [&](Index i) {
    Floats sum{};
    for (Index p = 0; p < count; ++p) {
#pragma GCC unroll 8
      for (Index v = 0; v < kVectors; ++v) {
        sum += load_floats(panels[p] + i * kPanel + v * kFloats) * scale[p][v];
      }
    }
    return add_halves(sum);
  };
  Index i = 0;
  for (; i + kDoubles <= n; i += kDoubles) {
    Doubles sums[kDoubles];
    for (Index k = 0; k < kDoubles; ++k) sums[k] = row(i + k);
    store(r + i, load(r + i) + totals(sums));
  }
  for (; i < n; ++i) r[i] += total(row(i));
}

constexpr Simd all_loops(const char* name) {
  return {name,
          scan_f64,
          scan_f32,
          centre_f64,
          centre_f32,
          shift_f64,
          shift_f32,
          narrow_f64,
          narrow_f32,
          dot,
          axpy,
          moments,
          dots,
          centred_dots_f64,
          centred_dots_f32,
          cross,
          axpys,
          update,
          rotate,
          solve_forward,
          solve_backward,
          kPanelWidth,
          pack_columns,
          pack_rows,
          multiply_panels,
          to_half,
          correlate_panels,
          correlate_floats,
          combine_floats};
}
