#pragma once

#include <napi.h>

#include <string>

namespace tsnet {

/** A path below /proc/sys that cannot leave it; throws a TypeError. */
std::string requireSysctlPath(Napi::Value value, const char* name);

/** A value as written to a sysctl: the empty string is one. */
std::string requireSysctlValue(Napi::Value value, const char* name);

/** Writes in the calling thread's network namespace. Equivalent to: `sysctl -w` */
void writeSysctl(const std::string& path, const std::string& value);

void exportSysctl(Napi::Env env, Napi::Object exports);

}  // namespace tsnet
