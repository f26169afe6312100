#include <napi.h>

#include "event_loop.h"
#include "frame.h"
#include "inet_socket.h"
#include "netlink_exchange.h"
#include "netlink_socket.h"
#include "netns.h"
#include "nft_context.h"
#include "pidfd.h"
#include "root_file.h"
#include "sysctl.h"
#include "udp_batch.h"

static Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  tsnet::EventLoop::install(env);
  tsnet::exportNetlinkSocket(env, exports);
  tsnet::exportNetlinkExchange(env, exports);
  tsnet::exportNetns(env, exports);
  tsnet::exportSysctl(env, exports);
  tsnet::exportPidfd(env, exports);
  tsnet::exportFrame(env, exports);
  tsnet::exportRootFile(env, exports);
  tsnet::exportInetSocket(env, exports);
  tsnet::exportUdpBatch(env, exports);
  tsnet::exportNftContext(env, exports);
  return exports;
}

NODE_API_MODULE(tsnet, initialise)
