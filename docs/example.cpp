#include <cstdio>
#include <random>
#include <thresher/thresher.hpp>
#include <vector>

int main() {
  constexpr thresher::Index n = 60, p = 200, n_responses = 2;
  std::mt19937 random(1);
  const auto uniform = [&] { return static_cast<double>(random()) * 0x1p-31 - 1.0; };
  std::vector<double> x, y;  // column by column; response r follows feature r
  for (int k = 0; k < n * p; ++k) x.push_back(uniform());
  for (int k = 0; k < n * n_responses; ++k) y.push_back(2 * x.data()[k] + uniform());
  thresher::Data data;
  data.X = thresher::MatrixView<const double>::column_major(x.data(), n, p);
  data.Y = thresher::MatrixView<const double>::column_major(y.data(), n, n_responses);
  const thresher::Model model = thresher::cross_validate(data);
  for (thresher::Index r = 0; r < n_responses; ++r) {
    const thresher::Index f = model.fit(r, 0, model.cv->one_se.data()[2 * r + 1]);
    std::printf("response %td: lambda %.3f, error %.3f, features", r, model.lambda.data()[f],
                model.cv->error.data()[f]);
    for (auto k = model.coef_indptr.data()[f]; k < model.coef_indptr.data()[f + 1]; ++k)
      std::printf(" %td (%.3f)", model.coef_indices.data()[k], model.coef_values.data()[k]);
    std::printf("\n");
  }
}
