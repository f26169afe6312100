#include "nft_context.h"

#include <nftables/libnftables.h>
#include <sys/socket.h>

#include <linux/netlink.h>

#include <condition_variable>
#include <deque>

#include "arguments.h"
#include "errors.h"
#include "event_loop.h"
#include "fd.h"
#include "functions.h"
#include "netns.h"

namespace tsnet {

namespace {

// libnftables keeps parts of its parser's state in globals, so contexts take turns.
std::mutex libraryMutex;

struct NftRun {
  uint64_t ticket;
  std::string commands;
  unsigned flags;
};

struct NftOutcome {
  int rc;
  std::string output;
  std::string error;
};

using PendingRun = Napi::Promise::Deferred;

/** The part that the thread and the JavaScript object share. */
struct NftQueue {
  std::mutex mutex;  // guards the following
  std::condition_variable changed;
  std::deque<NftRun> runs;
  bool closing = false;

  void close() {
    const std::lock_guard<std::mutex> lock(mutex);
    closing = true;
    changed.notify_one();
  }
};

struct LibraryContext {
  nft_ctx* context;

  LibraryContext() {
    // libnftables ends the process when it cannot open its socket, so see first that one can be opened.
    const Fd probe(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
    if (!probe) throwErrno("socket AF_NETLINK " + std::to_string(NETLINK_NETFILTER));
    const std::lock_guard<std::mutex> lock(libraryMutex);
    context = nft_ctx_new(NFT_CTX_DEFAULT);
    if (context == nullptr) throw SysError{ENOMEM, "nft_ctx_new"};
    nft_ctx_buffer_output(context);
    nft_ctx_buffer_error(context);
  }
  ~LibraryContext() {
    const std::lock_guard<std::mutex> lock(libraryMutex);
    nft_ctx_free(context);
  }
  LibraryContext(const LibraryContext&) = delete;
  LibraryContext& operator=(const LibraryContext&) = delete;

  NftOutcome run(const NftRun& run) {
    const std::lock_guard<std::mutex> lock(libraryMutex);
    nft_ctx_output_set_flags(context, run.flags);
    const int rc = nft_run_cmd_from_buffer(context, run.commands.c_str());
    return {rc, nft_ctx_get_output_buffer(context), nft_ctx_get_error_buffer(context)};
  }
};

void settleRun(EventLoop& loop, uint64_t ticket, const NftOutcome& outcome) {
  const auto pending = loop.take<PendingRun>(ticket);
  if (!pending) return;
  auto result = Napi::Object::New(loop.env());
  result.Set("rc", Napi::Number::New(loop.env(), outcome.rc));
  result.Set("output", Napi::String::New(loop.env(), outcome.output));
  result.Set("error", Napi::String::New(loop.env(), outcome.error));
  pending->Resolve(result);
}

/** Runs until the queue is closed and empty. */
void serveQueue(EventLoop& loop, NftQueue& queue, LibraryContext& library) {
  for (;;) {
    std::unique_lock<std::mutex> lock(queue.mutex);
    queue.changed.wait(lock, [&queue] { return queue.closing || !queue.runs.empty(); });
    if (queue.runs.empty()) return;
    const NftRun run = std::move(queue.runs.front());
    queue.runs.pop_front();
    lock.unlock();
    loop.post([ticket = run.ticket, outcome = library.run(run)](EventLoop& self) {
      settleRun(self, ticket, outcome);
    });
  }
}

/** The JavaScript side. Without its owner the queue closes, so a context nobody closes ends with its object. */
class NftContext : public std::enable_shared_from_this<NftContext> {
 public:
  explicit NftContext(std::shared_ptr<NftQueue> queue) : queue_(std::move(queue)) {}
  ~NftContext() { queue_->close(); }

