/**
 * The addon's interface, as types only. `native/index.ts` is the only loader of the addon;
 * everything else takes a `NativeApi` value, so that tests can hand in another one.
 */

/** A network namespace: by bound path, by a process in it, or by an open descriptor of ours. */
export type NetnsRef = { readonly path: string } | { readonly pid: number } | { readonly fd: number };

/**
 * Thrown (or, by what returns a promise, rejected with) by every native call; `code` is the errno's name, e.g.
 * `ENOENT`, and `errno` its positive number. Arguments of a wrong type are a TypeError instead.
 */
export interface NativeError extends Error {
  readonly code: string;
  readonly errno: number;
  /** The call that failed, with its subject: `open /run/netns/web`, `setns`, `sendmsg`. */
  readonly syscall: string;
}

export interface NetlinkOpenOptions {
  /** `NETLINK_ROUTE` (0), `NETLINK_NETFILTER` (12), … (linux/netlink.h). */
  readonly protocol: number;
  /** The namespace the socket belongs to for its whole life; ours when absent. */
  readonly netns?: NetnsRef;
  /** Multicast groups to join (`NETLINK_ADD_MEMBERSHIP` numbers, e.g. `RTNLGRP_LINK` = 1). */
  readonly groups?: readonly number[];
  /** `SO_RCVBUFFORCE`, bytes; default 4 MiB. */
  readonly receiveBufferBytes?: number;
  /** `NETLINK_GET_STRICT_CHK`; default true. */
  readonly strictCheck?: boolean;
  /** One datagram as received: whole messages. The buffer belongs to the callee. */
  readonly onMessage: (datagram: Buffer) => void;
  /**
   * The socket lost messages (`ENOBUFS`): code `ENOBUFS`, the socket stays usable and the
   * subscriber must list again; any other code is final and the socket is closed.
   */
  readonly onError: (error: NativeError) => void;
}

/** A netlink socket, received from the event loop (uv_poll); extended and capped acks (`NLM_F_CAPPED`) are on. */
export interface NetlinkSocket {
  /** The kernel's address of this socket (`nl_pid`). */
  readonly portid: number;
  readonly closed: boolean;
  /**
   * Sends one datagram of one or many messages off the main thread: rtnetlink does its work inside
   * `sendmsg`, and deleting a link waits ~20 ms there. Sends of one socket keep their order.
   * Resolves when the kernel took it; the answers arrive through `onMessage`.
   */
  send(datagram: Uint8Array): Promise<void>;
  /**
   * The same on the calling thread: for short requests that the caller knows to be quick. It does not wait for
   * sends still pending, and so may overtake them.
   */
  sendSync(datagram: Uint8Array): void;
  /** Leaves what comes in the receive buffer, so that it wakes nobody, until `resume`. */
  pause(): void;
  /** Goes on receiving, from the next turn of the event loop. */
  resume(): void;
  /** Closes; again is a no-op. Pending sends reject with `EBADF`, no callback comes afterwards. */
  close(): void;
}

export interface NetlinkExchangeOptions {
  readonly protocol: number;
  readonly netns?: NetnsRef;
  /** Written inside the namespace before the send: [path below /proc/sys, value]. A missing path rejects with ENOENT. */
  readonly sysctls?: readonly (readonly [path: string, value: string])[];
  /** Messages, each with `NLM_F_ACK` or `NLM_F_DUMP`; sequence numbers are the caller's. */
  readonly datagram: Uint8Array;
  /** How many terminal answers (NLMSG_ERROR incl. acks, NLMSG_DONE) to wait for. */
  readonly answers: number;
  /** Leaves acknowledgements of what was not refused out of the result. Default false. */
  readonly refusalsOnly?: boolean;
  /** Default 5000; afterwards rejects with ETIMEDOUT. */
  readonly timeoutMs?: number;
}

/** An open namespace descriptor. Keep it no longer than needed: it keeps the namespace alive. */
export interface NetnsHandle {
  /** -1 once closed. */
  readonly fd: number;
  /** `SO_NETNS_COOKIE`: unique per boot; inode numbers are reused at once. */
  readonly cookie: bigint;
  close(): void;
}

export interface NftResult {
  /** libnftables' return code: 0 is success. */
  readonly rc: number;
  readonly output: string;
  readonly error: string;
}

