#include "process_root.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <array>
#include <sstream>

#include "errors.h"

namespace tsnet {

namespace {

/** A process that has ended shows ENOENT or ESRCH, depending on what is read of it. */
[[noreturn]] void throwOfProcess(const std::string& call) {
  throw SysError{errno == ENOENT ? ESRCH : errno, call};
}

std::string readOf(int process, const char* name, const std::string& subject) {
  const Fd file(openat(process, name, O_RDONLY | O_CLOEXEC));
  if (!file) throwOfProcess("open " + subject + "/" + name);
  std::string text;
  std::array<char, 4096> part;
  for (;;) {
    const ssize_t length = read(file.get(), part.data(), part.size());
    if (length < 0) throwOfProcess("read " + subject + "/" + name);
    if (length == 0) return text;
    text.append(part.data(), static_cast<size_t>(length));
  }
}

/** The second field may hold anything, parentheses and spaces as well. */
std::string startTimeOf(const std::string& stat) {
  const size_t end = stat.rfind(')');
  std::istringstream fields(end == std::string::npos ? "" : stat.substr(end + 1));
  std::string field;
  for (int number = 3; number <= 22; number += 1) fields >> field;
  return field;
}

/** Which id of ours is 0 in another user namespace. Source: user_namespaces(7), "uid_map". */
uint32_t outsideOfZero(const std::string& map, const std::string& subject) {
  std::istringstream lines(map);
  uint64_t inside;
  uint64_t outside;
  uint64_t length;
  while (lines >> inside >> outside >> length) {
    if (inside == 0) return static_cast<uint32_t>(outside);
  }
  throw SysError{EPERM, subject + " has no root"};
}

bool isSameUserNamespace(int process, const std::string& subject) {
  struct stat theirs;
  struct stat own;
  if (fstatat(process, "ns/user", &theirs, 0) < 0) throwOfProcess("stat " + subject + "/ns/user");
  if (stat("/proc/self/ns/user", &own) < 0) throwErrno("stat /proc/self/ns/user");
  return theirs.st_dev == own.st_dev && theirs.st_ino == own.st_ino;
}

}  // namespace

ProcessRoot ProcessRoot::open(int pid, const std::string& startTime) {
  const std::string subject = "/proc/" + std::to_string(pid);
  // All else is read through this folder, which never becomes that of a later process with the same number.
  const Fd process(::open(subject.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!process) throwOfProcess("open " + subject);
  ProcessRoot found;
  found.startTime_ = startTimeOf(readOf(process.get(), "stat", subject));
  if (!startTime.empty() && found.startTime_ != startTime) throw SysError{ESRCH, subject + " is another process"};
  if (!isSameUserNamespace(process.get(), subject)) {
    found.uid_ = outsideOfZero(readOf(process.get(), "uid_map", subject), subject);
    found.gid_ = outsideOfZero(readOf(process.get(), "gid_map", subject), subject);
  }
  found.root_ = Fd(openat(process.get(), "root", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!found.root_) throwOfProcess("open " + subject + "/root");
  return found;
}

void ProcessRoot::takeRights() const {
  // The system calls themselves: the library's functions would change all threads.
  if (syscall(SYS_setgroups, 0, nullptr) < 0) throwErrno("setgroups");
  setfsgid(gid_);
  setfsuid(uid_);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> none{};
  if (syscall(SYS_capset, &header, none.data()) < 0) throwErrno("capset");
  // An id that is none changes nothing and tells the one there is.
  const bool isDone = static_cast<uint32_t>(setfsuid(static_cast<uid_t>(-1))) == uid_ &&
                      static_cast<uint32_t>(setfsgid(static_cast<gid_t>(-1))) == gid_;
  if (!isDone) throw SysError{EPERM, "setfsuid"};
}

}  // namespace tsnet
