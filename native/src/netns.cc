#include "netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <atomic>
#include <climits>
#include <cstdlib>
#include <optional>
#include <variant>
#include <vector>

#include "arguments.h"
#include "errors.h"
#include "event_loop.h"
#include "functions.h"

namespace tsnet {

namespace {

constexpr const char* runNetns = "/run/netns";

uint64_t currentCookie() {
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) throwErrno("socket AF_UNIX");
  uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0) {
    throwErrno("getsockopt SO_NETNS_COOKIE");
  }
  return cookie;
}

#ifndef NS_GET_ID
#define NS_GET_ID _IOR(NSIO, 13, __u64)
#endif

/** linux/nsfs.h, since Linux 6.18: a namespace's number, by its descriptor. Nothing where that is no network namespace's. */
std::optional<uint64_t> namespaceId(const Fd& fd) {
  struct statfs filesystem;
  if (fstatfs(fd.get(), &filesystem) < 0 || filesystem.f_type != NSFS_MAGIC) return std::nullopt;
  if (ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET) return std::nullopt;
  uint64_t id = 0;
  if (ioctl(fd.get(), NS_GET_ID, &id) < 0) return std::nullopt;
  return id;
}

/**
 * Whether a namespace's number is its cookie, so that no thread has to enter it to learn that: so it is since there are
 * such numbers (net/core/net_namespace.c: preinit_net), but nothing promises it. The first namespace opened shows it.
 */
enum class Ids { unknown, areCookies, areOthers };
std::atomic<Ids> ids{Ids::unknown};

/** The cookie of the calling thread's namespace, which is open as `fd`. */
uint64_t enteredCookie(const Fd& fd) {
  const uint64_t cookie = currentCookie();
  if (ids.load() == Ids::unknown) {
    ids.store(namespaceId(fd) == std::optional(cookie) ? Ids::areCookies : Ids::areOthers);
  }
  return cookie;
}

void makeDirectories(const std::string& path) {
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (mkdir(part.c_str(), 0755) < 0 && errno != EEXIST) throwErrno("mkdir " + part);
    if (end == std::string::npos) return;
  }
}

/**
 * `/run/netns` becomes a mount point with shared propagation, as `ip netns add` makes it, so that names bound there
 * are seen, and can be removed, in other mount namespaces. The lock is the one `ip` takes for the same purpose.
 */
void ensureSharedMount(const std::string& directory) {
  char resolved[PATH_MAX];
  if (realpath(directory.c_str(), resolved) == nullptr) throwErrno("realpath " + directory);
  if (std::string(resolved) != runNetns) return;
  const Fd lock(open(runNetns, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock || flock(lock.get(), LOCK_EX) < 0) throwErrno("flock " + std::string(runNetns));
  if (mount("", runNetns, "none", MS_SHARED | MS_REC, nullptr) == 0) return;
  if (errno != EINVAL) throwErrno("mount --make-rshared " + std::string(runNetns));
  if (mount(runNetns, runNetns, "none", MS_BIND | MS_REC, nullptr) < 0 ||
      mount("", runNetns, "none", MS_SHARED | MS_REC, nullptr) < 0) {
    throwErrno("mount --bind " + std::string(runNetns));
  }
}

void createBound(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == 0 ? "/" : path.substr(0, slash);
  makeDirectories(directory);
  ensureSharedMount(directory);
  const Fd file(open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444));
  if (!file) throwErrno("open " + path);
  std::string call = "unshare CLONE_NEWNET";
  if (unshare(CLONE_NEWNET) == 0) {
    call = "mount --bind " + path;
    if (mount("/proc/thread-self/ns/net", path.c_str(), "none", MS_BIND, nullptr) == 0) return;
  }
  const int number = errno;
  unlink(path.c_str());
  throw SysError{number, call};
}

