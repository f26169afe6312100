#include "netlink.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <cstring>
#include <string>

#include "errors.h"

namespace tsnet {

namespace {

// A datagram larger than the socket's send buffer is refused with EMSGSIZE; the default one ends at 208 KiB.
constexpr int sendBufferBytes = 4 * 1024 * 1024;

void setOption(const Fd& socket, int level, int option, const char* name, int value) {
  if (setsockopt(socket.get(), level, option, &value, sizeof value) < 0) {
    throwErrno(std::string("setsockopt ") + name);
  }
}

/** Calls `visit` with each whole message's header and the place behind it. */
template <class Visit>
void eachHeader(const uint8_t* start, size_t length, Visit visit) {
  size_t offset = 0;
  while (length - offset >= NLMSG_HDRLEN) {
    nlmsghdr header;
    memcpy(&header, start + offset, sizeof header);
    if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > length - offset) break;
    visit(header, start + offset + NLMSG_HDRLEN);
    const size_t aligned = NLMSG_ALIGN(static_cast<size_t>(header.nlmsg_len));
    if (aligned >= length - offset) break;
    offset += aligned;
  }
}

}  // namespace

Fd openNetlink(const NetlinkSettings& settings) {
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, settings.protocol));
  if (!socket) throwErrno("socket AF_NETLINK " + std::to_string(settings.protocol));
  const int queueBytes = static_cast<int>(settings.receiveBufferBytes);
  setOption(socket, SOL_SOCKET, SO_RCVBUFFORCE, "SO_RCVBUFFORCE", queueBytes);
  setOption(socket, SOL_SOCKET, SO_SNDBUFFORCE, "SO_SNDBUFFORCE", sendBufferBytes);
  setOption(socket, SOL_NETLINK, NETLINK_EXT_ACK, "NETLINK_EXT_ACK", 1);
  // A failed message is known by its sequence number; repeating it whole would only fill the receive buffer.
  setOption(socket, SOL_NETLINK, NETLINK_CAP_ACK, "NETLINK_CAP_ACK", 1);
  if (settings.strictCheck) setOption(socket, SOL_NETLINK, NETLINK_GET_STRICT_CHK, "NETLINK_GET_STRICT_CHK", 1);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) throwErrno("bind AF_NETLINK");
  for (const uint32_t group : settings.groups) {
    setOption(socket, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, "NETLINK_ADD_MEMBERSHIP", static_cast<int>(group));
  }
  return socket;
}

uint32_t netlinkPortid(const Fd& socket) {
  sockaddr_nl address{};
  socklen_t length = sizeof address;
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) < 0) throwErrno("getsockname");
  return address.nl_pid;
}

void sendNetlink(const Fd& socket, const uint8_t* start, size_t length) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent;
  do {
    sent = sendto(socket.get(), start, length, 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) throwErrno("sendmsg");
}

// A dump that a send on another thread has just ended makes a receive fail with EINVAL: recvmsg looks whether one is
// under way, waits for the lock, and finds none (netlink_dump, net/netlink/af_netlink.c). Nothing is lost by it.
constexpr int endedDumpTries = 8;

size_t receiveNetlink(const Fd& socket, const ReceiveBuffer& buffer) {
  for (int endedDumps = 0;;) {
    sockaddr_nl sender{};
    iovec part{buffer.get(), receiveBufferBytes};
    msghdr message{};
    message.msg_name = &sender;
    message.msg_namelen = sizeof sender;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t length = recvmsg(socket.get(), &message, MSG_DONTWAIT);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EINVAL && ++endedDumps < endedDumpTries) continue;
    if (length < 0) throwErrno("recvmsg");
    // Only the kernel is believed: a process may write to any port id it knows.
    if (sender.nl_pid != 0) continue;
    if ((message.msg_flags & MSG_TRUNC) != 0) throw SysError{ENOBUFS, "recvmsg"};
    return static_cast<size_t>(length);
  }
}

size_t countAnswers(const uint8_t* start, size_t length) {
  size_t answers = 0;
  eachHeader(start, length, [&](const nlmsghdr& header, const uint8_t*) {
    if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE) answers += 1;
  });
  return answers;
}

bool hasRefusal(const uint8_t* start, size_t length) {
  bool refused = false;
  eachHeader(start, length, [&](const nlmsghdr& header, const uint8_t* payload) {
    const bool ends = header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE;
    int code = 0;
    if (!ends || header.nlmsg_len < NLMSG_HDRLEN + sizeof code) return;
    memcpy(&code, payload, sizeof code);
    if (code != 0) refused = true;
  });
  return refused;
}

}  // namespace tsnet
