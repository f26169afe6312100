#pragma once

#include <napi.h>

namespace tsnet {

/** Adds `callServe`. */
void exportCallServer(Napi::Env env, Napi::Object exports);

}  // namespace tsnet
