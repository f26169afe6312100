#include "thread.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "errors.h"
#include "fd.h"

namespace tsnet {

namespace {

struct Start {
  const char* name;
  std::function<void()> body;
};

/** A thread that has ended its task takes another for so long. */
constexpr auto idleTime = std::chrono::seconds(2);
constexpr size_t maxIdle = 8;

/** Never destroyed: threads may wait in it while the process ends. */
struct Pool {
  std::mutex mutex;
  std::condition_variable hasTask;
  std::deque<Start> tasks;
  size_t idle = 0;
  /** The process's own namespace, which a task may have left. */
  Fd home{open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)};
};

Pool& pool() {
  static Pool* const made = new Pool;
  return *made;
}

/** Waits for another task; false when the thread is to end. A thread that does not find home takes none. */
bool takeTask(Start& next) {
  Pool& shared = pool();
  if (setns(shared.home.get(), CLONE_NEWNET) < 0) return false;
  std::unique_lock lock(shared.mutex);
  if (shared.idle == maxIdle) return false;
  shared.idle += 1;
  const bool has = shared.hasTask.wait_for(lock, idleTime, [&] { return !shared.tasks.empty(); });
  shared.idle -= 1;
  if (!has) return false;
  next = std::move(shared.tasks.front());
  shared.tasks.pop_front();
  return true;
}

void* runThread(void* argument) {
  const std::unique_ptr<Start> start(static_cast<Start*>(argument));
  do {
    pthread_setname_np(pthread_self(), start->name);
    start->body();
    start->body = nullptr;
  } while (takeTask(*start));
  return nullptr;
}

}  // namespace

void startThread(const char* name, std::function<void()> body) {
  auto start = std::make_unique<Start>(Start{name, std::move(body)});
  Pool& shared = pool();
  {
    const std::lock_guard lock(shared.mutex);
    if (shared.idle > shared.tasks.size()) {
      shared.tasks.push_back(std::move(*start));
      shared.hasTask.notify_one();
      return;
    }
  }
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int failure = pthread_create(&thread, &attributes, runThread, start.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (failure != 0) throw SysError{failure, "pthread_create"};
  start.release();
}

}  // namespace tsnet
