import { exchangeDump } from '../../lib/netlink/exchange.js';
import { decodeTcpSocket, endingStates, NETLINK_SOCK_DIAG, tcpListMessage } from '../../lib/netlink/sock-diag.js';
import type { NativeApi } from '../../native/api.js';
import { parseTarget } from '../attach/target.js';
import type { OwnEndpoint } from '../journal/entries.js';

/**
 * How many TCP connections to some ports of an endpoint are not over yet; 0 where its sandbox is gone.
 *
 * Equivalent to: `ss -Htan src ADDRESS sport = PORT` in the sandbox, without time-wait.
 */
export async function connectionsTo(
  native: NativeApi,
  { record, cookie }: OwnEndpoint,
  ports: ReadonlySet<number>,
): Promise<number> {
  if (record.sandbox === null) return 0;
  const netns = await native.netnsOpen(parseTarget(record.sandbox).ref).catch(() => null);
  if (netns === null) return 0;
  try {
    if (String(netns.cookie) !== cookie) return 0;
    // A socket of family 6 may serve IPv4.
    const lists = ([4, 6] as const).map((family) =>
      exchangeDump(
        native,
        { fd: netns.fd },
        {
          protocol: NETLINK_SOCK_DIAG,
          message: tcpListMessage(family, endingStates),
          decode: (_header, reader) => decodeTcpSocket(reader),
        },
      ),
    );
    return (await Promise.all(lists))
      .flat()
      .filter(({ listens, local, localPort }) => !listens && ports.has(localPort) && record.addresses.includes(local))
      .length;
  } finally {
    netns.close();
  }
}
