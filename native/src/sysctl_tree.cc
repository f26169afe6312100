#include "sysctl_tree.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>
#include <mutex>
#include <utility>

#include "errors.h"
#include "thread.h"

namespace tsnet {

namespace {

constexpr unsigned openingsPerTree = 64;

/** A mount of procfs that is in no mount namespace. Source: linux/mount.h. */
Fd newProc() {
  const Fd context(static_cast<int>(syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC)));
  if (!context || syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) return Fd();
  return Fd(static_cast<int>(syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, 0)));
}

struct Tree {
  Fd proc;

  explicit Tree(Fd mount) : proc(std::move(mount)) {}
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;
  /** The end of a file system takes milliseconds, for which nobody should wait. */
  ~Tree() {
    const auto ending = std::make_shared<Fd>(std::move(proc));
    try {
      startThread("tsnet-close", [ending] { ending->reset(); });
    } catch (const SysError&) {
      ending->reset();
    }
  }
};

/** Whoever opens something holds the tree meanwhile. Never destroyed: threads may hold it while the process ends. */
struct Current {
  std::mutex mutex;
  std::shared_ptr<const Tree> tree;
  unsigned openings = 0;
};

/** Null where the kernel does not let us have one: before Linux 5.2, or in some containers. */
std::shared_ptr<const Tree> currentTree() {
  static Current& current = *new Current;
  const std::lock_guard lock(current.mutex);
  if (current.openings++ % openingsPerTree == 0) {
    Fd proc = newProc();
    current.tree = proc ? std::make_shared<const Tree>(std::move(proc)) : nullptr;
  }
  return current.tree;
}

}  // namespace

Fd openSysctl(const std::string& path, int flags) {
  const std::shared_ptr<const Tree> tree = currentTree();
  Fd file(tree == nullptr ? open(("/proc/sys/" + path).c_str(), flags | O_CLOEXEC)
                          : openat(tree->proc.get(), ("sys/" + path).c_str(), flags | O_CLOEXEC));
  if (!file) throwErrno("open /proc/sys/" + path);
  return file;
}

}  // namespace tsnet
