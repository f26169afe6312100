#include "event_loop.h"

namespace tsnet {

namespace {

using Instance = std::shared_ptr<EventLoop>;

}  // namespace

void EventLoop::install(Napi::Env env) {
  auto loop = std::make_shared<EventLoop>(env);
  loop->open();
  env.SetInstanceData<Instance>(new Instance(loop));
}

EventLoop& EventLoop::of(Napi::Env env) { return **env.GetInstanceData<Instance>(); }

void EventLoop::open() {
  napi_status status = napi_get_uv_event_loop(env_, &loop_);
  if (status == napi_ok) {
    status = napi_async_init(env_, nullptr, Napi::String::New(env_, "TSNET"), &context_);
  }
  if (status != napi_ok || uv_async_init(loop_, &async_, [](uv_async_t* async) {
        static_cast<EventLoop*>(async->data)->dispatch();
      }) != 0) {
    throw Napi::Error::New(env_, "tsnet: no event loop to attach to");
  }
  async_.data = this;
  openHandles_ = 1;
  uv_unref(reinterpret_cast<uv_handle_t*>(&async_));
  self_ = shared_from_this();
  napi_add_async_cleanup_hook(
      env_, [](napi_async_cleanup_hook_handle hook, void* loop) { static_cast<EventLoop*>(loop)->end(hook); }, this,
      nullptr);
}

void EventLoop::post(std::function<void(EventLoop&)> event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (ended_) return;
  posted_.push_back(std::move(event));
  uv_async_send(&async_);
}

void EventLoop::dispatch() {
  std::vector<std::function<void(EventLoop&)>> events;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    events.swap(posted_);
  }
  JsScope scope(*this);
  if (!scope) return;
  for (auto& event : events) {
    try {
      event(*this);
    } catch (const Napi::Error&) {
      // The environment is being torn down: there is nobody left to tell.
    }
  }
}

uint64_t EventLoop::hold(std::shared_ptr<void> value) {
  if (waiting_.empty()) uv_ref(reinterpret_cast<uv_handle_t*>(&async_));
  waiting_.emplace(++lastTicket_, std::move(value));
  return lastTicket_;
}

std::shared_ptr<void> EventLoop::takeAny(uint64_t ticket) {
  const auto found = waiting_.find(ticket);
  if (found == waiting_.end()) return nullptr;
  auto value = std::move(found->second);
  waiting_.erase(found);
  if (waiting_.empty()) uv_unref(reinterpret_cast<uv_handle_t*>(&async_));
  return value;
}

void EventLoop::retain(std::shared_ptr<Closable> object) {
  Closable* key = object.get();
  retained_.emplace(key, std::move(object));
}

void EventLoop::release(Closable* object) {
  const auto found = retained_.find(object);
  if (found == retained_.end()) return;
  const auto last = std::move(found->second);
  retained_.erase(found);
}

void EventLoop::end(napi_async_cleanup_hook_handle hook) {
  hook_ = hook;
  ending_ = true;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    posted_.clear();
  }
  waiting_.clear();
  while (!retained_.empty()) retained_.begin()->second->close();
  napi_async_destroy(env_, context_);
  uv_close(reinterpret_cast<uv_handle_t*>(&async_),
           [](uv_handle_t* async) { static_cast<EventLoop*>(async->data)->handleClosed(); });
}

void EventLoop::handleClosed() {
  if (--openHandles_ > 0 || !ending_) return;
  const auto last = std::move(self_);
  napi_remove_async_cleanup_hook(hook_);
}

JsScope::JsScope(EventLoop& loop) : env_(loop.env()) {
  if (loop.ending() || napi_open_handle_scope(env_, &handles_) != napi_ok) return;
  if (napi_open_callback_scope(env_, nullptr, loop.context_, &callback_) != napi_ok) callback_ = nullptr;
}

JsScope::~JsScope() {
  if (callback_ != nullptr) napi_close_callback_scope(env_, callback_);
  if (handles_ != nullptr) napi_close_handle_scope(env_, handles_);
}

void JsScope::call(const Napi::FunctionReference& callee, const std::vector<napi_value>& arguments) {
  napi_value receiver;
  if (callee.IsEmpty() || napi_get_undefined(env_, &receiver) != napi_ok) return;
  const napi_status status =
      napi_call_function(env_, receiver, callee.Value(), arguments.size(), arguments.data(), nullptr);
  napi_value exception;
  if (status == napi_pending_exception && napi_get_and_clear_last_exception(env_, &exception) == napi_ok) {
    napi_fatal_exception(env_, exception);
  }
}

Poll::Poll(EventLoop& loop, std::shared_ptr<Fd> fd, std::function<void()> onReadable)
    : loop_(loop), fd_(std::move(fd)), onReadable_(std::move(onReadable)) {
  poll_.data = this;
}

Poll* Poll::start(EventLoop& loop, std::shared_ptr<Fd> fd, std::function<void()> onReadable) {
  std::unique_ptr<Poll> poll(new Poll(loop, std::move(fd), std::move(onReadable)));
  const int failure = uv_poll_init(loop.loop_, &poll->poll_, poll->fd_->get());
  if (failure != 0) throw SysError{-failure, "uv_poll_init"};
  loop.openHandles_ += 1;
  uv_poll_start(&poll->poll_, UV_READABLE, onEvent);
  return poll.release();
}

void Poll::pause() { uv_poll_stop(&poll_); }

void Poll::resume() { uv_poll_start(&poll_, UV_READABLE, onEvent); }

void Poll::close() {
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), [](uv_handle_t* closed) {
    const std::unique_ptr<Poll> poll(static_cast<Poll*>(closed->data));
    EventLoop& loop = poll->loop_;
    loop.handleClosed();
  });
  fd_.reset();
}

void Poll::onEvent(uv_poll_t* poll, int status, int) {
  // libuv stops polling at POLLERR, which for netlink means only "messages were lost".
  if (status < 0) uv_poll_start(poll, UV_READABLE, onEvent);
  static_cast<Poll*>(poll->data)->onReadable_();
}

}  // namespace tsnet
