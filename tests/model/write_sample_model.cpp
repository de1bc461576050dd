#include <cstdio>
#include <exception>
#include <string>

#include "model/sample_model.hpp"
#include "thresher/model_file.hpp"

// write_sample_model FOLDER: writes path.safetensors (no cross-validation, saved at once) and
// cv.safetensors (everything a file can hold, streamed, response 2 never taken) into FOLDER and
// prints figures for check_with_safetensors.py to compare with, one `key value` a line.
int main(int argc, char** argv) {
  using thresher::Index;
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_sample_model FOLDER\n");
    return 2;
  }
  try {
    const std::string folder = argv[1];
    thresher::save_model(thresher::sample_model({}), folder + "/path.safetensors");

    thresher::SampleSize size;
    size.n_folds = 3;
    size.longer_by = 2;
    size.predictions = true;
    thresher::ModelFileWriter writer(folder + "/cv.safetensors");
    writer.begin(thresher::sample_header(size));
    writer.set_names({"a", "b", "c", "d", "é", "f", "g", "h", "i"}, {"w", "x", "y", "z"});
    for (const Index r : {0, 1, 3}) writer.take(thresher::sample_result(size, r));
    writer.finish();

    const thresher::ResponseResult one = thresher::sample_result(size, 1);
    double sum = 0.0;
    Index count = 0;
    for (const auto& coef : one.coef) {
      for (const auto& [j, value] : coef) {
        sum += static_cast<double>(j + 1) * value;
        ++count;
      }
    }
    std::printf("lambda_1_1_4 %.17g\n", one.lambda[5 + 4]);
    std::printf("coef_sum_1 %.17g\n", sum);
    std::printf("coef_count_1 %lld\n", static_cast<long long>(count));
    std::printf("fold_error_1_1_4_2 %.17g\n", one.cv_fold_error[(5 + 4) * 3 + 2]);
    std::printf("best_1_l %lld\n", static_cast<long long>(one.best[1]));
    std::printf("prediction_1_6 %.17g\n", one.predictions[6]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "write_sample_model: %s\n", e.what());
    return 1;
  }
  return 0;
}
