#pragma once

// Everything in one include.
#include "thresher/error.hpp"
#include "thresher/fit.hpp"
#include "thresher/model.hpp"
#include "thresher/model_file.hpp"
#include "thresher/observer.hpp"
#include "thresher/options.hpp"
#include "thresher/status.hpp"
#include "thresher/version.hpp"
#include "thresher/views.hpp"
