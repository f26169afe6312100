#include "netlink_socket.h"

#include <climits>
#include <condition_variable>
#include <deque>
#include <set>

#include "arguments.h"
#include "errors.h"
#include "event_loop.h"
#include "functions.h"
#include "netlink.h"
#include "netns.h"

namespace tsnet {

namespace {

// One turn of the event loop takes no more than this from one socket.
constexpr size_t turnDatagrams = 128;
constexpr size_t turnBytes = 2 * 1024 * 1024;

/** One for the thread: a datagram is copied out before the next is received. */
const ReceiveBuffer& sharedBuffer() {
  thread_local const ReceiveBuffer buffer = newReceiveBuffer();
  return buffer;
}

/** Datagrams on their way to the kernel, sent in order by a thread that starts with the first one. */
class SendQueue : public std::enable_shared_from_this<SendQueue> {
 public:
  using OnSent = std::function<void(uint64_t ticket, std::optional<SysError> error)>;

  SendQueue(std::shared_ptr<Fd> fd, OnSent onSent) : fd_(std::move(fd)), onSent_(std::move(onSent)) {}

  void push(uint64_t ticket, std::vector<uint8_t> datagram) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!started_) startThread("tsnet-send", [self = shared_from_this()] { self->run(); });
    started_ = true;
    queue_.push_back({ticket, std::move(datagram)});
    changed_.notify_one();
  }

  void stop() {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
    queue_.clear();
    changed_.notify_one();
  }

 private:
  struct Item {
    uint64_t ticket;
    std::vector<uint8_t> datagram;
  };

  void run() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopped_ || !queue_.empty(); });
      if (stopped_) return;
      const Item item = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      std::optional<SysError> failure;
      try {
        sendNetlink(*fd_, item.datagram.data(), item.datagram.size());
      } catch (const SysError& error) {
        failure = error;
      }
      onSent_(item.ticket, failure);
    }
  }

  // Held by the thread too: a descriptor closed under a `sendmsg` could be another file by then.
  const std::shared_ptr<Fd> fd_;
  const OnSent onSent_;
  std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  std::deque<Item> queue_;
  bool started_ = false;
  bool stopped_ = false;
};

class NetlinkSocket : public Closable, public std::enable_shared_from_this<NetlinkSocket> {
 public:
  struct Callbacks {
    Napi::FunctionReference onMessage;
    Napi::FunctionReference onError;
  };

  NetlinkSocket(EventLoop& loop, std::shared_ptr<Fd> fd, std::shared_ptr<Callbacks> callbacks)
      : loop_(loop), fd_(std::move(fd)), callbacks_(std::move(callbacks)) {}

  void open() {
    poll_ = Poll::start(loop_, fd_, [this] { receive(); });
    loop_.retain(shared_from_this());
  }

  bool closed() const { return poll_ == nullptr; }

  Napi::Value send(Napi::Value datagram) {
    const Bytes bytes = requireDatagram(datagram, "datagram");
    if (closed()) throw SysError{EBADF, "sendmsg"};
    if (!queue_) {
      queue_ = std::make_shared<SendQueue>(
          fd_, [loop = loop_.shared_from_this()](uint64_t ticket, std::optional<SysError> error) {
            loop->post([ticket, error](EventLoop& self) { settle(self, ticket, error); });
          });
    }
    auto pending = std::make_shared<Pending>(Pending{Napi::Promise::Deferred::New(loop_.env()), weak_from_this()});
    const uint64_t ticket = loop_.hold(pending);
    try {
      queue_->push(ticket, {bytes.start, bytes.start + bytes.length});
    } catch (const SysError&) {
      loop_.take<Pending>(ticket);
      throw;
    }
    tickets_.insert(ticket);
    return pending->deferred.Promise();
  }

  void sendSync(Napi::Value datagram) {
    const Bytes bytes = requireDatagram(datagram, "datagram");
    if (closed()) throw SysError{EBADF, "sendmsg"};
    sendNetlink(*fd_, bytes.start, bytes.length);
  }

  void pause() {
    if (!closed()) poll_->pause();
  }

  void resume() {
    if (!closed()) poll_->resume();
  }

  void close() override {
    if (closed()) return;
    const auto self = shared_from_this();
    std::exchange(poll_, nullptr)->close();
    fd_.reset();
    if (queue_) queue_->stop();
    queue_.reset();
    callbacks_.reset();
    loop_.release(this);
    for (const uint64_t ticket : std::exchange(tickets_, {})) settle(loop_, ticket, SysError{EBADF, "sendmsg"});
  }

 private:
  struct Pending {
    Napi::Promise::Deferred deferred;
    std::weak_ptr<NetlinkSocket> socket;
  };

  static void settle(EventLoop& loop, uint64_t ticket, const std::optional<SysError>& error) {
    const auto pending = loop.take<Pending>(ticket);
    if (!pending || loop.ending()) return;
    if (const auto socket = pending->socket.lock()) socket->tickets_.erase(ticket);
    if (error) {
      pending->deferred.Reject(newNativeError(loop.env(), *error).Value());
    } else {
      pending->deferred.Resolve(loop.env().Undefined());
    }
  }

