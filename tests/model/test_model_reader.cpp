#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "model/sample_model.hpp"
#include "thresher/error.hpp"
#include "thresher/model_file.hpp"

namespace thresher {
namespace {

using Json = nlohmann::ordered_json;

// A file taken apart, to be put together again with one lie in it.
struct Parts {
  Json header;
  std::string data;

  char* tensor(const std::string& name) {
    return data.data() + header[name]["data_offsets"][0].get<std::size_t>();
  }
  template <class T>
  void put(const std::string& name, std::size_t entry, T value) {
    std::memcpy(tensor(name) + entry * sizeof(T), &value, sizeof(T));
  }
};

Parts take_apart(const std::string& bytes) {
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  return {Json::parse(bytes.substr(8, length)), bytes.substr(8 + length)};
}

std::string with_length(const std::string& header, std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header;
}

std::string put_together(const Parts& parts) {
  const std::string header = parts.header.dump();
  return with_length(header, header.size()) + parts.data;
}

std::string sample_bytes() {
  const TemporaryFolder folder;
  SampleSize size;
  size.n_folds = 2;
  size.predictions = true;
  Model model = sample_model(size);
  model.feature_names = {"a", "b", "c", "d", "e", "f", "g", "h", "i"};
  save_model(model, folder / "m");
  return read_bytes(folder / "m");
}

// Expects the bytes to be refused with a message that has the path and `word`.
void expect_refused(const std::string& bytes, const std::string& word) {
  const TemporaryFolder folder;
  write_bytes(folder / "lie", bytes);
  try {
    load_model(folder / "lie");
    ADD_FAILURE() << "accepted: " << word;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Errc::kInvalidArgument) << e.what();
    EXPECT_NE(std::string(e.what()).find(folder / "lie"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
  }
}

TEST(ModelReader, AcceptsTheUntouchedParts) {
  const TemporaryFolder folder;
  const std::string bytes = sample_bytes();
  write_bytes(folder / "m", bytes);
  const Model model = load_model(folder / "m");
  write_bytes(folder / "again", put_together(take_apart(bytes)));
  expect_same_bits(model, load_model(folder / "again"));
  // A tensor of a later version is passed over if the format version says so.
  Parts parts = take_apart(bytes);
  parts.header["extra"] = {{"dtype", "F16"},
                           {"shape", {2, 3}},
                           {"data_offsets", {parts.data.size(), parts.data.size() + 12}}};
  parts.data += std::string(12, 'x');
  write_bytes(folder / "more", put_together(parts));
  expect_same_bits(model, load_model(folder / "more"));
}

TEST(ModelReader, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  const std::string bytes = sample_bytes();
  write_bytes(folder / "m", bytes);
  for (std::size_t keep = bytes.size(); keep-- > 0;) {
    std::filesystem::resize_file(folder / "m", keep);
    try {
      load_model(folder / "m");
      ADD_FAILURE() << "accepted " << keep << " bytes of " << bytes.size();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Errc::kInvalidArgument) << keep << ": " << e.what();
    }
  }
  expect_refused(bytes + '\0', "fill the file");
}

// Whatever one changed byte does, it must end in a valid model or in an Error.
TEST(ModelReader, EveryChangedByteIsSafe) {
  const TemporaryFolder folder;
  const std::string bytes = sample_bytes();
  write_bytes(folder / "m", bytes);
  std::fstream file(folder / "m", std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](std::size_t at, char byte) {
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte).flush();
  };
  std::size_t refused = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (const int change : {0x01, 0x80, 0xff}) {
      put(at, static_cast<char>(bytes[at] ^ change));
      try {
        load_model(folder / "m");
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::kInvalidArgument) << e.what();
        ++refused;
      }
    }
    put(at, bytes[at]);
  }
  EXPECT_TRUE(file.good());
  EXPECT_GT(refused, 1000u);
  load_model(folder / "m");
}

