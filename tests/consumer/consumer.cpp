#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "thresher/thresher.hpp"

// Uses one call of each kind through the installed headers: fit, choose, save, load, an error that
// crosses the library's border. Prints one line; exits with 1 if a result is not what it must be.
int main(int argc, char** argv) {
  using namespace thresher;
  const std::string path = argc > 1 ? argv[1] : "consumer_model.safetensors";
  const Index n = 30, p = 5;
  std::vector<double> X(static_cast<std::size_t>(n * p)), y(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < p; ++j) {
      X[static_cast<std::size_t>(j * n + i)] = std::sin(static_cast<double>(1 + i * (j + 2)));
    }
    y[static_cast<std::size_t>(i)] =
        2.0 * X[static_cast<std::size_t>(n + i)] + 0.1 * std::cos(static_cast<double>(i));
  }

  Data data;
  data.X = MatrixView<const double>::column_major(X.data(), n, p);
  data.Y = MatrixView<const double>::column_major(y.data(), n, 1);
  CvOptions cv;
  cv.n_folds = 5;
  const Model model = cross_validate(data, {}, cv);
  save_model(model, path);
  const Model loaded = load_model(path);
  std::filesystem::remove(path);
  if (!loaded.cv || loaded.cv->best != model.cv->best || !(model.stats.worst_gap <= 1e-7)) {
    std::fprintf(stderr, "consumer: wrong result\n");
    return 1;
  }

  data.Y = MatrixView<const double>::column_major(y.data(), n - 1, 1);
  try {
    fit_path(data);
    std::fprintf(stderr, "consumer: Y with a row too few was accepted\n");
    return 1;
  } catch (const Error& error) {
    if (error.code() != Errc::kInvalidArgument) return 1;
  }

  const auto best = static_cast<std::size_t>(model.fit(0, model.cv->best[0], model.cv->best[1]));
  std::printf("thresher %s: lambda %.4g, %lld features, worst gap %.1e\n",
              std::string(version()).c_str(), model.lambda[best],
              static_cast<long long>(model.n_nonzero[best]), model.stats.worst_gap);
  return 0;
}
