#pragma once

// Everything else is hidden in the shared library.
#define THRESHER_API __attribute__((visibility("default")))