TEST(ModelReader, HeaderLengthLies) {
  const std::string bytes = sample_bytes();
  const Parts parts = take_apart(bytes);
  const std::string header = parts.header.dump();
  for (const std::uint64_t length :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{header.size() - 1},
        std::uint64_t{header.size() + 1}, std::uint64_t{bytes.size()}, std::uint64_t{1} << 40,
        std::uint64_t{1} << 63, std::numeric_limits<std::uint64_t>::max(),
        std::numeric_limits<std::uint64_t>::max() - 7}) {
    expect_refused(with_length(header, length) + parts.data, "");
  }
  expect_refused("", "8 bytes");
  expect_refused("1234567", "8 bytes");
  expect_refused(with_length(" " + header, header.size() + 1) + parts.data, "start with");
}

TEST(ModelReader, HeaderTextLies) {
  const auto text = [](const std::string& header) { return with_length(header, header.size()); };
  expect_refused(text("{"), "JSON must be valid");
  expect_refused(text("{}"), "metadata must have");
  expect_refused(text("{} {}"), "JSON must be valid");
  expect_refused(text("{\"a\":1,\"a\":2}"), "unique");
  expect_refused(text("{\"a\xff\":1}"), "JSON must be valid");
  expect_refused(text("{\"a\":" + std::string(1'000'000, '[')), "nested");
  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += "{\"a\":";
  expect_refused(text(nested), "nested");
  std::string wide = "{\"a\":[1";
  for (int i = 0; i < 200'000; ++i) wide += ",1";
  expect_refused(text(wide + "]}"), "at most");
  expect_refused(text("{\"a\":5}"), "must have a dtype");
  expect_refused(text("{\"__metadata__\":[]}"), "__metadata__");
  expect_refused(text("{\"__metadata__\":{\"k\":1}}"), "string");
}

TEST(ModelReader, HeaderFieldLies) {
  const std::string bytes = sample_bytes();
  const Index huge = std::numeric_limits<Index>::max();
  const std::vector<std::pair<const char*, std::function<void(Json&)>>> lies = {
      {"dtype must be known", [](Json& h) { h["gap"]["dtype"] = "F65"; }},
      {"must have a dtype", [](Json& h) { h["gap"]["dtype"] = 8; }},
      {"must be F64", [](Json& h) { h["gap"]["dtype"] = "I64"; }},
      {"must have a dtype", [](Json& h) { h["gap"].erase("shape"); }},
      {"must have a dtype", [](Json& h) { h["gap"]["more"] = 1; }},
      {"nothing else", [](Json& h) { h["gap"]["shape"] = "4"; }},
      {"sizes and offsets", [](Json& h) { h["gap"]["shape"][0] = -4; }},
      {"sizes and offsets", [](Json& h) { h["gap"]["shape"][0] = 4.0; }},
      {"sizes and offsets", [](Json& h) { h["gap"]["shape"][0] = "4"; }},
      {"sizes and offsets", [](Json& h) { h["gap"]["shape"][0] = 18446744073709551615u; }},
      {"span the", [](Json& h) { h["gap"]["shape"][0] = 5; }},
      {"below 2^63", [=](Json& h) { h["gap"]["shape"][0] = huge; }},
      {"below 2^63",
       [=](Json& h) {
         h["gap"]["shape"] = {0x100000000, 0x100000000, 1};
       }},
      {"dimensions",
       [](Json& h) {
         h["gap"]["shape"] = Json::array({1, 1, 1, 1, 1, 1, 1, 1, 24});
       }},
      {"must be F64 [4, 2, 3]",
       [](Json& h) {
         h["gap"]["shape"] = {4, 3, 2};
       }},
      {"dimensions", [](Json& h) { h["gap"]["shape"] = {24}; }},
      {"dimensions", [](Json& h) { h["lambda"]["shape"] = {24}; }},
      {"must be",
       [](Json& h) {
         h["lambda"]["shape"] = {2, 4, 3};
       }},
      {"span the", [](Json& h) { h["gap"]["data_offsets"][1] = 0; }},
      {"span the", [=](Json& h) { h["gap"]["data_offsets"][1] = huge; }},
      {"begin and an end", [](Json& h) { h["gap"]["data_offsets"].push_back(1); }},
      {"sizes and offsets", [](Json& h) { h["gap"]["data_offsets"][0] = nullptr; }},
      {"where the one before ends",
       [](Json& h) { h["gap"]["data_offsets"] = h["lambda"]["data_offsets"]; }},
      {"where the one before ends",
       [=](Json& h) {
         h["gap"]["data_offsets"] = {huge - 192, huge};
       }},
      {"where the one before ends", [](Json& h) { h.erase("gap"); }},
      {"where the one before ends",
       [](Json& h) {
         h["extra"] = {{"dtype", "U8"}, {"shape", {8}}, {"data_offsets", {0, 8}}};
       }},
      {"must fill", [](Json& h) { h.erase("cv.boundary"); }},
      {"`gap` must be there",
       [](Json& h) {
         h["other"] = h["gap"];
         h.erase("gap");
       }},
      {"`cv.fold_error` must be there",
       [](Json& h) {
         h["other"] = h["cv.fold_error"];
         h.erase("cv.fold_error");
       }},
      {"n_samples", [](Json& h) { h["__metadata__"].erase("n_samples"); }},
      {"n_samples", [](Json& h) { h["__metadata__"]["n_samples"] = "0"; }},
      {"n_samples", [](Json& h) { h["__metadata__"]["n_samples"] = "-7"; }},
      {"n_samples", [](Json& h) { h["__metadata__"]["n_samples"] = "7x"; }},
      {"n_samples", [](Json& h) { h["__metadata__"]["n_samples"] = "99999999999999999999"; }},
      {"must be a string", [](Json& h) { h["__metadata__"]["n_samples"] = 7; }},
      {"cv.predictions", [](Json& h) { h["__metadata__"]["n_samples"] = "8"; }},
      {"n_nonzero",
       [](Json& h) {
         h["__metadata__"]["n_features"] = "1";
         h["__metadata__"].erase("feature_names");
       }},
      {"feature_names", [](Json& h) { h["__metadata__"]["n_features"] = "10"; }},
      {"feature_names", [](Json& h) { h["__metadata__"]["feature_names"] = "[\"a\"]"; }},
      {"feature_names",
       [](Json& h) { h["__metadata__"]["feature_names"] = "[1,2,3,4,5,6,7,8,9]"; }},
      {"feature_names", [](Json& h) { h["__metadata__"]["feature_names"] = "[[[[[["; }},
      {"feature_names", [](Json& h) { h["__metadata__"]["feature_names"] = "9"; }},
      {"response_names", [](Json& h) { h["__metadata__"]["response_names"] = "[]"; }},
      {"format_version", [](Json& h) { h["__metadata__"]["format_version"] = "2"; }},
      {"format_version", [](Json& h) { h["__metadata__"].erase("format_version"); }},
      {"format", [](Json& h) { h["__metadata__"]["format"] = "pt"; }},
      {"metadata must have", [](Json& h) { h.erase("__metadata__"); }},
  };
  for (const auto& [word, lie] : lies) {
    SCOPED_TRACE(word);
    Parts parts = take_apart(bytes);
    lie(parts.header);
    expect_refused(put_together(parts), word);
  }
}

TEST(ModelReader, DataLies) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::string bytes = sample_bytes();
  const std::vector<std::pair<const char*, std::function<void(Parts&)>>> lies = {
      {"coef.indptr", [](Parts& p) { p.put<Index>("coef.indptr", 0, 1); }},
      {"coef.indptr", [](Parts& p) { p.put<Index>("coef.indptr", 0, -1); }},
      {"coef.indptr", [](Parts& p) { p.put<Index>("coef.indptr", 24, 1000); }},
      {"coef.indptr", [](Parts& p) { p.put<Index>("coef.indptr", 24, 0); }},
      {"coef.indptr", [](Parts& p) { p.put<Index>("coef.indptr", 12, Index{1} << 60); }},
      {"coef.indptr", [](Parts& p) { p.put<Index>("coef.indptr", 12, -5); }},
      // The last coefficient belongs to no fit.
      {"end at the number",
       [](Parts& p) {
         const Index n_values = p.header["coef.values"]["shape"][0].get<Index>();
         for (std::size_t f = 0; f < 25; ++f) {
           Index end = 0;
           std::memcpy(&end, p.tensor("coef.indptr") + 8 * f, 8);
           if (end == n_values) p.put<Index>("coef.indptr", f, n_values - 1);
         }
       }},
      {"coef.indices", [](Parts& p) { p.put<Index>("coef.indices", 0, -1); }},
      {"coef.indices", [](Parts& p) { p.put<Index>("coef.indices", 0, 9); }},
      {"coef.indices", [](Parts& p) { p.put<Index>("coef.indices", 1, 0); }},
      {"coef.values", [=](Parts& p) { p.put<double>("coef.values", 0, kNaN); }},
      {"coef.values", [=](Parts& p) { p.put<double>("coef.values", 1, -kInfinity); }},
      {"status", [](Parts& p) { p.put<std::uint8_t>("status", 3, 7); }},
      {"engine", [](Parts& p) { p.put<std::uint8_t>("engine", 3, 5); }},
      {"mode", [](Parts& p) { p.put<std::uint8_t>("mode", 3, 3); }},
      {"rank_deficient", [](Parts& p) { p.put<std::uint8_t>("rank_deficient", 3, 2); }},
      {"coef.kept", [](Parts& p) { p.put<std::uint8_t>("coef.kept", 3, 255); }},
      {"kept none", [](Parts& p) { std::memset(p.tensor("coef.kept"), 0, 24); }},
      {"n_nonzero", [](Parts& p) { p.put<Index>("n_nonzero", 3, 10); }},
      {"n_nonzero", [](Parts& p) { p.put<Index>("n_nonzero", 3, -1); }},
      {"iterations", [](Parts& p) { p.put<Index>("iterations", 3, -1); }},
      {"l1_ratio", [=](Parts& p) { p.put<double>("l1_ratio", 1, kNaN); }},
      {"l1_ratio", [](Parts& p) { p.put<double>("l1_ratio", 1, 1.5); }},
      {"lambda", [](Parts& p) { p.put<double>("lambda", 1, -1.0); }},
      {"lambda", [=](Parts& p) { p.put<double>("lambda", 1, kInfinity); }},
      {"intercept",
       [=](Parts& p) {
         for (std::size_t f = 0; f < 24; ++f) p.put<double>("intercept", f, kNaN);
       }},
      {"cv.best", [](Parts& p) { p.put<Index>("cv.best", 0, 2); }},
      {"cv.best", [](Parts& p) { p.put<Index>("cv.best", 7, -1); }},
      {"cv.one_se", [](Parts& p) { p.put<Index>("cv.one_se", 5, 3); }},
      {"cv.boundary", [](Parts& p) { p.put<std::uint8_t>("cv.boundary", 0, 2); }},
  };
  for (const auto& [word, lie] : lies) {
    SCOPED_TRACE(word);
    Parts parts = take_apart(bytes);
    lie(parts);
    expect_refused(put_together(parts), word);
  }
}

