#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "fd.h"

namespace tsnet {

struct NetlinkSettings {
  int protocol = 0;
  uint32_t receiveBufferBytes = 4 * 1024 * 1024;
  bool strictCheck = true;
  std::vector<uint32_t> groups;
};

/** A bound socket in the calling thread's namespace. */
Fd openNetlink(const NetlinkSettings& settings);

/** The address the kernel gave the socket. */
uint32_t netlinkPortid(const Fd& socket);

/** Sends to the kernel; the kernel's work is done when it returns. */
void sendNetlink(const Fd& socket, const uint8_t* start, size_t length);

/** The kernel's dumps come in datagrams of at most 32 KiB; a link with very many attributes may take more. */
constexpr size_t receiveBufferBytes = 256 * 1024;

/** Left as it is allocated: only the pages that a datagram fills are ever touched. */
using ReceiveBuffer = std::unique_ptr<uint8_t[]>;
inline ReceiveBuffer newReceiveBuffer() { return ReceiveBuffer(new uint8_t[receiveBufferBytes]); }

/**
 * Receives one datagram from the kernel into `buffer` without waiting, and returns its length. Throws EAGAIN when
 * there is none, and ENOBUFS when messages were lost: for want of receive buffer, or by not fitting into `buffer`.
 */
size_t receiveNetlink(const Fd& socket, const ReceiveBuffer& buffer);

/** How many messages end an answer (NLMSG_ERROR, which acknowledgements are too, and NLMSG_DONE). */
size_t countAnswers(const uint8_t* start, size_t length);

/** Whether one of those answers is a refusal. */
bool hasRefusal(const uint8_t* start, size_t length);

}  // namespace tsnet
