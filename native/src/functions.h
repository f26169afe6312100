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
        // A deferred that is never settled is never freed, so it is made only for a failure.
        const auto rejected = [&info](Napi::Value reason) {
          const auto deferred = Napi::Promise::Deferred::New(info.Env());
          deferred.Reject(reason);
          return Napi::Value(deferred.Promise());
        };
        try {
          return body(info);
        } catch (const SysError& error) {
          return rejected(newNativeError(info.Env(), error).Value());
        } catch (const Napi::Error& error) {
          return rejected(error.Value());
        }
      },
      name);
}

/** Gives an object a method. */
inline void setMethod(Napi::Object object, const char* name, Body body) {
  object.Set(name, newFunction(object.Env(), name, std::move(body)));
}

}  // namespace tsnet
