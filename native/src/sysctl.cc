#include "sysctl.h"

#include <fcntl.h>

#include <algorithm>
#include <array>

#include "arguments.h"
#include "errors.h"
#include "event_loop.h"
#include "fd.h"
#include "functions.h"
#include "netns.h"
#include "sysctl_tree.h"

namespace tsnet {

namespace {

constexpr size_t longestValueBytes = 64 * 1024;

std::string readSysctl(const std::string& path) {
  const Fd file = openSysctl(path, O_RDONLY);
  std::string value;
  std::array<char, 4096> part;
  while (value.size() < longestValueBytes) {
    const ssize_t length = read(file.get(), part.data(), part.size());
    if (length < 0) throwErrno("read /proc/sys/" + path);
    if (length == 0) break;
    value.append(part.data(), static_cast<size_t>(length));
  }
  if (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

Napi::Value sysctlRead(const Napi::CallbackInfo& info) {
  return EventLoop::of(info.Env())
      .start<std::string>(
          [path = requireSysctlPath(info[0], "path"), netns = Netns::from(info[1])] {
            netns.enter();
            return readSysctl(path);
          },
          [](Napi::Env env, std::string& value) { return Napi::String::New(env, value); });
}

Napi::Value sysctlWrite(const Napi::CallbackInfo& info) {
  return EventLoop::of(info.Env())
      .start<bool>(
          [path = requireSysctlPath(info[0], "path"), value = requireSysctlValue(info[1], "value"),
           netns = Netns::from(info[2])] {
            netns.enter();
            writeSysctl(path, value);
            return true;
          },
          [](Napi::Env env, bool&) { return env.Undefined(); });
}

}  // namespace

std::string requireSysctlPath(Napi::Value value, const char* name) {
  std::string path = requireString(value, name);
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string part = path.substr(start, end - start);
    if (part.empty() || part == "." || part == "..") {
      throw Napi::TypeError::New(value.Env(), std::string(name) + " must be a path below /proc/sys: " + path);
    }
    start = end + 1;
  }
  return path;
}

std::string requireSysctlValue(Napi::Value value, const char* name) {
  if (!value.IsString()) throw Napi::TypeError::New(value.Env(), std::string(name) + " must be a string");
  return value.As<Napi::String>().Utf8Value();
}

void writeSysctl(const std::string& path, const std::string& value) {
  const Fd file = openSysctl(path, O_WRONLY);
  const ssize_t length = write(file.get(), value.data(), value.size());
  if (length < 0) throwErrno("write /proc/sys/" + path);
  // The kernel takes a sysctl in one write; a rest would be read as a second value.
  if (static_cast<size_t>(length) != value.size()) throw SysError{EINVAL, "write /proc/sys/" + path};
}

void exportSysctl(Napi::Env env, Napi::Object exports) {
  exports.Set("sysctlRead", newAsyncFunction(env, "sysctlRead", sysctlRead));
  exports.Set("sysctlWrite", newAsyncFunction(env, "sysctlWrite", sysctlWrite));
}

}  // namespace tsnet
