#include "command/progress_line.hpp"

#include <algorithm>
#include <cstdio>

#include "command/interrupt.hpp"
#include "command/text_table.hpp"

namespace thresher::command {

void ProgressLine::progress(const Progress& state) {
  if (!visible_) return;
  // Back to the first column, the text, then clear what an older, longer text left behind.
  std::fprintf(stderr, "\r%s\033[K", progress_text(state).c_str());
  std::fflush(stderr);
  shown_ = true;
}

bool ProgressLine::cancelled() { return interrupted(); }

void ProgressLine::erase() {
  if (!shown_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

std::string progress_text(const Progress& state) {
  if (state.fits_total <= 0) return "starting";
  const double done = static_cast<double>(state.fits_done);
  const double total = static_cast<double>(state.fits_total);
  std::string text = format("%3.0f %%", std::min(100.0, 100.0 * done / total));
  // Before that the rate says more about the set-up than about what is left.
  if (state.fits_done > 0 && state.seconds >= 0.5) {
    const double rate = done / state.seconds;
    text += format("  %.4g fits/s", rate);
    text += "  " + duration_text(std::max(0.0, total - done) / rate) + " left";
  }
  return text;
}

std::string duration_text(double seconds) {
  if (!(seconds < 60.0)) {
    const double minutes = seconds / 60.0;
    if (minutes < 60.0) {
      const int whole = static_cast<int>(minutes);
      return format("%d min %d s", whole, static_cast<int>(seconds - 60.0 * whole));
    }
    if (minutes < 60.0 * 24 * 365) {
      const int hours = static_cast<int>(minutes / 60.0);
      return format("%d h %d min", hours, static_cast<int>(minutes - 60.0 * hours));
    }
    return "more than a year";
  }
  return format(seconds < 10.0 ? "%.2f s" : "%.0f s", seconds);
}

}  // namespace thresher::command
