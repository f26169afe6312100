#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>

#include "fd.h"

namespace tsnet {

/**
 * A namespace to work in, from a NetnsRef. Copyable and free of JavaScript, so that threads may carry it. A
 * descriptor is duplicated when the reference is read: its owner may close it before the thread gets there.
 */
class Netns {
 public:
  /** The process's own. */
  Netns() = default;
  /** Reads a NetnsRef; `undefined` is the process's own. */
  static Netns from(Napi::Value ref, const char* name = "netns");
  static Netns required(Napi::Value ref, const char* name = "ref");

  /** Whether it is the process's own. */
  bool isOwn() const { return path_.empty() && !fd_; }
  /** Whether its path is on a file system that answers at once. */
  bool isInMemory() const;
  /** A descriptor of the namespace; on any thread. */
  Fd open() const;
  /** Moves the calling thread into the namespace. Only ever on a thread made for it. */
  void enter() const;

 private:
  std::string path_;
  std::shared_ptr<Fd> fd_;
};

void exportNetns(Napi::Env env, Napi::Object exports);

}  // namespace tsnet
