#include "udp_batch.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <memory>

#include "arguments.h"
#include "errors.h"
#include "event_loop.h"
#include "fd.h"
#include "functions.h"

namespace tsnet {

namespace {

// As in native/api.ts.
constexpr size_t batchSize = 32;
constexpr size_t datagramBytes = 4096;
constexpr size_t sourceBytes = sizeof(sockaddr_in6);
// One turn of the event loop takes no more than these from one socket.
constexpr int turnBatches = 4;

/** The caller's arrays, kept alive; they may serve several sockets, for each batch ends before the next begins. */
struct Batch {
  uint8_t* queries;
  uint8_t* sources;
  uint8_t* answers;
  uint32_t* queryLengths;
  uint32_t* answerLengths;
  Napi::ObjectReference keep;
};

uint8_t* requireBytes(const Napi::Object& batch, const char* name, size_t length) {
  const Napi::Value value = batch.Get(name);
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array &&
      value.As<Napi::TypedArray>().ByteLength() == length)
    return value.As<Napi::Uint8Array>().Data();
  throw Napi::TypeError::New(batch.Env(), std::string(name) + " must be a Uint8Array of the batch's size");
}

uint32_t* requireLengths(const Napi::Object& batch, const char* name) {
  const Napi::Value value = batch.Get(name);
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint32_array &&
      value.As<Napi::TypedArray>().ElementLength() == batchSize)
    return value.As<Napi::Uint32Array>().Data();
  throw Napi::TypeError::New(batch.Env(), std::string(name) + " must be a Uint32Array of the batch's size");
}

socklen_t lengthOf(const uint8_t* source) {
  return reinterpret_cast<const sockaddr*>(source)->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
}

class UdpServer : public Closable, public std::enable_shared_from_this<UdpServer> {
 public:
  struct Callbacks {
    Batch batch;
    Napi::FunctionReference onBatch;
    Napi::FunctionReference onError;
  };

  UdpServer(EventLoop& loop, std::shared_ptr<Fd> fd, std::shared_ptr<Callbacks> callbacks)
      : loop_(loop), fd_(std::move(fd)), callbacks_(std::move(callbacks)) {}

  void open() {
    poll_ = Poll::start(loop_, fd_, [this] { receive(); });
    loop_.retain(shared_from_this());
  }

  void pause() {
    if (poll_ != nullptr) std::exchange(poll_, nullptr)->close();
  }

  void close() override {
    if (!fd_) return;
    const auto self = shared_from_this();
    pause();
    fd_.reset();
    callbacks_.reset();
    loop_.release(this);
  }

  void send(const Napi::Value& source, const Napi::Value& answer) const {
    if (!source.IsTypedArray() || source.As<Napi::TypedArray>().ByteLength() != sourceBytes || !answer.IsTypedArray())
      throw Napi::TypeError::New(source.Env(), "source and answer must be arrays of bytes");
    if (!fd_) return;
    const auto to = source.As<Napi::Uint8Array>();
    const auto bytes = answer.As<Napi::Uint8Array>();
    // Whoever asked may be gone: an answer that cannot be sent is lost, as any datagram may be.
    (void)::sendto(fd_->get(), bytes.Data(), bytes.ByteLength(), MSG_DONTWAIT | MSG_NOSIGNAL,
                   reinterpret_cast<const sockaddr*>(to.Data()), lengthOf(to.Data()));
  }

 private:
  void receive() {
    const auto self = shared_from_this();
    JsScope scope(loop_);
    if (!scope) return;
    for (int turn = 0; turn < turnBatches && poll_ != nullptr; turn += 1) {
      const Napi::HandleScope handles(loop_.env());
      // Kept over the call, which may close the socket.
      const auto callbacks = callbacks_;
      try {
        const int count = take(callbacks->batch);
        if (count <= 0) return;
        scope.call(callbacks->onBatch, {Napi::Number::New(loop_.env(), count)});
        if (fd_) answer(callbacks->batch, count);
        if (static_cast<size_t>(count) < batchSize) return;
      } catch (const SysError& error) {
        if (error.number != EAGAIN && error.number != EINTR)
          scope.call(callbacks->onError, {newNativeError(loop_.env(), error).Value()});
        return;
      } catch (const Napi::Error&) {
        return;
      }
    }
  }

