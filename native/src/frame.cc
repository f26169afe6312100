#include "frame.h"

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>

#include <climits>
#include <cstring>
#include <string>

#include "arguments.h"
#include "errors.h"
#include "fd.h"
#include "functions.h"

namespace tsnet {

namespace {

Napi::Value frameSend(const Napi::CallbackInfo& info) {
  const uint32_t ifindex = requireInteger(info[0], "ifindex", 1, INT_MAX);
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(info.Env(), "frame must be a Uint8Array");
  }
  const auto frame = info[1].As<Napi::Uint8Array>();
  if (frame.ByteLength() < ETH_HLEN || frame.ByteLength() > ETH_FRAME_LEN) {
    throw Napi::TypeError::New(info.Env(), "frame must have 14 to 1514 bytes");
  }
  // Protocol 0: it receives nothing. A socket for each send, since frames are rare and a socket would keep its namespace.
  const Fd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) throwErrno("socket AF_PACKET");
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(ifindex);
  to.sll_halen = ETH_ALEN;
  memcpy(to.sll_addr, frame.Data(), ETH_ALEN);
  if (sendto(socket.get(), frame.Data(), frame.ByteLength(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) {
    throwErrno("sendto link " + std::to_string(ifindex));
  }
  return info.Env().Undefined();
}

}  // namespace

void exportFrame(Napi::Env env, Napi::Object exports) {
  exports.Set("frameSend", newFunction(env, "frameSend", frameSend));
}

}  // namespace tsnet
