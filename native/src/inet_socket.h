#pragma once

#include <napi.h>

namespace tsnet {

void exportInetSocket(Napi::Env env, Napi::Object exports);

}  // namespace tsnet
