#include <napi.h>

#include "call_server.h"
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

// Equal to that in native/index.ts: one more with each change of what native/api.ts says.
static constexpr int interfaceVersion = 2;

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
  tsnet::exportCallServer(env, exports);
  tsnet::exportNftContext(env, exports);
  exports.Set("interfaceVersion", interfaceVersion);
  return exports;
}

NODE_API_MODULE(tsnet, initialise)
