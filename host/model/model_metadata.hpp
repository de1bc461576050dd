#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "model/model_tensors.hpp"

namespace thresher {

inline constexpr const char* kFormat = "thresher model";
inline constexpr const char* kFormatVersion = "1";

/// Metadata that the writer makes from the model itself; Model::metadata holds everything else.
inline constexpr std::array<const char*, 6> kStructuralKeys = {
    "format", "format_version", "n_samples", "n_features", "feature_names", "response_names"};

/// The texts of __metadata__: `own` plus the structural ones plus the library's version, unless
/// `own` has one (a model that is loaded and saved keeps the version that computed it).
std::map<std::string, std::string> file_metadata(const ModelShape& shape,
                                                 const std::map<std::string, std::string>& own,
                                                 const std::vector<std::string>& feature_names,
                                                 const std::vector<std::string>& response_names,
                                                 const std::string& where);

}  // namespace thresher
