#include "netlink_exchange.h"

#include <poll.h>

#include <chrono>
#include <climits>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "errors.h"
#include "event_loop.h"
#include "functions.h"
#include "netlink.h"
#include "netns.h"
#include "sysctl.h"

namespace tsnet {

namespace {

using Clock = std::chrono::steady_clock;
using Datagrams = std::vector<std::vector<uint8_t>>;

constexpr uint32_t defaultTimeoutMs = 5000;

struct Exchange {
  int protocol;
  Netns netns;
  std::vector<std::pair<std::string, std::string>> sysctls;
  std::vector<uint8_t> datagram;
  size_t answers;
  bool refusalsOnly;
  uint32_t timeoutMs;
};

Exchange requireExchange(Napi::Value value) {
  const auto options = requireObject(value, "options");
  Exchange exchange;
  exchange.protocol = static_cast<int>(requireInteger(options.Get("protocol"), "protocol", 0, 31));
  exchange.netns = Netns::from(options.Get("netns"));
  exchange.answers = requireInteger(options.Get("answers"), "answers", 0, INT_MAX);
  exchange.refusalsOnly = optionalBoolean(options.Get("refusalsOnly"), "refusalsOnly", false);
  exchange.timeoutMs = optionalInteger(options.Get("timeoutMs"), "timeoutMs", 0, INT_MAX, defaultTimeoutMs);
  const Napi::Value sysctls = options.Get("sysctls");
  if (!sysctls.IsUndefined()) {
    if (!sysctls.IsArray()) throw Napi::TypeError::New(value.Env(), "sysctls must be an array");
    const auto list = sysctls.As<Napi::Array>();
    for (uint32_t index = 0; index < list.Length(); index += 1) {
      const Napi::HandleScope scope(value.Env());
      const auto pair = requireObject(list.Get(index), "sysctls[]");
      exchange.sysctls.emplace_back(requireSysctlPath(pair.Get(0u), "sysctls[][0]"),
                                    requireSysctlValue(pair.Get(1u), "sysctls[][1]"));
    }
  }
  // Last, since every getter before may have run JavaScript that changes the array.
  const Bytes bytes = requireDatagram(options.Get("datagram"), "datagram");
  exchange.datagram.assign(bytes.start, bytes.start + bytes.length);
  return exchange;
}

void waitReadable(const Fd& socket, Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd entry{socket.get(), POLLIN, 0};
    const int ready = poll(&entry, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready > 0) return;
    if (ready == 0) throw SysError{ETIMEDOUT, "recvmsg"};
    if (errno != EINTR) throwErrno("poll");
  }
}

Datagrams runExchange(const Exchange& exchange) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(exchange.timeoutMs);
  exchange.netns.enter();
  for (const auto& [path, value] : exchange.sysctls) writeSysctl(path, value);
  NetlinkSettings settings;
  settings.protocol = exchange.protocol;
  const Fd socket = openNetlink(settings);
  sendNetlink(socket, exchange.datagram.data(), exchange.datagram.size());
  Datagrams received;
  const ReceiveBuffer buffer = newReceiveBuffer();
  for (size_t answers = 0; answers < exchange.answers;) {
    try {
      const size_t length = receiveNetlink(socket, buffer);
      const size_t ended = countAnswers(buffer.get(), length);
      answers += ended;
      // Of acknowledgements each comes in a datagram of its own.
      const bool isAcknowledged = ended > 0 && !hasRefusal(buffer.get(), length);
      if (!exchange.refusalsOnly || !isAcknowledged) received.emplace_back(buffer.get(), buffer.get() + length);
    } catch (const SysError& error) {
      if (error.number != EAGAIN) throw;
      waitReadable(socket, deadline);
    }
  }
  return received;
}

bool isRefused(const Datagrams& received) {
  for (const auto& datagram : received) {
    if (hasRefusal(datagram.data(), datagram.size())) return true;
  }
  return false;
}

/** One after another; none after one of which something was refused. */
std::vector<Datagrams> runInTurn(const std::vector<Exchange>& exchanges) {
  std::vector<Datagrams> results;
  for (const Exchange& exchange : exchanges) {
    results.push_back(runExchange(exchange));
    if (isRefused(results.back())) break;
  }
  return results;
}

Napi::Value toBuffers(Napi::Env env, Datagrams& datagrams) {
  auto result = Napi::Array::New(env, datagrams.size());
  for (uint32_t index = 0; index < datagrams.size(); index += 1) {
    const Napi::HandleScope scope(env);
    result.Set(index, Napi::Buffer<uint8_t>::Copy(env, datagrams[index].data(), datagrams[index].size()));
  }
  return result;
}

Napi::Value netlinkExchange(const Napi::CallbackInfo& info) {
  return EventLoop::of(info.Env())
      .start<Datagrams>([exchange = requireExchange(info[0])] { return runExchange(exchange); }, toBuffers);
}

Napi::Value netlinkExchangeInTurn(const Napi::CallbackInfo& info) {
  if (!info[0].IsArray()) throw Napi::TypeError::New(info.Env(), "exchanges must be an array");
  const auto list = info[0].As<Napi::Array>();
  std::vector<Exchange> exchanges;
  for (uint32_t index = 0; index < list.Length(); index += 1) {
    const Napi::HandleScope scope(info.Env());
    exchanges.push_back(requireExchange(list.Get(index)));
    // A thread does not find back to where it came from.
    if (index > 0 && exchanges[index].netns.isOwn() && !exchanges[index - 1].netns.isOwn()) {
      throw Napi::TypeError::New(info.Env(), "an exchange without netns must not follow one with netns");
    }
  }
  return EventLoop::of(info.Env())
      .start<std::vector<Datagrams>>([exchanges = std::move(exchanges)] { return runInTurn(exchanges); },
                                     [](Napi::Env env, std::vector<Datagrams>& results) {
                                       auto converted = Napi::Array::New(env, results.size());
                                       for (uint32_t index = 0; index < results.size(); index += 1) {
                                         converted.Set(index, toBuffers(env, results[index]));
                                       }
                                       return Napi::Value(converted);
                                     });
}

}  // namespace

void exportNetlinkExchange(Napi::Env env, Napi::Object exports) {
  exports.Set("netlinkExchange", newAsyncFunction(env, "netlinkExchange", netlinkExchange));
  exports.Set("netlinkExchangeInTurn", newAsyncFunction(env, "netlinkExchangeInTurn", netlinkExchangeInTurn));
}

}  // namespace tsnet