// A declared size must be compared with the file before memory is taken for it: with little address
// space left, an allocation of the declared size would end as kOutOfMemory.
TEST(ModelReader, DeclaredSizesAreNotAllocated) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need all of the address space";
#endif
  Parts parts = take_apart(sample_bytes());
  for (auto& [name, entry] : parts.header.items()) {
    if (name == "__metadata__") continue;
    const std::size_t width = entry["dtype"] == "U8" ? 1 : 8;
    for (auto& size : entry["shape"]) {
      size = Index{1} << (entry["shape"].size() > 2 ? 11 : 36);
    }
    std::size_t count = width;
    for (auto& size : entry["shape"]) count *= size.get<std::size_t>();
    entry["data_offsets"] = {0, count};
  }
  rlimit old_limit{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &old_limit), 0);
  rlimit limit = old_limit;
  limit.rlim_cur = std::size_t{1} << 31;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  expect_refused(put_together(parts), "");
  ASSERT_EQ(setrlimit(RLIMIT_AS, &old_limit), 0);
}

TEST(ModelReader, WhatCannotBeReadIsAFileError) {
  const TemporaryFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  for (const std::string& path :
       {folder / "none", folder.path(), folder / "pipe", std::string("/dev/zero"), std::string()}) {
    try {
      load_model(path);
      ADD_FAILURE() << path;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Errc::kFile) << e.what();
      EXPECT_NE(std::string(e.what()).find(path), std::string::npos) << e.what();
    }
  }
}

}  // namespace
}  // namespace thresher
