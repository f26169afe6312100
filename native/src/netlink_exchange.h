#pragma once

#include <napi.h>

namespace tsnet {

void exportNetlinkExchange(Napi::Env env, Napi::Object exports);

}  // namespace tsnet
