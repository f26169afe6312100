import type { Logger } from '../../lib/log.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { conntrackAdopt, type TcpFlow } from '../../lib/netlink/conntrack-entry.js';
import { exchangeDump } from '../../lib/netlink/exchange.js';
import { decodeTcpSocket, NETLINK_SOCK_DIAG, tcpListMessage, type TcpSocket } from '../../lib/netlink/sock-diag.js';
import type { NativeApi, NetnsRef } from '../../native/api.js';
import { parseTarget } from '../attach/target.js';
import type { OwnEndpoint } from '../journal/entries.js';

export interface OpenConnectionsOptions {
  readonly native: NativeApi;
  /** Of NETLINK_NETFILTER. */
  readonly conntrack: NetlinkConnection;
  readonly bootId: string;
  readonly log: Logger;
}

/** So many sandboxes are asked at once: each by a thread of its own. */
const parallel = 8;

/** A sandbox with all its addresses. */
interface Place {
  readonly target: string;
  readonly cookie: string;
  readonly addresses: Set<string>;
}

/**
 * Who opened the connections of a sandbox, by its sockets: the end whose port is listened on is the one that was
 * connected to.
 */
export function tcpFlowsOf(sockets: readonly TcpSocket[], addresses: ReadonlySet<string>): TcpFlow[] {
  const served = new Set(sockets.filter(({ listens }) => listens).map(({ localPort }) => localPort));
  return sockets
    .filter(({ listens, local }) => !listens && addresses.has(local))
    .map(({ local, localPort, remote, remotePort }) =>
      served.has(localPort)
        ? { client: remote, clientPort: remotePort, server: local, serverPort: localPort }
        : { client: local, clientPort: localPort, server: remote, serverPort: remotePort },
    );
}

/**
 * Makes the open TCP connections of sandboxes known to the kernel's tracking, by asking the sandboxes themselves: when
 * tracking begins with a first policy, packets alone do not tell who opened what they belong to.
 */
export class OpenConnections {
  readonly #options: OpenConnectionsOptions;

  constructor(options: OpenConnectionsOptions) {
    this.#options = options;
  }

  /** Sandboxes that cannot be asked are passed over. */
  async adopt(endpoints: readonly OwnEndpoint[]): Promise<void> {
    const places = [...this.#places(endpoints)];
    let adopted = 0;
    const work = async (): Promise<void> => {
      for (let place = places.pop(); place !== undefined; place = places.pop()) adopted += await this.#adoptOf(place);
    };
    await Promise.all(Array.from({ length: parallel }, work));
    if (adopted > 0) this.#options.log.info({ adopted }, 'open connections are tracked from now on');
  }

  #places(endpoints: readonly OwnEndpoint[]): Iterable<Place> {
    const places = new Map<string, Place>();
    for (const { record, cookie, bootId } of endpoints) {
      if (record.sandbox === null || cookie === null || bootId !== this.#options.bootId) continue;
      const place = places.get(cookie) ?? { target: record.sandbox, cookie, addresses: new Set<string>() };
      places.set(cookie, place);
      for (const address of record.addresses) place.addresses.add(address);
    }
    return places.values();
  }

  async #adoptOf({ target, cookie, addresses }: Place): Promise<number> {
    const { native, conntrack, log } = this.#options;
    try {
      const handle = await native.netnsOpen(parseTarget(target).ref);
      try {
        if (String(handle.cookie) !== cookie) return 0;
        const flows = tcpFlowsOf(await this.#sockets({ fd: handle.fd }), addresses);
        return flows.length === 0 ? 0 : await conntrackAdopt(conntrack, flows);
      } finally {
        handle.close();
      }
    } catch (error) {
      log.info({ target, error: String(error) }, 'open connections of a sandbox are not known');
      return 0;
    }
  }

  async #sockets(netns: NetnsRef): Promise<TcpSocket[]> {
    const lists = [4, 6].map((family) =>
      exchangeDump(this.#options.native, netns, {
        protocol: NETLINK_SOCK_DIAG,
        message: tcpListMessage(family === 4 ? 4 : 6),
        decode: (_header, reader) => decodeTcpSocket(reader),
      }),
    );
    return (await Promise.all(lists)).flat();
  }
}
