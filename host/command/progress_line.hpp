#pragma once

#include <string>

#include "thresher/observer.hpp"

namespace thresher::command {

/// Passes Ctrl-C to the library and, if `visible`, keeps one line on stderr up to date.
class ProgressLine : public Observer {
 public:
  explicit ProgressLine(bool visible) : visible_(visible) {}
  ~ProgressLine() override { erase(); }

  void progress(const Progress& state) override;
  bool cancelled() override;
  void erase();

 private:
  bool visible_;
  bool shown_ = false;
};

/// "42 %  1234 fits/s  12 s left"
std::string progress_text(const Progress& state);

/// "0.42 s", "12 s", "3 min 20 s", "2 h 5 min"
std::string duration_text(double seconds);

}  // namespace thresher::command
