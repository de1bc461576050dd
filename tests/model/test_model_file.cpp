#include "thresher/model_file.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "model/memory_sink.hpp"
#include "model/sample_model.hpp"
#include "thresher/error.hpp"
#include "thresher/version.hpp"

namespace thresher {
namespace {

using Names = std::vector<std::string>;

const Names kFeatures = {"a", "b \"quoted\"", "c,\\", "d\n", "é", "f\t", "", "h", "日本"};
const Names kResponses = {"r0", "r1", "r2", "r3"};

std::vector<SampleSize> sizes() {
  SampleSize plain;
  SampleSize folds;
  folds.n_folds = 3;
  SampleSize all = folds;
  all.predictions = true;
  all.longer_by = 2;
  SampleSize one;
  one.n_samples = one.n_features = one.n_responses = one.n_l1_ratios = one.n_lambdas = 1;
  return {plain, folds, all, one};
}

// The same run through the streaming writer.
void stream(const SampleSize& size, const std::vector<Index>& taken, const std::string& path,
            bool names) {
  ModelFileWriter writer(path);
  if (names) writer.set_names(kFeatures, kResponses);
  writer.begin(sample_header(size));
  for (const Index r : taken) writer.take(sample_result(size, r));
  writer.finish();
}

TEST(ModelFile, RoundTripBitForBit) {
  const TemporaryFolder folder;
  for (const SampleSize& size : sizes()) {
    Model model = sample_model(size);
    if (size.n_features == 9) {
      model.feature_names = kFeatures;
      model.response_names = kResponses;
    }
    model.intercept[0] = model.coef_kept[0] ? -0.0 : -std::numeric_limits<double>::infinity();
    save_model(model, folder / "m");
    const Model loaded = load_model(folder / "m");
    expect_same_bits(model, loaded);
    EXPECT_EQ(loaded.metadata.at("library_version"), version());
    save_model(loaded, folder / "again");
    EXPECT_TRUE(read_bytes(folder / "m") == read_bytes(folder / "again"));
  }
  EXPECT_EQ(folder.names(), (Names{"again", "m"}));
}

// The model of a closed form has a cv part without folds.
TEST(ModelFile, RoundTripWithoutFolds) {
  const TemporaryFolder folder;
  Model model = sample_model(SampleSize{});
  CvTable& cv = model.cv.emplace();
  cv.error.assign(24, 1.5);
  cv.se.assign(24, std::numeric_limits<double>::quiet_NaN());
  cv.train_error.assign(24, 0.5);
  cv.best.assign(8, 1);
  cv.one_se.assign(8, 1);
  cv.boundary.assign(4, 1);
  save_model(model, folder / "m");
  expect_same_bits(model, load_model(folder / "m"));
}

TEST(ModelFile, TensorsAreAligned) {
  const TemporaryFolder folder;
  SampleSize size;
  size.n_lambdas = 1;  // 8 fits and odd numbers elsewhere
  size.n_responses = 3;
  save_model(sample_model(size), folder / "m");
  const std::string bytes = read_bytes(folder / "m");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ(header % 8, 0u);
  const std::string text = bytes.substr(8, header);
  std::size_t seen = 0;
  for (std::size_t at = text.find("\"data_offsets\":["); at != std::string::npos;
       at = text.find("\"data_offsets\":[", at + 1)) {
    const std::size_t begin = std::stoul(text.substr(at + 16));
    const bool wide = text.compare(text.rfind("\"dtype\":\"", at) + 9, 2, "U8") != 0;
    if (wide) {
      EXPECT_EQ(begin % 8, 0u);
    }
    ++seen;
  }
  EXPECT_EQ(seen, 16u);
}

TEST(ModelFile, StreamingGivesTheSameBytes) {
  const TemporaryFolder folder;
  for (const SampleSize& size : sizes()) {
    for (const std::vector<Index>& taken :
         std::vector<std::vector<Index>>{{0, 1, 2, 3}, {0}, {1}, {0, 1}, {2, 3}, {0, 3}, {}}) {
      if (!taken.empty() && taken.back() >= size.n_responses) continue;
      const bool names = size.n_features == 9;
      Model model = sample_model(size, taken);
      if (names) {
        model.feature_names = kFeatures;
        model.response_names = kResponses;
      }
      save_model(model, folder / "saved");
      stream(size, taken, folder / "streamed", names);
      EXPECT_TRUE(read_bytes(folder / "saved") == read_bytes(folder / "streamed"));
      load_model(folder / "streamed");
    }
  }
  EXPECT_EQ(folder.names(), (Names{"saved", "streamed"}));
}

TEST(ModelFile, StreamingPredictionsOfSomeResponsesGivesTheSameBytes) {
  const TemporaryFolder folder;
  SampleSize size;
  size.n_folds = 2;
  size.predictions = true;
  MemorySink sink;
  ModelFileWriter writer(folder / "streamed");
  sink.begin(sample_header(size));
  writer.begin(sample_header(size));
  for (const Index r : {0, 1, 2}) {
    ResponseResult part = sample_result(size, r);
    if (r != 1) part.predictions.clear();
    ResponseResult copy = part;
    sink.take(std::move(part));
    writer.take(std::move(copy));
  }
  writer.finish();
  save_model(sink.finish(), folder / "saved");
  EXPECT_TRUE(read_bytes(folder / "saved") == read_bytes(folder / "streamed"));
  EXPECT_FALSE(load_model(folder / "streamed").cv->predictions.empty());
}

// Large enough that every kind of tensor leaves memory on its way.
TEST(ModelFile, StreamingThroughTheDiskGivesTheSameBytes) {
  const TemporaryFolder folder;
  SampleSize size;
  size.n_responses = 400;
  size.n_lambdas = 350;
  size.n_features = 6;
  size.n_folds = 2;
  size.longer_by = 3;
  size.predictions = true;
  size.n_samples = 150;
  save_model(sample_model(size), folder / "saved");
  std::vector<Index> all;
  for (Index r = 0; r < size.n_responses; ++r) all.push_back(r);
  stream(size, all, folder / "streamed", false);
  EXPECT_TRUE(read_bytes(folder / "saved") == read_bytes(folder / "streamed"));
  EXPECT_EQ(folder.names(), (Names{"saved", "streamed"}));
}

TEST(ModelFile, WriterShowsNothingBeforeFinish) {
  const TemporaryFolder folder;
  write_bytes(folder / "m", "old");
  {
    ModelFileWriter writer(folder / "m");
    writer.begin(sample_header(SampleSize{}));
    writer.take(sample_result(SampleSize{}, 0));
    EXPECT_EQ(read_bytes(folder / "m"), "old");
  }
  EXPECT_EQ(read_bytes(folder / "m"), "old");
  EXPECT_EQ(folder.names(), Names{"m"});
}

TEST(ModelFile, WriterRefusesCallsOutOfOrder) {
  const TemporaryFolder folder;
  const SampleSize size;
  ModelFileWriter writer(folder / "m");
  EXPECT_THROW(writer.take(sample_result(size, 0)), Error);
  EXPECT_THROW(writer.finish(), Error);
  EXPECT_THROW(writer.set_names({"\xff"}, {}), Error);
  writer.set_names({}, {});
  ModelHeader lie = sample_header(size);
  lie.l1_ratio[0] = 1.5;
  EXPECT_THROW(writer.begin(lie), Error);
  writer.begin(sample_header(size));
  EXPECT_THROW(writer.begin(sample_header(size)), Error);
  EXPECT_THROW(writer.set_names({"only one"}, {}), Error);
  EXPECT_THROW(writer.set_names({}, {"only one"}), Error);
  writer.set_names(kFeatures, kResponses);
  writer.take(sample_result(size, 1));
  EXPECT_THROW(writer.take(sample_result(size, 1)), Error);
  writer.finish();
  EXPECT_THROW(writer.finish(), Error);
  EXPECT_THROW(writer.take(sample_result(size, 2)), Error);
  EXPECT_EQ(load_model(folder / "m").feature_names, kFeatures);
}

TEST(ModelFile, WriterRefusesAMissingFolderAtOnce) {
  try {
    ModelFileWriter writer("/nonexistent/m");
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Errc::kFile);
  }
}

TEST(ModelFile, SaveRefusesAnInvalidModel) {
  const TemporaryFolder folder;
  Model model = sample_model(SampleSize{});
  model.coef_values.at(0) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(save_model(model, folder / "m"), Error);
  model = sample_model(SampleSize{});
  model.gap.pop_back();
  EXPECT_THROW(save_model(model, folder / "m"), Error);
  model = sample_model(SampleSize{});
  model.feature_names = {"too few"};
  EXPECT_THROW(save_model(model, folder / "m"), Error);
  model = sample_model(SampleSize{});
  model.metadata["k"] = "\xc3";
  EXPECT_THROW(save_model(model, folder / "m"), Error);
  EXPECT_EQ(folder.names(), Names{});
}

// Keys that the writer makes itself cannot be forged by a caller's metadata.
TEST(ModelFile, StructuralMetadataWins) {
  const TemporaryFolder folder;
  Model model = sample_model(SampleSize{});
  model.metadata["n_features"] = "3";
  model.metadata["format_version"] = "9";
  model.metadata["feature_names"] = "x";
  save_model(model, folder / "m");
  const Model loaded = load_model(folder / "m");
  EXPECT_EQ(loaded.n_features, 9);
  EXPECT_TRUE(loaded.feature_names.empty());
}

TEST(ModelFile, WritesThroughALink) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "real");
  std::filesystem::create_symlink("real/m", folder / "link");
  save_model(sample_model(SampleSize{}), folder / "link");
  stream(SampleSize{}, {0, 1, 2, 3}, folder / "link", false);
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  expect_same_bits(sample_model(SampleSize{}), load_model(folder / "real/m"));
}

