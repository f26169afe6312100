#pragma once

#include <napi.h>

namespace tsnet {

void exportRootFile(Napi::Env env, Napi::Object exports);

}  // namespace tsnet