  void receive() {
    const auto self = shared_from_this();
    JsScope scope(loop_);
    if (!scope) return;
    size_t bytes = 0;
    for (size_t count = 0; !closed() && count < turnDatagrams && bytes < turnBytes; count += 1) {
      const Napi::HandleScope handles(loop_.env());
      // Kept over the call, which may close the socket.
      const auto callbacks = callbacks_;
      try {
        const ReceiveBuffer& buffer = sharedBuffer();
        const size_t length = receiveNetlink(*fd_, buffer);
        bytes += length;
        scope.call(callbacks->onMessage, {Napi::Buffer<uint8_t>::Copy(loop_.env(), buffer.get(), length)});
      } catch (const SysError& error) {
        if (error.number == EAGAIN) return;
        if (error.number != ENOBUFS) close();
        scope.call(callbacks->onError, {newNativeError(loop_.env(), error).Value()});
      } catch (const Napi::Error&) {
        return;
      }
    }
  }

  EventLoop& loop_;
  std::shared_ptr<Fd> fd_;
  std::shared_ptr<Callbacks> callbacks_;
  std::shared_ptr<SendQueue> queue_;
  std::set<uint64_t> tickets_;
  Poll* poll_ = nullptr;
};

struct Opened {
  Fd fd;
  uint32_t portid;
};

Napi::Value newSocketObject(Napi::Env env, const std::shared_ptr<NetlinkSocket>& socket, uint32_t portid) {
  auto result = Napi::Object::New(env);
  const auto method = [&](const char* name, Napi::Function function) {
    return Napi::PropertyDescriptor::Value(name, function, napi_enumerable);
  };
  result.DefineProperties({
      Napi::PropertyDescriptor::Value("portid", Napi::Number::New(env, portid), napi_enumerable),
      Napi::PropertyDescriptor::Accessor(
          env, result, "closed",
          [socket](const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), socket->closed()); },
          napi_enumerable),
      method("send", newAsyncFunction(env, "send",
                                      [socket](const Napi::CallbackInfo& info) { return socket->send(info[0]); })),
      method("sendSync", newFunction(env, "sendSync",
                                     [socket](const Napi::CallbackInfo& info) {
                                       socket->sendSync(info[0]);
                                       return info.Env().Undefined();
                                     })),
      method("pause", newFunction(env, "pause",
                                  [socket](const Napi::CallbackInfo& info) {
                                    socket->pause();
                                    return info.Env().Undefined();
                                  })),
      method("resume", newFunction(env, "resume",
                                   [socket](const Napi::CallbackInfo& info) {
                                     socket->resume();
                                     return info.Env().Undefined();
                                   })),
      method("close", newFunction(env, "close",
                                  [socket](const Napi::CallbackInfo& info) {
                                    socket->close();
                                    return info.Env().Undefined();
                                  })),
  });
  return result;
}

NetlinkSettings requireSettings(const Napi::Object& options) {
  NetlinkSettings settings;
  settings.protocol = static_cast<int>(requireInteger(options.Get("protocol"), "protocol", 0, 31));
  settings.receiveBufferBytes = optionalInteger(options.Get("receiveBufferBytes"), "receiveBufferBytes", 1,
                                                INT_MAX / 2, settings.receiveBufferBytes);
  settings.strictCheck = optionalBoolean(options.Get("strictCheck"), "strictCheck", settings.strictCheck);
  const Napi::Value groups = options.Get("groups");
  if (groups.IsUndefined()) return settings;
  if (!groups.IsArray()) throw Napi::TypeError::New(options.Env(), "groups must be an array");
  const auto list = groups.As<Napi::Array>();
  for (uint32_t index = 0; index < list.Length(); index += 1) {
    settings.groups.push_back(requireInteger(list.Get(index), "groups[]", 1, INT_MAX));
  }
  return settings;
}

Napi::Value netlinkOpen(const Napi::CallbackInfo& info) {
  const auto options = requireObject(info[0], "options");
  auto callbacks = std::make_shared<NetlinkSocket::Callbacks>();
  callbacks->onMessage = Napi::Persistent(requireFunction(options.Get("onMessage"), "onMessage"));
  callbacks->onError = Napi::Persistent(requireFunction(options.Get("onError"), "onError"));
  EventLoop& loop = EventLoop::of(info.Env());
  return loop.start<Opened>(
      [settings = requireSettings(options), netns = Netns::from(options.Get("netns"))] {
        netns.enter();
        Fd fd = openNetlink(settings);
        const uint32_t portid = netlinkPortid(fd);
        return Opened{std::move(fd), portid};
      },
      [&loop, callbacks](Napi::Env env, Opened& opened) {
        auto socket = std::make_shared<NetlinkSocket>(loop, std::make_shared<Fd>(std::move(opened.fd)), callbacks);
        socket->open();
        return newSocketObject(env, socket, opened.portid);
      });
}

}  // namespace

void exportNetlinkSocket(Napi::Env env, Napi::Object exports) {
  exports.Set("netlinkOpen", newAsyncFunction(env, "netlinkOpen", netlinkOpen));
}

}  // namespace tsnet
