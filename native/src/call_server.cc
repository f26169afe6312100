#include "call_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "arguments.h"
#include "errors.h"
#include "event_loop.h"
#include "fd.h"
#include "functions.h"

namespace tsnet {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int backlog = 511;
constexpr size_t lengthBytes = 4;
constexpr size_t headBytes = 1 + lengthBytes;
/** So many callers are taken in one turn of the event loop. */
constexpr int turnCallers = 64;

sockaddr_un addressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw SysError{ENAMETOOLONG, "bind " + path};
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

/** The mode of the socket is that of its file, so that the file is never there with wider permissions (unix_bind). */
std::shared_ptr<Fd> listenAt(const std::string& path) {
  const sockaddr_un address = addressOf(path);
  auto fd = std::make_shared<Fd>(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!*fd) throwErrno("socket");
  if (fchmod(fd->get(), 0600) < 0) throwErrno("fchmod");
  if (bind(fd->get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) throwErrno("bind " + path);
  if (listen(fd->get(), backlog) < 0) throwErrno("listen " + path);
  return fd;
}

uint32_t readLength(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

/** Calls on a unix socket, one a connection: four bytes of length and a frame; answered by a byte, a length, a text. */
class CallServer : public Closable, public std::enable_shared_from_this<CallServer> {
 public:
  struct Settings {
    std::string path;
    size_t maxBytes;
    size_t maxCalls;
  };

  CallServer(EventLoop& loop, Settings settings)
      : loop_(loop), settings_(std::move(settings)), fd_(listenAt(settings_.path)) {}

  void open(Napi::Function onCall) {
    onCall_ = Napi::Persistent(onCall);
    poll_ = Poll::start(loop_, fd_, [this] { accept(); });
    loop_.retain(shared_from_this());
  }

  void close() override {
    if (!fd_) return;
    const auto self = shared_from_this();
    std::exchange(poll_, nullptr)->close();
    fd_.reset();
    unlink(settings_.path.c_str());
    while (!calls_.empty()) drop(calls_.begin()->first);
    onCall_.Reset();
    loop_.release(this);
  }

  /** All at once: the buffer is made as large as the answer, so that nothing has to be waited for. */
  void answer(uint32_t id, uint8_t status, const std::string& text) {
    const auto found = calls_.find(id);
    if (found == calls_.end()) return;
    const int socket = found->second.fd->get();
    std::string bytes(headBytes, static_cast<char>(status));
    for (size_t at = 0; at < lengthBytes; at += 1)
      bytes[1 + at] = static_cast<char>(text.size() >> (8 * (lengthBytes - 1 - at)));
    bytes += text;
    const int bufferBytes = static_cast<int>(bytes.size() + (64 << 10));
    if (bytes.size() > smallBytes)
      (void)setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &bufferBytes, sizeof bufferBytes);
    // Whoever called may be gone.
    (void)::send(socket, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    drop(id);
  }

  bool isGone(uint32_t id) const {
    const auto found = calls_.find(id);
    if (found == calls_.end()) return true;
    pollfd entry{found->second.fd->get(), 0, 0};
    return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLHUP | POLLERR)) != 0;
  }

  /** Ends connections that have not said all for so long, and goes on accepting where there was no room to. */
  void tidy(uint32_t patienceMs) {
    const auto latest = Clock::now() - std::chrono::milliseconds(patienceMs);
    std::vector<uint32_t> slow;
    for (const auto& [id, call] : calls_)
      if (call.poll != nullptr && call.since <= latest) slow.push_back(id);
    for (const uint32_t id : slow) drop(id);
    if (poll_ != nullptr && isFull_) {
      isFull_ = false;
      poll_->resume();
    }
  }

 private:
  struct Call {
    std::shared_ptr<Fd> fd;
    Clock::time_point since;
    /** While it has not been said whole. */
    Poll* poll = nullptr;
    std::vector<uint8_t> received;
  };

  static constexpr size_t smallBytes = 64 << 10;

  void accept() {
    const auto self = shared_from_this();
    JsScope scope(loop_);
    if (!scope) return;
    for (int turn = 0; turn < turnCallers && fd_; turn += 1) {
      const int number = accept4(fd_->get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (number < 0) {
        if (errno == ECONNABORTED || errno == EINTR) continue;
        // Without room for another descriptor it would be told again at once, and for ever.
        if (errno != EAGAIN) {
          isFull_ = true;
          poll_->pause();
        }
        return;
      }
      Call call{std::make_shared<Fd>(number), Clock::now(), nullptr, {}};
      // One more is turned away, which its caller takes as "try again later".
      if (calls_.size() >= settings_.maxCalls) continue;
      const uint32_t id = ++lastId_;
      calls_.emplace(id, std::move(call));
      receive(id, scope);
    }
  }

  /** What a caller has sent so far; most have sent all by the time that they are accepted. */
  void receive(uint32_t id, JsScope& scope) {
    Call& call = calls_.at(id);
    static thread_local uint8_t chunk[64 << 10];
    for (;;) {
      const ssize_t size = recv(call.fd->get(), chunk, sizeof chunk, MSG_DONTWAIT);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN) break;
      if (size <= 0) return drop(id);
      call.received.insert(call.received.end(), chunk, chunk + size);
      if (call.received.size() < lengthBytes) continue;
      const size_t length = readLength(call.received.data());
      const size_t said = call.received.size() - lengthBytes;
      if (length > settings_.maxBytes || said > length) return drop(id);
      if (said == length) return deliver(id, call, scope);
    }
    if (call.poll == nullptr) call.poll = Poll::start(loop_, call.fd, [this, id] { goOn(id); });
  }

  void goOn(uint32_t id) {
    const auto self = shared_from_this();
    JsScope scope(loop_);
    if (scope && calls_.count(id) > 0) receive(id, scope);
  }

  void deliver(uint32_t id, Call& call, JsScope& scope) {
    if (call.poll != nullptr) std::exchange(call.poll, nullptr)->close();
    const Napi::HandleScope handles(loop_.env());
    const std::vector<uint8_t> received = std::move(call.received);
    try {
      const auto frame = Napi::Buffer<uint8_t>::Copy(loop_.env(), received.data() + lengthBytes,
                                                     received.size() - lengthBytes);
      scope.call(onCall_, {Napi::Number::New(loop_.env(), id), frame});
    } catch (const Napi::Error&) {
      drop(id);
    }
  }

  void drop(uint32_t id) {
    const auto found = calls_.find(id);
    if (found == calls_.end()) return;
    if (found->second.poll != nullptr) found->second.poll->close();
    calls_.erase(found);
  }

  EventLoop& loop_;
  const Settings settings_;
  std::shared_ptr<Fd> fd_;
  Poll* poll_ = nullptr;
  Napi::FunctionReference onCall_;
  uint32_t lastId_ = 0;
  bool isFull_ = false;
  std::unordered_map<uint32_t, Call> calls_;
};

Napi::Value callServe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object options = requireObject(info[0], "options");
  CallServer::Settings settings;
  settings.path = requireString(options.Get("path"), "path");
  settings.maxBytes = requireInteger(options.Get("maxBytes"), "maxBytes", 1, INT32_MAX);
  settings.maxCalls = requireInteger(options.Get("maxCalls"), "maxCalls", 1, INT32_MAX);
  const Napi::Function onCall = requireFunction(options.Get("onCall"), "onCall");
  const auto server = std::make_shared<CallServer>(EventLoop::of(env), std::move(settings));
  server->open(onCall);
  auto result = Napi::Object::New(env);
  const auto idOf = [](const Napi::CallbackInfo& call) { return requireInteger(call[0], "call", 1, UINT32_MAX); };
  setMethod(result, "answer", [server, idOf](const Napi::CallbackInfo& call) {
    const auto status = static_cast<uint8_t>(requireInteger(call[1], "status", 0, UINT8_MAX));
    if (!call[2].IsString()) throw Napi::TypeError::New(call.Env(), "text must be a string");
    server->answer(idOf(call), status, call[2].As<Napi::String>().Utf8Value());
    return call.Env().Undefined();
  });
  setMethod(result, "isGone", [server, idOf](const Napi::CallbackInfo& call) {
    return Napi::Boolean::New(call.Env(), server->isGone(idOf(call)));
  });
  setMethod(result, "tidy", [server](const Napi::CallbackInfo& call) {
    server->tidy(requireInteger(call[0], "patienceMs", 0, INT32_MAX));
    return call.Env().Undefined();
  });
  setMethod(result, "close", [server](const Napi::CallbackInfo& call) {
    server->close();
    return call.Env().Undefined();
  });
  return result;
}

}  // namespace

void exportCallServer(Napi::Env env, Napi::Object exports) {
  exports.Set("callServe", newFunction(env, "callServe", callServe));
}

}  // namespace tsnet