/** Unlinks only what can be a namespace's name: a bound one, or the empty file that an unbound one leaves. */
void deleteBound(const std::string& path) {
  struct stat status;
  if (lstat(path.c_str(), &status) < 0) throwErrno("stat " + path);
  struct statfs filesystem;
  if (!S_ISREG(status.st_mode) || statfs(path.c_str(), &filesystem) < 0) throw SysError{EINVAL, "umount " + path};
  const bool bound = filesystem.f_type == NSFS_MAGIC;
  if (!bound && status.st_size != 0) throw SysError{EINVAL, "umount " + path};
  if (bound && umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) < 0) throwErrno("umount " + path);
  if (unlink(path.c_str()) < 0) throwErrno("unlink " + path);
}

std::string requireAbsolutePath(Napi::Value value) {
  std::string path = requireString(value, "path");
  if (path[0] != '/' || path.back() == '/') {
    throw Napi::TypeError::New(value.Env(), "path must be an absolute path of a file");
  }
  return path;
}

struct Opened {
  Fd fd;
  uint64_t cookie;
};

Napi::Value newNetnsHandle(Napi::Env env, Opened& opened) {
  // The functions own the descriptor, so a handle that is never closed is closed by the garbage collector.
  auto fd = std::make_shared<Fd>(std::move(opened.fd));
  auto result = Napi::Object::New(env);
  result.DefineProperties({
      Napi::PropertyDescriptor::Accessor(
          env, result, "fd", [fd](const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), fd->get()); },
          napi_enumerable),
      Napi::PropertyDescriptor::Value("cookie", Napi::BigInt::New(env, opened.cookie), napi_enumerable),
      Napi::PropertyDescriptor::Value("close",
                                      newFunction(env, "close",
                                                  [fd](const Napi::CallbackInfo& info) {
                                                    fd->reset();
                                                    return info.Env().Undefined();
                                                  }),
                                      napi_enumerable),
  });
  return result;
}

/** Opens a namespace without entering it, where that is enough and cannot wait. */
std::optional<Opened> openAtOnce(const Netns& netns) {
  if (ids.load() != Ids::areCookies || !netns.isInMemory()) return std::nullopt;
  Fd fd = netns.open();
  const auto id = namespaceId(fd);
  if (!id) return std::nullopt;
  return Opened{std::move(fd), *id};
}

Napi::Value netnsOpen(const Napi::CallbackInfo& info) {
  const Netns netns = Netns::required(info[0]);
  if (auto opened = openAtOnce(netns)) {
    const auto deferred = Napi::Promise::Deferred::New(info.Env());
    deferred.Resolve(newNetnsHandle(info.Env(), *opened));
    return deferred.Promise();
  }
  return EventLoop::of(info.Env())
      .start<Opened>(
          [netns] {
            Fd fd = netns.open();
            if (setns(fd.get(), CLONE_NEWNET) < 0) throwErrno("setns");
            const uint64_t cookie = enteredCookie(fd);
            return Opened{std::move(fd), cookie};
          },
          newNetnsHandle);
}

Napi::Value netnsCookies(const Napi::CallbackInfo& info) {
  if (!info[0].IsArray()) throw Napi::TypeError::New(info.Env(), "refs must be an array");
  const auto refs = info[0].As<Napi::Array>();
  std::vector<Netns> all;
  for (uint32_t index = 0; index < refs.Length(); index += 1) {
    const Napi::HandleScope scope(info.Env());
    all.push_back(Netns::required(refs.Get(index)));
  }
  using Cookie = std::variant<uint64_t, int>;
  return EventLoop::of(info.Env())
      .start<std::vector<Cookie>>(
          [all = std::move(all)] {
            std::vector<Cookie> cookies;
            for (const Netns& netns : all) {
              try {
                netns.enter();
                cookies.emplace_back(currentCookie());
              } catch (const SysError& error) {
                cookies.emplace_back(error.number);
              }
            }
            return cookies;
          },
          [](Napi::Env env, std::vector<Cookie>& cookies) {
            auto result = Napi::Array::New(env, cookies.size());
            for (uint32_t index = 0; index < cookies.size(); index += 1) {
              const auto* cookie = std::get_if<uint64_t>(&cookies[index]);
              if (cookie != nullptr) {
                result.Set(index, Napi::BigInt::New(env, *cookie));
              } else {
                result.Set(index, Napi::String::New(env, errnoName(std::get<int>(cookies[index]))));
              }
            }
            return Napi::Value(result);
          });
}

