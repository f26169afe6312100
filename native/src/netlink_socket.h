#pragma once

#include <napi.h>

namespace tsnet {

void exportNetlinkSocket(Napi::Env env, Napi::Object exports);

}  // namespace tsnet