SampleSize disk_filler() {
  SampleSize size;
  size.n_responses = 60;
  size.n_lambdas = 500;
  return size;  // 60,000 fits, about 8 MB
}

TEST(ModelFile, FullDiskKeepsTheOldFile) {
  const TemporaryFolder folder;
  if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=2m") != 0) {
    GTEST_SKIP() << "a small tmpfs cannot be mounted here";
  }
  save_model(sample_model(SampleSize{}), folder / "m");
  const SampleSize size = disk_filler();
  const Model model = sample_model(size);
  std::vector<Index> all;
  for (Index r = 0; r < size.n_responses; ++r) all.push_back(r);
  for (const bool streaming : {false, true}) {
    try {
      streaming ? stream(size, all, folder / "m", false) : save_model(model, folder / "m");
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Errc::kFile);
      EXPECT_NE(std::string(e.what()).find("No space left"), std::string::npos) << e.what();
    }
    expect_same_bits(sample_model(SampleSize{}), load_model(folder / "m"));
    EXPECT_EQ(folder.names(), Names{"m"});
  }
  EXPECT_EQ(umount(folder.path().c_str()), 0);
}

TEST(ModelFile, FileSizeLimitKeepsTheOldFile) {
  const TemporaryFolder folder;
  save_model(sample_model(SampleSize{}), folder / "m");
  const Model model = sample_model(disk_filler());
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  rlimit limit = old_limit;
  limit.rlim_cur = 1'000'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  try {
    save_model(model, folder / "m");
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Errc::kFile);
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  signal(SIGXFSZ, old_handler);
  expect_same_bits(sample_model(SampleSize{}), load_model(folder / "m"));
  EXPECT_EQ(folder.names(), Names{"m"});
}

// Killed at several moments, some while the final file is being written.
TEST(ModelFile, KilledWriterLeavesTheOldFileOrTheNewOne) {
  const TemporaryFolder folder;
  const SampleSize size = disk_filler();
  const Model before = sample_model(SampleSize{});
  const Model after = sample_model(size);
  std::vector<Index> all;
  for (Index r = 0; r < size.n_responses; ++r) all.push_back(r);
  bool killed_once = false;
  for (const unsigned microseconds : {0u, 2'000u, 10'000u, 20'000u, 30'000u, 40'000u, 60'000u}) {
    save_model(before, folder / "m");
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      (void)!write(ready[1], "!", 1);
      stream(size, all, folder / "m", false);
      save_model(after, folder / "m");
      _exit(0);
    }
    char byte = 0;
    ASSERT_EQ(read(ready[0], &byte, 1), 1);
    usleep(microseconds);
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    killed_once = killed_once || WIFSIGNALED(status);
    close(ready[0]);
    close(ready[1]);
    const Model found = load_model(folder / "m");
    expect_same_bits(found.n_responses == before.n_responses ? before : after, found);
  }
  EXPECT_TRUE(killed_once);
}

}  // namespace
}  // namespace thresher