Napi::Value netnsOwnCookie(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), currentCookie());
}

Napi::Value startPathTask(const Napi::CallbackInfo& info, void (*task)(const std::string&)) {
  return EventLoop::of(info.Env())
      .start<bool>(
          [task, path = requireAbsolutePath(info[0])] {
            task(path);
            return true;
          },
          [](Napi::Env env, bool&) { return env.Undefined(); });
}

Napi::Value netnsCreate(const Napi::CallbackInfo& info) { return startPathTask(info, createBound); }

Napi::Value netnsDelete(const Napi::CallbackInfo& info) { return startPathTask(info, deleteBound); }

}  // namespace

Netns Netns::from(Napi::Value ref, const char* name) {
  return ref.IsUndefined() ? Netns() : required(ref, name);
}

Netns Netns::required(Napi::Value ref, const char* name) {
  const auto object = requireObject(ref, name);
  Netns netns;
  const Napi::Value path = object.Get("path");
  const Napi::Value pid = object.Get("pid");
  const Napi::Value fd = object.Get("fd");
  if (path.IsUndefined() + pid.IsUndefined() + fd.IsUndefined() != 2) {
    throw Napi::TypeError::New(ref.Env(), std::string(name) + " must have one of path, pid and fd");
  }
  if (!path.IsUndefined()) {
    netns.path_ = requireString(path, "path");
  } else if (!pid.IsUndefined()) {
    netns.path_ = "/proc/" + std::to_string(requireInteger(pid, "pid", 1, INT_MAX)) + "/ns/net";
  } else {
    const int number = static_cast<int>(requireInteger(fd, "fd", 0, INT_MAX));
    netns.fd_ = std::make_shared<Fd>(fcntl(number, F_DUPFD_CLOEXEC, 3));
    if (!*netns.fd_) throwErrno("dup " + std::to_string(number));
  }
  return netns;
}

bool Netns::isInMemory() const {
  for (const char* directory : {"/proc/", "/run/", "/var/run/"}) {
    if (path_.rfind(directory, 0) == 0) return true;
  }
  return false;
}

Fd Netns::open() const {
  const bool dup = fd_ != nullptr;
  const char* path = path_.empty() ? "/proc/thread-self/ns/net" : path_.c_str();
  // O_NONBLOCK: the path is the caller's, and a FIFO there must not hold the thread for ever.
  Fd fd(dup ? fcntl(fd_->get(), F_DUPFD_CLOEXEC, 3) : ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) throwErrno(dup ? std::string("dup") : "open " + std::string(path));
  return fd;
}

void Netns::enter() const {
  if (isOwn()) return;
  if (setns(fd_ ? fd_->get() : open().get(), CLONE_NEWNET) < 0) throwErrno("setns" + (fd_ ? "" : " " + path_));
}

void exportNetns(Napi::Env env, Napi::Object exports) {
  exports.Set("netnsOpen", newAsyncFunction(env, "netnsOpen", netnsOpen));
  exports.Set("netnsCookies", newAsyncFunction(env, "netnsCookies", netnsCookies));
  exports.Set("netnsOwnCookie", newFunction(env, "netnsOwnCookie", netnsOwnCookie));
  exports.Set("netnsCreate", newAsyncFunction(env, "netnsCreate", netnsCreate));
  exports.Set("netnsDelete", newAsyncFunction(env, "netnsDelete", netnsDelete));
}

}  // namespace tsnet
