#pragma once

#include <napi.h>

#include <functional>
#include <utility>

#include "errors.h"

namespace tsnet {

using Body = std::function<Napi::Value(const Napi::CallbackInfo&)>;

/** A JavaScript function that throws a NativeError where `body` throws a SysError. */
inline Napi::Function newFunction(Napi::Env env, const char* name, Body body) {
  return Napi::Function::New(
      env,
      [body = std::move(body)](const Napi::CallbackInfo& info) {
        try {
          return body(info);
        } catch (const SysError& error) {
          throw newNativeError(info.Env(), error);
        }
      },
      name);
}

/** The same for a function that returns a promise: it rejects, and never throws. */
inline Napi::Function newAsyncFunction(Napi::Env env, const char* name, Body body) {
  return Napi::Function::New(
      env,
      [body = std::move(body)](const Napi::CallbackInfo& info) {
        const auto deferred = Napi::Promise::Deferred::New(info.Env());
        try {
          return body(info);
        } catch (const SysError& error) {
          deferred.Reject(newNativeError(info.Env(), error).Value());
        } catch (const Napi::Error& error) {
          deferred.Reject(error.Value());
        }
        return Napi::Value(deferred.Promise());
      },
      name);
}

}  // namespace tsnet
