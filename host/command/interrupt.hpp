#pragma once

namespace thresher::command {

/// From here on the first SIGINT or SIGTERM only sets a flag; the second has its default action.
void watch_for_interrupts();

/// True once a signal has arrived.
bool interrupted();

}  // namespace thresher::command
