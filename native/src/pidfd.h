#pragma once

#include <napi.h>

namespace tsnet {

void exportPidfd(Napi::Env env, Napi::Object exports);

}  // namespace tsnet