  Napi::Value run(const Napi::CallbackInfo& info) {
    EventLoop& loop = EventLoop::of(info.Env());
    NftRun run{0, requireString(info[0], "commands"), 0};
    const size_t first = run.commands.find_first_not_of(" \t\r\n");
    bool json = first != std::string::npos && run.commands[first] == '{';
    if (!info[1].IsUndefined()) {
      const auto options = requireObject(info[1], "options");
      json = optionalBoolean(options.Get("json"), "json", false) || json;
      if (optionalBoolean(options.Get("terse"), "terse", false)) run.flags |= NFT_CTX_OUTPUT_TERSE;
      if (optionalBoolean(options.Get("handles"), "handles", false)) run.flags |= NFT_CTX_OUTPUT_HANDLE;
    }
    // The library reads JSON only when it also writes JSON.
    if (json) run.flags |= NFT_CTX_OUTPUT_JSON;
    if (closing_) throw SysError{EBADF, "nft_run_cmd_from_buffer"};
    auto pending = std::make_shared<PendingRun>(PendingRun::New(info.Env()));
    run.ticket = loop.hold(pending);
    const std::lock_guard<std::mutex> lock(queue_->mutex);
    queue_->runs.push_back(std::move(run));
    queue_->changed.notify_one();
    return pending->Promise();
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    auto pending = std::make_shared<PendingClose>(
        PendingClose{Napi::Promise::Deferred::New(info.Env()), shared_from_this()});
    const Napi::Promise promise = pending->deferred.Promise();
    if (ended_) {
      pending->deferred.Resolve(info.Env().Undefined());
      return promise;
    }
    closers_.push_back(EventLoop::of(info.Env()).hold(pending));
    closing_ = true;
    queue_->close();
    return promise;
  }

  /** The thread has ended. */
  void end(EventLoop& loop) {
    ended_ = true;
    for (const uint64_t ticket : std::exchange(closers_, {})) {
      if (const auto pending = loop.take<PendingClose>(ticket)) pending->deferred.Resolve(loop.env().Undefined());
    }
  }

 private:
  struct PendingClose {
    Napi::Promise::Deferred deferred;
    // Whoever waits for the end keeps the context, though its JavaScript object may be gone.
    std::shared_ptr<NftContext> context;
  };

  const std::shared_ptr<NftQueue> queue_;
  std::vector<uint64_t> closers_;
  bool closing_ = false;
  bool ended_ = false;
};

Napi::Object newContextObject(Napi::Env env, const std::shared_ptr<NftContext>& context) {
  auto result = Napi::Object::New(env);
  result.Set("run", newAsyncFunction(env, "run",
                                     [context](const Napi::CallbackInfo& info) { return context->run(info); }));
  result.Set("close", newAsyncFunction(env, "close",
                                       [context](const Napi::CallbackInfo& info) { return context->close(info); }));
  return result;
}

Napi::Value nftOpen(const Napi::CallbackInfo& info) {
  EventLoop& loop = EventLoop::of(info.Env());
  const Netns netns = Netns::from(info[0]);
  auto pending = std::make_shared<PendingRun>(PendingRun::New(info.Env()));
  const Napi::Promise promise = pending->Promise();
  const uint64_t ticket = loop.hold(pending);
  try {
    startThread("tsnet-nft", [loop = loop.shared_from_this(), ticket, netns] {
      std::weak_ptr<NftContext> owner;
      try {
        netns.enter();
        LibraryContext library;
        auto queue = std::make_shared<NftQueue>();
        {
          auto context = std::make_shared<NftContext>(queue);
          owner = context;
          loop->post([ticket, context](EventLoop& self) {
            const auto opened = self.take<PendingRun>(ticket);
            if (opened) opened->Resolve(newContextObject(self.env(), context));
          });
        }
        serveQueue(*loop, *queue, library);
      } catch (const SysError& error) {
        loop->post([ticket, error](EventLoop& self) {
          if (const auto opened = self.take<PendingRun>(ticket)) {
            opened->Reject(newNativeError(self.env(), error).Value());
          }
        });
      }
      loop->post([owner](EventLoop& self) {
        if (const auto context = owner.lock()) context->end(self);
      });
    });
  } catch (const SysError&) {
    loop.take<PendingRun>(ticket);
    throw;
  }
  return promise;
}

}  // namespace

void exportNftContext(Napi::Env env, Napi::Object exports) {
  exports.Set("nftOpen", newAsyncFunction(env, "nftOpen", nftOpen));
}

}  // namespace tsnet
