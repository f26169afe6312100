#include "errors.h"

#include <cstring>
#include <utility>

namespace tsnet {

void throwErrno(std::string call) {
  const int number = errno;
  throw SysError{number, std::move(call)};
}

std::string errnoName(int number) {
  const char* name = strerrorname_np(number);
  return name != nullptr ? name : "E" + std::to_string(number);
}

Napi::Error newNativeError(Napi::Env env, const SysError& error) {
  const std::string code = errnoName(error.number);
  const char* text = strerrordesc_np(error.number);
  Napi::Error result =
      Napi::Error::New(env, code + ": " + (text != nullptr ? text : "unknown error") + ", " + error.call);
  result.Set("code", Napi::String::New(env, code));
  result.Set("errno", Napi::Number::New(env, error.number));
  result.Set("syscall", Napi::String::New(env, error.call));
  return result;
}

}  // namespace tsnet
