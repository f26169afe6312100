#pragma once

#include <string>

#include "fd.h"

namespace tsnet {

/** The file system as one process sees it. */
class ProcessRoot {
 public:
  /**
   * Opens the root folder of a process; with `startTime` only if it is still that process. Errors: ESRCH.
   */
  static ProcessRoot open(int pid, const std::string& startTime);

  int fd() const { return root_.get(); }
  /** When it started, in clock ticks since boot. Source: proc(5), field 22 of stat. */
  const std::string& startTime() const { return startTime_; }

  /**
   * Gives the calling thread the rights on files that root of the process's user namespace has, and no others: what it
   * is made to open by links of theirs is nothing that they could not open. There is no way back; the thread must end.
   */
  void takeRights() const;

 private:
  ProcessRoot() = default;

  Fd root_;
  std::string startTime_;
  uint32_t uid_ = 0;
  uint32_t gid_ = 0;
};

}  // namespace tsnet
