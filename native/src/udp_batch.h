#pragma once

#include <napi.h>

namespace tsnet {

/** Adds `udpServe`. */
void exportUdpBatch(Napi::Env env, Napi::Object exports);

}  // namespace tsnet
