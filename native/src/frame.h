#pragma once

#include <napi.h>

namespace tsnet {

void exportFrame(Napi::Env env, Napi::Object exports);

}  // namespace tsnet
