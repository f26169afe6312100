#pragma once

#include <functional>

namespace tsnet {

/**
 * Runs a body on a detached thread with all signals blocked, so that the process's signals stay with Node's own
 * threads. The thread may be one that has just ended another body: it has gone back to the process's own network
 * namespace, which is all that a body may have changed. The body must not throw and must own all it touches: nobody
 * joins it.
 */
void startThread(const char* name, std::function<void()> body);

}  // namespace tsnet
