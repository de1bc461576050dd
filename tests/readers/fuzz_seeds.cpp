// Writes small valid inputs for the targets of fuzz_readers.cpp: fuzz_seeds FOLDER.

#include <cmath>
#include <filesystem>
#include <iostream>

#include "reader_cases.hpp"
#include "thresher/model_file.hpp"

namespace thresher {
namespace {

class SeedFolder {
 public:
  explicit SeedFolder(const std::filesystem::path& path) : path_(path) {}

  // `options` becomes the first byte of the input.
  void add(const std::string& target, char options, std::string_view content) {
    const auto folder = path_ / target;
    std::filesystem::create_directories(folder);
    std::ofstream file(folder / ("seed" + std::to_string(n_seeds_++)), std::ios::binary);
    file << options;
    file.write(content.data(), std::ssize(content));
  }

 private:
  std::filesystem::path path_;
  int n_seeds_ = 0;
};

void add_npy(SeedFolder& seeds) {
  for (const char* descr : {"|b1", "|i1", "<i2", ">i4", "<i8", "|u1", ">u2", "<u4", "<u8", "<f2",
                            ">f2", "<f4", ">f4", "<f8", ">f8"}) {
    const auto bytes = static_cast<std::size_t>(descr[2] - '0');
    seeds.add("npy", '\0', npy_file(descr, "(2, 3)", std::string(6 * bytes, '\x3f')));
    seeds.add("npy", '\5', npy_file(descr, "(6,)", std::string(6 * bytes, '\x40'), true));
  }
}

void add_text(SeedFolder& seeds) {
  const std::string csv[] = {"1,2.5\n-3e2,+4\n",
                             "id,a,\"b,\"\"c\"\"\"\r\ns1,1,2\r\ns2,NA,\r\n",
                             "\"\",\"a\",\"b\"\n\"1\",1,2\n\"2\",3,4\n",
                             "\"a\",\"b\"\n\"r1\",1,2\n",
                             ",0,1\n0,5,6\n",
                             "y\n1\n\nnan\n-inf\n",
                             "\xef\xbb\xbf"
                             "a,\"two\nlines\"\n1,2\n\n"};
  for (const std::string& text : csv) {
    seeds.add("csv", '\0', text);
    seeds.add("csv", '\7', text);
    seeds.add("gz", '\0', gzip(text));
    seeds.add("gz", '\x38', text);
  }
  seeds.add("csv", '\x8', "a\tb\n1\t2\n");
  seeds.add("gz", '\x10', gzip(npy_file("<f8", "(2, 1)", std::string(16, '\0'))));
  seeds.add("gz", '\0', gzip("1,2\n") + gzip("3,4\n"));
  seeds.add("names", '\0', "a\nb\r\n\"c\"\n\n");
  seeds.add("svmlight", '\0', "-1 1:0.5 3:2 # note\n\n+1.5\n2 2:-1e2\t4:4\r\n");
  seeds.add("svmlight", '\5', "1 0:1 1:2\n0 1:nan\n");
  const std::string banner = "%%MatrixMarket matrix ";
  seeds.add("mtx", '\0', banner + "coordinate real general\n% c\n2 3 3\n1 1 1.5\n2 3 -2\n1 2 4\n");
  seeds.add("mtx", '\5', banner + "coordinate integer symmetric\n2 2 2\n2 1 7\n2 2 3\n");
  seeds.add("mtx", '\0', banner + "coordinate pattern general\n2 2 1\n2 1\n");
  seeds.add("mtx", '\1', banner + "array real general\n2 2\n1\n2\n3\n4\n");
  seeds.add("mtx", '\0', banner + "array real symmetric\n2 2\n1\n2\n3\n");
}

void add_model(SeedFolder& seeds, const std::filesystem::path& folder) {
  for (const bool with_cv : {false, true}) {
    ModelHeader header;
    header.n_samples = 5;
    header.n_features = 4;
    header.n_responses = 2;
    header.n_l1_ratios = 1;
    header.n_folds = with_cv ? 2 : 0;
    header.l1_ratio = {1.0};
    ModelFileWriter writer((folder / "model.safetensors").string());
    writer.set_names({"a", "b", "c", "d"}, {"y", "z"});
    writer.begin(header);
    for (Index r = 0; r < 2; ++r) {
      ResponseResult result;
      result.response = r;
      result.n_lambdas = 2;
      result.lambda = {1.0, 0.5};
      result.intercept = {0.25, 0.5};
      result.objective = {1.0, 0.75};
      result.gap = {0.0, 1e-9};
      result.deviance = {0.0, 0.5};
      result.status = {0, 1};
      result.engine = {1, 1};
      result.mode = {1, 2};
      result.rank_deficient = {0, 0};
      result.n_nonzero = {0, 2};
      result.iterations = {1, 3};
      result.coef_kept = {1, 1};
      result.coef = {{}, {{1, 0.5}, {3, -2.0}}};
      if (with_cv) {
        result.cv_error = {2.0, 1.0};
        result.cv_se = {0.5, 0.25};
        result.cv_train_error = {2.0, 0.75};
        result.cv_fold_error = {2.0, 2.0, 1.0, 1.0};
        result.best[1] = 1;
        result.boundary = true;
      }
      writer.take(std::move(result));
    }
    writer.finish();
    std::ifstream file(folder / "model.safetensors", std::ios::binary);
    seeds.add("model", '\0', std::string(std::istreambuf_iterator<char>(file), {}));
  }
  std::filesystem::remove(folder / "model.safetensors");
}

}  // namespace
}  // namespace thresher

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: fuzz_seeds FOLDER\n";
    return 2;
  }
  try {
    const std::filesystem::path folder = argv[1];
    thresher::SeedFolder seeds(folder);
    thresher::add_npy(seeds);
    thresher::add_text(seeds);
    thresher::add_model(seeds, folder);
  } catch (const std::exception& error) {
    std::cerr << "fuzz_seeds: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
