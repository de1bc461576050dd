#include <cmath>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include <nlohmann/json.hpp>

#include "command/commands.hpp"
#include "command/exit_code.hpp"
#include "command/npy_stream.hpp"
#include "command/simulate.hpp"
#include "command/text_table.hpp"
#include "readers/matrix_file.hpp"
#include "thresher/error.hpp"
#include "thresher/version.hpp"

namespace thresher::command {
namespace {

std::string truth_json(const SimulationSpec& spec, const SimulatedResponses& simulated) {
  nlohmann::ordered_json json;
  json["rows"] = spec.rows;
  json["features"] = spec.features;
  json["responses"] = spec.responses;
  json["corr"] = spec.corr;
  json["support"] = spec.support;
  if (std::isinf(spec.snr)) {
    json["snr"] = "infinity";
  } else {
    json["snr"] = spec.snr;
  }
  json["seed"] = spec.seed;
  json["generator"] =
      "xoshiro256++, polar normals; AR(1) rows; N(0,1) coefficients at random places";
  json["version"] = version();
  json["noise_sd"] = simulated.noise_sd;
  return json.dump(2) + "\n";
}

}  // namespace

int run_simulate(const SimulateArguments& arguments) {
  const SimulationSpec spec = checked(arguments.spec);
  const std::filesystem::path folder = arguments.folder;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    throw Error(Errc::kFile, "simulate: folder " + arguments.folder +
                                 " must be creatable, got: " + error.message());
  }

  // Y comes first in memory and last on disk, so that a run that fails leaves no new Y beside an
  // old X: nothing is moved into place before everything is computed.
  NpyStream X((folder / "X.npy").string(), spec.rows, spec.features, NpyStream::Order::kColumns);
  NpyStream coef((folder / "coef.npy").string(), spec.features, spec.responses,
                 NpyStream::Order::kRows);
  const SimulatedResponses simulated =
      simulate(spec, [&](std::span<const double> x, std::span<const double> coef_row) {
        X.append(x);
        coef.append(coef_row);
      });
  const std::string truth = truth_json(spec, simulated);

  X.commit();
  coef.commit();
  write_npy((folder / "Y.npy").string(),
            MatrixView<const double>::column_major(simulated.Y.data(), spec.rows, spec.responses));
  write_text_file((folder / "truth.json").string(), truth);
  std::printf(
      "%lld rows, %lld features, %lld responses: X.npy, Y.npy, coef.npy, truth.json in %s\n",
      static_cast<long long>(spec.rows), static_cast<long long>(spec.features),
      static_cast<long long>(spec.responses), arguments.folder.c_str());
  return kExitGood;
}

}  // namespace thresher::command