/** libnftables in one namespace, on a thread of its own; runs are executed in order. */
export interface NftContext {
  /** Runs one command text: nft syntax, or JSON when it starts with `{`. One call is one transaction. */
  run(
    commands: string,
    options?: { readonly json?: boolean; readonly terse?: boolean; readonly handles?: boolean },
  ): Promise<NftResult>;
  close(): Promise<void>;
}

export interface InetOpenOptions {
  readonly type: 'udp' | 'tcp';
  /** It need not be there (yet): `IP_FREEBIND`. */
  readonly address: string;
  /** 0: the kernel chooses one. */
  readonly port: number;
  /** The namespace the socket belongs to for its whole life; ours when absent. */
  readonly netns?: NetnsRef;
  /** `SO_RCVBUFFORCE`. */
  readonly receiveBufferBytes?: number;
}

/** Room for what one wake-up of a UDP socket takes and gives. Sockets may share it: each is done with it when `onBatch` returns. */
export interface UdpBatch {
  /** 32 datagrams of at most 4096 bytes, each at its own multiple. */
  readonly queries: Uint8Array;
  /** Longer ones have 0. */
  readonly queryLengths: Uint32Array;
  /** Where each came from: 32 times 28 bytes, a sockaddr_in or sockaddr_in6. */
  readonly sources: Uint8Array;
  /** As `queries`: what goes back to the source. */
  readonly answers: Uint8Array;
  /** 0 before each call: no answer (now). */
  readonly answerLengths: Uint32Array;
}

export interface UdpServeOptions {
  /** A bound socket; closed with the result. */
  readonly fd: number;
  readonly batch: UdpBatch;
  readonly onBatch: (count: number) => void;
  readonly onError: (error: NativeError) => void;
}

/** A UDP socket that takes many datagrams at a time. */
export interface UdpServer {
  /** Where it is bound. */
  readonly port: number;
  /** Sends later, to 28 bytes of `sources`. What cannot be sent is lost. */
  send(source: Uint8Array, answer: Uint8Array): void;
  /** Reads no more: `send` goes on. For a socket that another process reads by now. */
  pause(): void;
  close(): void;
}

export interface CallServeOptions {
  /** Of the socket, for its owner alone (0600). */
  readonly path: string;
  /** Of a call; a longer one is ended without being looked at. */
  readonly maxBytes: number;
  /** So many are open at a time; one more is turned away. */
  readonly maxCalls: number;
  /** A whole call: its number, and what was said. The buffer belongs to the callee. */
  readonly onCall: (call: number, said: Buffer) => void;
}

/**
 * Calls over a unix socket, one a connection: four bytes of length, big-endian, and so many of a call; then one byte of
 * status, four of length, and so many of an answer. A stream of Node's costs its event loop ten times as much.
 */
export interface CallServer {
  /** Answers, and ends the connection; nothing where the call is gone. */
  answer(call: number, status: number, text: string): void;
  /** Whether the caller has closed its connection, or was answered. */
  isGone(call: number): boolean;
  /**
   * Ends connections that have not said all for so long, and goes on accepting where descriptors had run out: to be called
   * now and then.
   */
  tidy(patienceMs: number): void;
  /** Ends all connections; unlinks the socket; again is a no-op. */
  close(): void;
}

/** A file by its path as a process sees it. */
export interface RootFileRef {
  readonly pid: number;
  /** As `rootFileRead` told it: ESRCH where the process is another one by now. */
  readonly startTime?: string;
  /** Absolute, in the root folder of the process. Links there are followed and never lead out of it. */
  readonly path: string;
  /** Files of ours by path: EXDEV where it is one of them, or would be made beside one. */
  readonly apartFrom?: readonly string[];
}

/** What was found of such a file. */
export interface RootFile {
  readonly startTime: string;
  /** Device and inode, `DEVICE:INODE`; null where there is no file. */
  readonly file: string | null;
  readonly content: Buffer | null;
}

