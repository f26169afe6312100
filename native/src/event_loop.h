#pragma once

#include <napi.h>
#include <uv.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "errors.h"
#include "fd.h"
#include "thread.h"

namespace tsnet {

/** Something with descriptors or callbacks that lives until closed: by its owner, or with its environment. */
class Closable {
 public:
  virtual ~Closable() = default;
  virtual void close() = 0;
};

/**
 * One per JavaScript environment (main thread or worker): brings the results of native threads to the loop, keeps
 * what waits for them, and closes everything when the environment ends.
 *
 * JavaScript values never leave the environment's thread: they wait in `waiting_` under a ticket, and threads carry
 * only the ticket. So a thread that outlives its environment drops its result and touches nothing.
 */
class EventLoop : public std::enable_shared_from_this<EventLoop> {
 public:
  static void install(Napi::Env env);
  static EventLoop& of(Napi::Env env);

  explicit EventLoop(Napi::Env env) : env_(env) {}

  Napi::Env env() const { return env_; }
  /** Reports whether the environment is ending: no JavaScript may be called any more. */
  bool ending() const { return ending_; }

  /** Runs `event` on the loop; from any thread. Dropped when the environment has ended. */
  void post(std::function<void(EventLoop&)> event);

  /** Keeps `value` (and the loop alive) until it is taken by its ticket. */
  uint64_t hold(std::shared_ptr<void> value);
  template <class T>
  std::shared_ptr<T> take(uint64_t ticket) {
    return std::static_pointer_cast<T>(takeAny(ticket));
  }

  /** Keeps an open object until it is released by its `close`. */
  void retain(std::shared_ptr<Closable> object);
  void release(Closable* object);

  /** Runs `work` on a thread of its own, and resolves with what `convert` makes of the result on this thread. */
  template <class Result>
  Napi::Promise start(std::function<Result()> work, std::function<Napi::Value(Napi::Env, Result&)> convert);

 private:
  friend class Poll;
  friend class JsScope;

  void open();
  void dispatch();
  void end(napi_async_cleanup_hook_handle hook);
  void handleClosed();
  std::shared_ptr<void> takeAny(uint64_t ticket);

  Napi::Env env_;
  uv_loop_t* loop_ = nullptr;
  uv_async_t async_{};
  napi_async_context context_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  std::shared_ptr<EventLoop> self_;
  size_t openHandles_ = 0;
  bool ending_ = false;
  uint64_t lastTicket_ = 0;
  std::unordered_map<uint64_t, std::shared_ptr<void>> waiting_;
  std::unordered_map<Closable*, std::shared_ptr<Closable>> retained_;

  std::mutex mutex_;  // guards the following
  std::vector<std::function<void(EventLoop&)>> posted_;
  bool ended_ = false;
};

/** Handle and callback scope for calls into JavaScript from the loop; microtasks run at its end. */
class JsScope {
 public:
  explicit JsScope(EventLoop& loop);
  ~JsScope();
  JsScope(const JsScope&) = delete;
  JsScope& operator=(const JsScope&) = delete;
  /** False when the environment cannot run JavaScript (a worker being terminated). */
  explicit operator bool() const { return callback_ != nullptr; }
  /** Calls; an exception becomes an uncaught one, as from any other callback of the loop. */
  void call(const Napi::FunctionReference& callee, const std::vector<napi_value>& arguments);

 private:
  napi_env env_;
  napi_handle_scope handles_ = nullptr;
  napi_callback_scope callback_ = nullptr;
};

/** Watches one descriptor for reading. Lives until `close`, which is final: no call comes after it. */
class Poll {
 public:
  static Poll* start(EventLoop& loop, std::shared_ptr<Fd> fd, std::function<void()> onReadable);
  /** Does not watch until `resume`. */
  void pause();
  void resume();
  void close();

 private:
  Poll(EventLoop& loop, std::shared_ptr<Fd> fd, std::function<void()> onReadable);
  static void onEvent(uv_poll_t* poll, int status, int events);

  EventLoop& loop_;
  std::shared_ptr<Fd> fd_;
  std::function<void()> onReadable_;
  uv_poll_t poll_{};
};

template <class Result>
Napi::Promise EventLoop::start(std::function<Result()> work,
                               std::function<Napi::Value(Napi::Env, Result&)> convert) {
  struct Waiting {
    Napi::Promise::Deferred deferred;
    std::function<Napi::Value(Napi::Env, Result&)> convert;
  };
  struct Outcome {
    std::optional<Result> result;
    std::optional<SysError> error;
  };
  auto waiting = std::make_shared<Waiting>(Waiting{Napi::Promise::Deferred::New(env_), std::move(convert)});
  const Napi::Promise promise = waiting->deferred.Promise();
  const uint64_t ticket = hold(waiting);
  try {
    startThread("tsnet-task", [loop = shared_from_this(), ticket, work = std::move(work)]() mutable {
      auto outcome = std::make_shared<Outcome>();
      try {
        outcome->result.emplace(work());
      } catch (const SysError& error) {
        outcome->error = error;
      } catch (const std::bad_alloc&) {
        outcome->error = SysError{ENOMEM, "malloc"};
      }
      loop->post([ticket, outcome](EventLoop& self) {
        auto settled = self.take<Waiting>(ticket);
        if (!settled) return;
        if (outcome->error) {
          settled->deferred.Reject(newNativeError(self.env(), *outcome->error).Value());
          return;
        }
        try {
          settled->deferred.Resolve(settled->convert(self.env(), *outcome->result));
        } catch (const SysError& error) {
          settled->deferred.Reject(newNativeError(self.env(), error).Value());
        }
      });
    });
  } catch (const SysError& error) {
    take<Waiting>(ticket);
    waiting->deferred.Reject(newNativeError(env_, error).Value());
  }
  return promise;
}

}  // namespace tsnet
