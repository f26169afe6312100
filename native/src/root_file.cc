#include "root_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <algorithm>
#include <climits>
#include <exception>
#include <optional>
#include <thread>
#include <vector>

#include "arguments.h"
#include "errors.h"
#include "event_loop.h"
#include "functions.h"
#include "process_root.h"

namespace tsnet {

namespace {

constexpr size_t mostBytes = 64 * 1024;
constexpr int mostLinks = 8;
/** A rename elsewhere in the file system may disturb a lookup with "..". Source: openat2(2), EAGAIN. */
constexpr int mostTries = 16;
constexpr mode_t newMode = 0644;

/** No name in linux/magic.h. */
constexpr uint64_t zfsMagic = 0x2fc12fc1;
constexpr uint64_t bcachefsMagic = 0xca451a4e;
constexpr uint64_t jfsMagic = 0x3153464a;
constexpr uint64_t cephMagic = 0x00c36400;

using Content = std::optional<std::string>;

struct Identity {
  dev_t device;
  ino_t inode;
  bool operator==(const Identity& other) const { return device == other.device && inode == other.inode; }
};

struct Request {
  int pid;
  std::string startTime;
  std::string path;
  std::vector<std::string> apartFrom;
};

struct Found {
  std::string startTime;
  std::string file;
  Content content;
};

std::string text(const Identity& identity) {
  return std::to_string(identity.device) + ":" + std::to_string(identity.inode);
}

/**
 * File systems of files. Elsewhere (proc, sysfs, cgroup and their like) a regular file is a switch of the kernel, which
 * a link in the container must not lead to; and a file system that a process of theirs serves could hold us up.
 */
bool isForFiles(uint64_t type) {
  switch (type) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case NFS_SUPER_MAGIC:
    case REISERFS_SUPER_MAGIC:
    case SQUASHFS_MAGIC:
    case EROFS_SUPER_MAGIC_V1:
    case V9FS_MAGIC:
    case zfsMagic:
    case bcachefsMagic:
    case jfsMagic:
    case cephMagic:
      return true;
    default:
      return false;
  }
}

/** Never leaves the root, whatever links there say. */
Fd openInRoot(int root, const std::string& path, uint64_t flags) {
  struct open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  for (int tries = 1;; tries += 1) {
    Fd fd(static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
    if (fd || errno != EAGAIN || tries == mostTries) return fd;
  }
}

Identity identityOf(int fd, const std::string& path) {
  struct stat status;
  if (fstat(fd, &status) < 0) throwErrno("stat " + path);
  return {status.st_dev, status.st_ino};
}

class RootFile {
 public:
  explicit RootFile(const Request& request) : path_(request.path) {
    // Read before the rights go, and as the host's: what these are must not be changed for a container's sake.
    for (const std::string& each : request.apartFrom) {
      struct stat status;
      if (stat(each.c_str(), &status) == 0) hosts_.push_back({status.st_dev, status.st_ino});
      const std::string folder = each.substr(0, each.rfind('/') + 1);
      if (stat(folder.c_str(), &status) == 0) hosts_.push_back({status.st_dev, status.st_ino});
    }
    ProcessRoot root = ProcessRoot::open(request.pid, request.startTime);
    startTime_ = root.startTime();
    root.takeRights();
    root_ = std::move(root);
  }

  Found read() {
    const Fd place = openInRoot(root_->fd(), path_, O_PATH);
    if (!place) {
      if (errno == ENOENT) return {startTime_, "", std::nullopt};
      throwErrno("open " + path_);
    }
    const Fd file = openPlace(place, O_RDONLY);
    return {startTime_, text(identityOf(file.get(), path_)), readAll(file)};
  }

  Found replace(const Content& expected, const Content& content) {
    const Fd place = openInRoot(root_->fd(), path_, O_PATH);
    if (!place && errno != ENOENT) throwErrno("open " + path_);
    if (place) return replaceFound(place, expected, content);
    if (expected) throw SysError{ESTALE, path_};
    if (!content) return {startTime_, "", std::nullopt};
    const Fd file = create(*content);
    return {startTime_, text(identityOf(file.get(), path_)), content};
  }

 private:
  Found replaceFound(const Fd& place, const Content& expected, const Content& content) {
    const Fd file = openPlace(place, content ? O_RDWR : O_RDONLY);
    const std::string before = readAll(file);
    if (!expected || before != *expected) throw SysError{ESTALE, path_};
    if (content) {
      write(file, *content, before);
      return {startTime_, text(identityOf(file.get(), path_)), content};
    }
    auto [folder, name] = openFolder();
    if (unlinkat(folder.get(), name.c_str(), 0) < 0) throwErrno("unlink " + path_);
    return {startTime_, "", std::nullopt};
  }

  /** Opens for good what a lookup has found, once it is known to be a file: a FIFO or device is not even opened. */
  Fd openPlace(const Fd& place, int flags) const {
    struct stat status;
    if (fstat(place.get(), &status) < 0) throwErrno("stat " + path_);
    if (!S_ISREG(status.st_mode)) throw SysError{EINVAL, path_ + " is not a regular file"};
    struct statfs filesystem;
    if (fstatfs(place.get(), &filesystem) < 0) throwErrno("statfs " + path_);
    if (!isForFiles(static_cast<uint64_t>(filesystem.f_type))) {
      throw SysError{EOPNOTSUPP, path_ + " is on a file system that is not for files"};
    }
    assertApart({status.st_dev, status.st_ino});
    const std::string link = "/proc/self/fd/" + std::to_string(place.get());
    // O_NONBLOCK: a lease that somebody holds on it is not waited for.
    Fd file(open(link.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!file) throwErrno("open " + path_);
    return file;
  }

  void assertApart(const Identity& identity) const {
    if (std::find(hosts_.begin(), hosts_.end(), identity) != hosts_.end()) {
      throw SysError{EXDEV, path_ + " is the host's own"};
    }
  }

  std::string readAll(const Fd& file) const {
    std::string content(mostBytes + 1, '\0');
    size_t length = 0;
    while (length < content.size()) {
      const ssize_t part = pread(file.get(), content.data() + length, content.size() - length, static_cast<off_t>(length));
      if (part < 0) throwErrno("read " + path_);
      if (part == 0) break;
      length += static_cast<size_t>(part);
    }
    if (length > mostBytes) throw SysError{EFBIG, path_};
    content.resize(length);
    return content;
  }

  /** In place: the file may be a mount point. Whoever reads meanwhile finds the old lines or the new ones, not none. */
  void write(const Fd& file, const std::string& content, const std::string& before) const {
    std::string padded = content;
    if (padded.size() < before.size()) padded.resize(before.size(), '\n');
    if (!writeAll(file, padded) || ftruncate(file.get(), static_cast<off_t>(content.size())) < 0) {
      const int number = errno;
      if (writeAll(file, before)) static_cast<void>(!ftruncate(file.get(), static_cast<off_t>(before.size())));
      throw SysError{number, "write " + path_};
    }
  }

  static bool writeAll(const Fd& file, const std::string& content) {
    for (size_t at = 0; at < content.size();) {
      const ssize_t part = pwrite(file.get(), content.data() + at, content.size() - at, static_cast<off_t>(at));
      if (part < 0) return false;
      at += static_cast<size_t>(part);
    }
    return true;
  }

  /** The folder that the path leads to in the end, and the name there; links that lead to nothing are followed. */
  std::pair<Fd, std::string> openFolder() const {
    std::string path = path_;
    for (int links = 0; links < mostLinks; links += 1) {
      const size_t slash = path.rfind('/');
      const std::string name = path.substr(slash + 1);
      const std::string parent = path.substr(0, slash + 1);
      if (name.empty() || name == "." || name == "..") throw SysError{EISDIR, path};
      Fd folder = openInRoot(root_->fd(), parent, O_PATH | O_DIRECTORY);
      if (!folder) throwErrno("open " + parent);
      std::string target(PATH_MAX, '\0');
      const ssize_t length = readlinkat(folder.get(), name.c_str(), target.data(), target.size());
      if (length < 0 && errno != EINVAL && errno != ENOENT) throwErrno("readlink " + path);
      if (length < 0) return {std::move(folder), name};
      target.resize(static_cast<size_t>(length));
      path = target[0] == '/' ? target : parent + target;
      if (path.size() >= PATH_MAX) throw SysError{ENAMETOOLONG, path_};
    }
    throw SysError{ELOOP, path_};
  }

  Fd create(const std::string& content) const {
    auto [folder, name] = openFolder();
    struct statfs filesystem;
    if (fstatfs(folder.get(), &filesystem) < 0) throwErrno("statfs " + path_);
    if (!isForFiles(static_cast<uint64_t>(filesystem.f_type))) {
      throw SysError{EOPNOTSUPP, path_ + " is on a file system that is not for files"};
    }
    assertApart(identityOf(folder.get(), path_));
    Fd file(openat(folder.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, newMode));
    if (!file) throwErrno("open " + path_);
    if (fchmod(file.get(), newMode) < 0 || !writeAll(file, content)) {
      const int number = errno;
      unlinkat(folder.get(), name.c_str(), 0);
      throw SysError{number, "write " + path_};
    }
    return file;
  }

  std::string path_;
  std::string startTime_;
  std::vector<Identity> hosts_;
  std::optional<ProcessRoot> root_;
};

/** On a thread that ends with its task: its rights are gone for good. */
Found withRights(const Request& request, const std::function<Found(RootFile&)>& task) {
  Found found;
  std::exception_ptr failure;
  std::thread([&] {
    try {
      RootFile file(request);
      found = task(file);
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
  return found;
}

Request requireRequest(Napi::Value value) {
  const auto object = requireObject(value, "file");
  Request request;
  request.pid = static_cast<int>(requireInteger(object.Get("pid"), "pid", 1, INT_MAX));
  const Napi::Value startTime = object.Get("startTime");
  if (!startTime.IsUndefined()) request.startTime = requireString(startTime, "startTime");
  request.path = requireString(object.Get("path"), "path");
  if (request.path[0] != '/') throw Napi::TypeError::New(value.Env(), "path must be absolute");
  const Napi::Value apartFrom = object.Get("apartFrom");
  if (apartFrom.IsUndefined()) return request;
  if (!apartFrom.IsArray()) throw Napi::TypeError::New(value.Env(), "apartFrom must be an array");
  const auto paths = apartFrom.As<Napi::Array>();
  for (uint32_t index = 0; index < paths.Length(); index += 1) {
    request.apartFrom.push_back(requireString(paths.Get(index), "apartFrom"));
  }
  return request;
}

Content requireContent(Napi::Value value, const char* name) {
  if (value.IsNull()) return std::nullopt;
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + " must be a Uint8Array or null");
  }
  const auto array = value.As<Napi::Uint8Array>();
  if (array.ByteLength() > mostBytes) throw SysError{EFBIG, name};
  return std::string(reinterpret_cast<const char*>(array.Data()), array.ByteLength());
}

Napi::Value newFound(Napi::Env env, Found& found) {
  auto result = Napi::Object::New(env);
  result.Set("startTime", Napi::String::New(env, found.startTime));
  result.Set("file", found.file.empty() ? env.Null() : Napi::Value(Napi::String::New(env, found.file)));
  result.Set("content", found.content ? Napi::Value(Napi::Buffer<char>::Copy(env, found.content->data(),
                                                                            found.content->size()))
                                      : env.Null());
  return result;
}

Napi::Value rootFileRead(const Napi::CallbackInfo& info) {
  return EventLoop::of(info.Env())
      .start<Found>(
          [request = requireRequest(info[0])] {
            return withRights(request, [](RootFile& file) { return file.read(); });
          },
          newFound);
}

Napi::Value rootFileReplace(const Napi::CallbackInfo& info) {
  const auto change = requireObject(info[1], "change");
  return EventLoop::of(info.Env())
      .start<Found>(
          [request = requireRequest(info[0]), expected = requireContent(change.Get("expected"), "expected"),
           content = requireContent(change.Get("content"), "content")] {
            return withRights(request, [&](RootFile& file) { return file.replace(expected, content); });
          },
          newFound);
}

}  // namespace

void exportRootFile(Napi::Env env, Napi::Object exports) {
  exports.Set("rootFileRead", newAsyncFunction(env, "rootFileRead", rootFileRead));
  exports.Set("rootFileReplace", newAsyncFunction(env, "rootFileReplace", rootFileReplace));
}

}  // namespace tsnet