  int take(const Batch& batch) const {
    std::array<mmsghdr, batchSize> headers{};
    std::array<iovec, batchSize> places{};
    for (size_t at = 0; at < batchSize; at += 1) {
      places[at] = {batch.queries + at * datagramBytes, datagramBytes};
      msghdr& header = headers[at].msg_hdr;
      header.msg_name = batch.sources + at * sourceBytes;
      header.msg_namelen = sourceBytes;
      header.msg_iov = &places[at];
      header.msg_iovlen = 1;
    }
    const int count = recvmmsg(fd_->get(), headers.data(), batchSize, MSG_DONTWAIT, nullptr);
    if (count < 0) throwErrno("recvmmsg");
    for (int at = 0; at < count; at += 1) {
      const bool cut = (headers[at].msg_hdr.msg_flags & MSG_TRUNC) != 0;
      batch.queryLengths[at] = cut ? 0 : headers[at].msg_len;
      batch.answerLengths[at] = 0;
    }
    return count;
  }

  void answer(const Batch& batch, int count) const {
    std::array<mmsghdr, batchSize> headers{};
    std::array<iovec, batchSize> places{};
    unsigned int wanted = 0;
    for (int at = 0; at < count; at += 1) {
      const size_t length = batch.answerLengths[at];
      if (length == 0 || length > datagramBytes) continue;
      places[wanted] = {batch.answers + at * datagramBytes, length};
      msghdr& header = headers[wanted].msg_hdr;
      header.msg_name = batch.sources + at * sourceBytes;
      header.msg_namelen = lengthOf(batch.sources + at * sourceBytes);
      header.msg_iov = &places[wanted];
      header.msg_iovlen = 1;
      wanted += 1;
    }
    for (unsigned int sent = 0; sent < wanted;) {
      const int some = sendmmsg(fd_->get(), headers.data() + sent, wanted - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
      // One that cannot be sent does not keep back the others.
      sent += some > 0 ? static_cast<unsigned int>(some) : 1;
    }
  }

  EventLoop& loop_;
  std::shared_ptr<Fd> fd_;
  std::shared_ptr<Callbacks> callbacks_;
  Poll* poll_ = nullptr;
};

uint16_t portOf(const Fd& socket) {
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &length) < 0) throwErrno("getsockname");
  if (bound.ss_family != AF_INET && bound.ss_family != AF_INET6) throw SysError{EAFNOSUPPORT, "getsockname"};
  // At the same place in both.
  return ntohs(reinterpret_cast<const sockaddr_in&>(bound).sin_port);
}

Napi::Value udpServe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object options = requireObject(info[0], "options");
  const Napi::Object batch = requireObject(options.Get("batch"), "batch");
  auto callbacks = std::make_shared<UdpServer::Callbacks>();
  callbacks->batch = {requireBytes(batch, "queries", batchSize * datagramBytes),
                      requireBytes(batch, "sources", batchSize * sourceBytes),
                      requireBytes(batch, "answers", batchSize * datagramBytes),
                      requireLengths(batch, "queryLengths"),
                      requireLengths(batch, "answerLengths"),
                      Napi::Persistent(batch)};
  callbacks->onBatch = Napi::Persistent(requireFunction(options.Get("onBatch"), "onBatch"));
  callbacks->onError = Napi::Persistent(requireFunction(options.Get("onError"), "onError"));
  auto fd = std::make_shared<Fd>(static_cast<int>(requireInteger(options.Get("fd"), "fd", 0, INT32_MAX)));
  const uint16_t port = portOf(*fd);
  const auto server = std::make_shared<UdpServer>(EventLoop::of(env), std::move(fd), callbacks);
  server->open();
  auto result = Napi::Object::New(env);
  result.Set("port", Napi::Number::New(env, port));
  setMethod(result, "send", [server](const Napi::CallbackInfo& call) {
    server->send(call[0], call[1]);
    return call.Env().Undefined();
  });
  setMethod(result, "pause", [server](const Napi::CallbackInfo& call) {
    server->pause();
    return call.Env().Undefined();
  });
  setMethod(result, "close", [server](const Napi::CallbackInfo& call) {
    server->close();
    return call.Env().Undefined();
  });
  return result;
}

}  // namespace

void exportUdpBatch(Napi::Env env, Napi::Object exports) {
  exports.Set("udpServe", newFunction(env, "udpServe", udpServe));
}

}  // namespace tsnet
