#pragma once

#include <napi.h>

#include <cerrno>
#include <string>

namespace tsnet {

/** A failed system call; becomes a NativeError at the edge to JavaScript. */
struct SysError {
  int number;
  std::string call;
};

/** Throws a SysError with the current `errno`. */
[[noreturn]] void throwErrno(std::string call);

/** The errno's name (`ENOENT`), or `E<number>` for one without a name. */
std::string errnoName(int number);

/** The NativeError of native/api.ts. */
Napi::Error newNativeError(Napi::Env env, const SysError& error);

}  // namespace tsnet
