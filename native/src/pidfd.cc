#include "pidfd.h"

#include <sys/syscall.h>

#include <climits>

#include "arguments.h"
#include "errors.h"
#include "event_loop.h"
#include "functions.h"

namespace tsnet {

namespace {

class PidfdWatch : public Closable, public std::enable_shared_from_this<PidfdWatch> {
 public:
  PidfdWatch(EventLoop& loop, Napi::Function onExit) : loop_(loop), onExit_(Napi::Persistent(onExit)) {}

  void open(int pid) {
    auto fd = std::make_shared<Fd>(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!*fd) throwErrno("pidfd_open " + std::to_string(pid));
    poll_ = Poll::start(loop_, std::move(fd), [this] { exited(); });
    loop_.retain(shared_from_this());
  }

  void close() override {
    if (poll_ == nullptr) return;
    std::exchange(poll_, nullptr)->close();
    onExit_.Reset();
    loop_.release(this);
  }

 private:
  void exited() {
    const auto self = shared_from_this();
    JsScope scope(loop_);
    if (!scope) return;
    const auto onExit = Napi::Persistent(onExit_.Value());
    close();
    scope.call(onExit, {});
  }

  EventLoop& loop_;
  Napi::FunctionReference onExit_;
  Poll* poll_ = nullptr;
};

Napi::Value pidfdWatch(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int pid = static_cast<int>(requireInteger(info[0], "pid", 1, INT_MAX));
  auto watch = std::make_shared<PidfdWatch>(EventLoop::of(env), requireFunction(info[1], "onExit"));
  watch->open(pid);
  auto result = Napi::Object::New(env);
  result.Set("close", newFunction(env, "close", [watch](const Napi::CallbackInfo& call) {
               watch->close();
               return call.Env().Undefined();
             }));
  return result;
}

Napi::Value pidfdGetfd(const Napi::CallbackInfo& info) {
  const int pid = static_cast<int>(requireInteger(info[0], "pid", 1, INT_MAX));
  const int fd = static_cast<int>(requireInteger(info[1], "fd", 0, INT_MAX));
  const Fd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process) throwErrno("pidfd_open " + std::to_string(pid));
  Fd taken(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
  if (!taken) throwErrno("pidfd_getfd " + std::to_string(fd));
  return Napi::Number::New(info.Env(), taken.release());
}

}  // namespace

void exportPidfd(Napi::Env env, Napi::Object exports) {
  exports.Set("pidfdWatch", newFunction(env, "pidfdWatch", pidfdWatch));
  exports.Set("pidfdGetfd", newFunction(env, "pidfdGetfd", pidfdGetfd));
}

}  // namespace tsnet
