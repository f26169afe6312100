import { readdir, readFile, readlink } from 'node:fs/promises';
import { isUnspecified, parseAddr } from '../../core/addr.js';
import type { PortMapping, PortProtocol } from '../../core/model.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { listenerList, type Listener } from '../../lib/netlink/sock-diag.js';
import type { FindListener } from './port-book.js';

/** How a socket of family 6 shows an IPv4 address (RFC 4291 §2.5.5.2). */
const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/;

function takesFrom(listener: Listener, mapping: PortMapping): boolean {
  if (listener.port < mapping.hostPort || listener.port > mapping.hostPortEnd) return false;
  if (mapping.hostAddress === null) return true;
  const [own, asked] = [parseAddr(listener.address.replace(mapped, '$1')), parseAddr(mapping.hostAddress)];
  if (isUnspecified(own)) return own.family === asked.family || (own.family === 6 && !listener.v6only);
  return own.family === asked.family && own.value === asked.value;
}

/**
 * Processes that hold sockets of published ports open for their containers without ever accepting: podman and CRI-O
 * bind each port beside publishing it, and would be in their own way when a container is attached anew.
 */
const reservers: ReadonlySet<string> = new Set(['conmon']);

/** The process that has a socket open; null where none is found: a kernel's socket, or one of another PID namespace. */
async function processOf(inode: number): Promise<{ readonly name: string; readonly pid: string } | null> {
  const link = `socket:[${inode}]`;
  for (const pid of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(pid)) continue;
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      if ((await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')) !== link) continue;
      const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
      return { name: name.trim(), pid };
    }
  }
  return null;
}

/** A port that is ours, whether a socket listens on it by now or not. */
export interface ReservedPort {
  readonly protocol: PortProtocol;
  readonly port: number;
  readonly holder: string;
  /** Only on the gateways of networks: one that is published by another address is not in the way. */
  readonly onGateways?: boolean;
}

/** What sandboxes ask for names; published on all addresses, it would take their questions. */
export const nameServerPorts: readonly ReservedPort[] = (['udp', 'tcp'] as const).map((protocol) => {
  return { protocol, port: 53, holder: 'the name server of tsnet on the gateways of networks', onGateways: true };
});

/**
 * Finds sockets of the host that listen on published ports.
 *
 * @param connection of NETLINK_SOCK_DIAG.
 * @param reserved ports of ours, by protocol, with what they are for.
 */
export function newFindListener(connection: NetlinkConnection, reserved: () => readonly ReservedPort[]): FindListener {
  return async (mappings) => {
    for (const { protocol, port, holder, onGateways = false } of reserved()) {
      const mapping = mappings.find(
        (each) =>
          each.protocol === protocol &&
          each.hostPort <= port &&
          port <= each.hostPortEnd &&
          (each.hostAddress === null || !onGateways),
      );
      if (mapping !== undefined) return { mapping, holder };
    }
    for (const protocol of new Set(mappings.map((mapping) => mapping.protocol))) {
      const asked = mappings.filter((mapping) => mapping.protocol === protocol);
      for (const listener of await listenerList(connection, protocol)) {
        const mapping = asked.find((each) => takesFrom(listener, each));
        if (mapping === undefined) continue;
        const place = listener.address.includes(':')
          ? `[${listener.address}]:${listener.port}`
          : `${listener.address}:${listener.port}`;
        const process = await processOf(listener.inode);
        if (process !== null && reservers.has(process.name)) continue;
        const holder = process === null ? 'a socket of the host' : `process ${process.name} (pid ${process.pid})`;
        return { mapping, holder: `${holder}, which listens on ${place}/${protocol}` };
      }
    }
    return null;
  };
}
