#pragma once

#include <functional>

namespace tsnet {

/**
 * Starts a detached thread with all signals blocked, so that the process's signals stay with Node's own threads.
 * The body must not throw and must own all it touches: nobody joins it.
 */
void startThread(const char* name, std::function<void()> body);

}  // namespace tsnet
