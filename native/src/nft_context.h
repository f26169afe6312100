#pragma once

#include <napi.h>

namespace tsnet {

void exportNftContext(Napi::Env env, Napi::Object exports);

}  // namespace tsnet