export interface NativeApi {
  netlinkOpen(options: NetlinkOpenOptions): Promise<NetlinkSocket>;
  /**
   * One batch from a short-lived thread inside a namespace: enter, write sysctls, open, send all in
   * one `sendmsg`, receive until `answers` came, close, end. No descriptor stays in the namespace.
   * Resolves with the datagrams received.
   */
  netlinkExchange(options: NetlinkExchangeOptions): Promise<Buffer[]>;
  /**
   * Several of them in turn from one such thread, each in its own namespace; one without `netns` has to come before
   * those with one. None is begun after one of which the kernel refused something: the result has those that were made.
   */
  netlinkExchangeInTurn(exchanges: readonly NetlinkExchangeOptions[]): Promise<Buffer[][]>;
  /**
   * Opens a namespace and reads its cookie. Equivalent to: `ip netns` path or `/proc/$pid/ns/net`.
   * Cost: two hops between threads, or none where the kernel numbers namespaces by their cookies (Linux 6.18, NS_GET_ID).
   */
  netnsOpen(ref: NetnsRef): Promise<NetnsHandle>;
  /** Cookies of many namespaces in one thread trip; an errno name where one cannot be read. */
  netnsCookies(refs: readonly NetnsRef[]): Promise<(bigint | string)[]>;
  /** Cookie of the process's own namespace. */
  netnsOwnCookie(): bigint;
  /** Makes a fresh namespace bound at `path` (created, 0444). Equivalent to: `ip netns add`. */
  netnsCreate(path: string): Promise<void>;
  /** Unbinds and unlinks. Equivalent to: `ip netns delete`. ENOENT when there is none. */
  netnsDelete(path: string): Promise<void>;
  /** Without the line's end. `path` is below /proc/sys, with slashes. Equivalent to: `sysctl -n`. */
  sysctlRead(path: string, netns?: NetnsRef): Promise<string>;
  sysctlWrite(path: string, value: string, netns?: NetnsRef): Promise<void>;
  /** Calls back once when the process has ended (pidfd, polled). ESRCH when there is none. */
  pidfdWatch(pid: number, onExit: () => void): { close(): void };
  /**
   * A descriptor of our own, closed on exec, of what another process has open: the caller closes it. By then the number
   * may mean something else there: compare what it is. Source: pidfd_getfd(2). Errors: ESRCH, EBADF; EPERM.
   */
  pidfdGetfd(pid: number, fd: number): number;
  /**
   * Sends one Ethernet frame (14 to 1514 bytes, header included) out of a link of our own namespace.
   * Source: packet(7), SOCK_RAW. ENXIO when there is no such link, ENETDOWN when it is down.
   */
  frameSend(ifindex: number, frame: Uint8Array): void;
  /**
   * A bound socket (listening, for tcp) as a descriptor that the caller owns: for `dgram` and `net` to take over.
   * A socket in another namespace keeps that alive for as long as it is open. EADDRINUSE where the port is taken.
   */
  inetOpen(options: InetOpenOptions): Promise<number>;
  /** Answers datagrams in batches. Source: recvmmsg(2), sendmmsg(2). Errors: EBADF, ENOTSOCK; TypeError. */
  udpServe(options: UdpServeOptions): UdpServer;
  /** Listens for calls. Errors: EADDRINUSE where the file is there, ENAMETOOLONG; those of bind(2). */
  callServe(options: CallServeOptions): CallServer;
  /**
   * Reads a small file of a process that is not trusted, with the rights on files of its user namespace's root and no
   * others. A file that a server in a container provides (FUSE) may hold it up for ever: wait with a deadline.
   * Source: openat2(2), RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS.
   * Errors: ESRCH when there is no such process; EINVAL when it is not a regular file, EFBIG when it has more than
   * 64 KiB, EOPNOTSUPP when its file system is none of files (proc, sysfs, FUSE); EXDEV; those of open(2).
   */
  rootFileRead(file: RootFileRef): Promise<RootFile>;
  /**
   * Replaces a file's content in place where it is `expected`; null stands for no file. A missing one is made (0644, in
   * a folder that is there), one that is to be none is unlinked.
   * Errors: those of rootFileRead; ESTALE when the content is another one; those of write(2).
   */
  rootFileReplace(
    file: RootFileRef,
    change: { readonly expected: Uint8Array | null; readonly content: Uint8Array | null },
  ): Promise<RootFile>;
  nftOpen(netns?: NetnsRef): Promise<NftContext>;
}
