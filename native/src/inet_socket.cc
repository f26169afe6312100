#include "inet_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <string>

#include "arguments.h"
#include "errors.h"
#include "event_loop.h"
#include "fd.h"
#include "functions.h"
#include "netns.h"

namespace tsnet {

namespace {

constexpr int backlog = 128;

struct Wanted {
  bool stream;
  std::string address;
  uint16_t port;
  int receiveBufferBytes;
  Netns netns;
};

socklen_t writeAddress(const Wanted& wanted, sockaddr_storage& to) {
  auto* const four = reinterpret_cast<sockaddr_in*>(&to);
  auto* const six = reinterpret_cast<sockaddr_in6*>(&to);
  if (inet_pton(AF_INET, wanted.address.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(wanted.port);
    return sizeof *four;
  }
  memset(&to, 0, sizeof to);
  if (inet_pton(AF_INET6, wanted.address.c_str(), &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(wanted.port);
    return sizeof *six;
  }
  throw SysError{EINVAL, "inet_pton " + wanted.address};
}

void setOption(const Fd& socket, int level, int name, int value, const char* call) {
  if (setsockopt(socket.get(), level, name, &value, sizeof value) < 0) throwErrno(call);
}

/** Bound before its address is there, and still bound while it is gone: bridges are made and repaired under it. */
Fd openSocket(const Wanted& wanted) {
  wanted.netns.enter();
  sockaddr_storage to{};
  const socklen_t length = writeAddress(wanted, to);
  const bool six = to.ss_family == AF_INET6;
  const int type = (wanted.stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
  Fd socket(::socket(to.ss_family, type, 0));
  if (!socket) throwErrno("socket");
  if (six) {
    setOption(socket, IPPROTO_IPV6, IPV6_V6ONLY, 1, "setsockopt IPV6_V6ONLY");
    setOption(socket, IPPROTO_IPV6, IPV6_FREEBIND, 1, "setsockopt IPV6_FREEBIND");
  } else {
    setOption(socket, IPPROTO_IP, IP_FREEBIND, 1, "setsockopt IP_FREEBIND");
  }
  // Of a connection that ended a moment ago; it does not let two listeners on one port.
  if (wanted.stream) setOption(socket, SOL_SOCKET, SO_REUSEADDR, 1, "setsockopt SO_REUSEADDR");
  if (wanted.receiveBufferBytes > 0)
    setOption(socket, SOL_SOCKET, SO_RCVBUFFORCE, wanted.receiveBufferBytes, "setsockopt SO_RCVBUFFORCE");
  if (bind(socket.get(), reinterpret_cast<sockaddr*>(&to), length) < 0)
    throwErrno("bind " + wanted.address + " port " + std::to_string(wanted.port));
  if (wanted.stream && listen(socket.get(), backlog) < 0) throwErrno("listen");
  return socket;
}

Napi::Value inetOpen(const Napi::CallbackInfo& info) {
  const Napi::Object options = requireObject(info[0], "options");
  const std::string type = requireString(options.Get("type"), "type");
  if (type != "udp" && type != "tcp") throw Napi::TypeError::New(info.Env(), "type must be udp or tcp");
  Wanted wanted{type == "tcp",
                requireString(options.Get("address"), "address"),
                static_cast<uint16_t>(requireInteger(options.Get("port"), "port", 0, 65535)),
                static_cast<int>(optionalInteger(options.Get("receiveBufferBytes"), "receiveBufferBytes", 0, 1 << 28, 0)),
                Netns::from(options.Get("netns"))};
  return EventLoop::of(info.Env())
      .start<std::shared_ptr<Fd>>([wanted = std::move(wanted)] { return std::make_shared<Fd>(openSocket(wanted)); },
                                  [](Napi::Env env, std::shared_ptr<Fd>& socket) -> Napi::Value {
                                    return Napi::Number::New(env, socket->release());
                                  });
}

}  // namespace

void exportInetSocket(Napi::Env env, Napi::Object exports) {
  exports.Set("inetOpen", newAsyncFunction(env, "inetOpen", inetOpen));
}

}  // namespace tsnet
