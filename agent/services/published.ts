import type { Endpoint, HeldPort, PortMapping, PortProtocol, Service } from '../../core/model.js';
import type { FindListener } from '../ports/port-book.js';
import type { FindHolder, HostPort } from './held-ports.js';

/** A port of this host that leads to a service. */
export interface PublishedService {
  readonly protocol: PortProtocol;
  readonly port: number;
  /** Whose it is, for people. */
  readonly holder: string;
}

export function publishedPorts(services: readonly Service[]): PublishedService[] {
  return services.flatMap(({ name, publish = [] }) =>
    publish.map(({ hostPort, protocol }) => ({ protocol, port: hostPort, holder: `service ${name}` })),
  );
}

/** As much of a holder's name as a record takes. */
const mostHolderChars = 256;

const mappingOf = ({ hostPort, protocol }: HostPort): PortMapping => ({
  hostAddress: null,
  hostPort,
  hostPortEnd: hostPort,
  port: hostPort,
  portEnd: hostPort,
  protocol,
});

/**
 * Finds what has a port that a service asks for: an endpoint of this host that publishes it, or a socket.
 *
 * @param endpoints of this host.
 */
export function newFindHolder(endpoints: () => Iterable<Endpoint>, findListener: FindListener): FindHolder {
  return async (ports) => {
    for (const { id, name, ports: mappings = [] } of endpoints()) {
      for (const { protocol, hostPort: first, hostPortEnd: last } of mappings) {
        const port = ports.find((one) => one.protocol === protocol && first <= one.hostPort && one.hostPort <= last);
        if (port !== undefined) return heldPort(port, `endpoint ${name ?? id} (${id}), which publishes it`);
      }
    }
    const found = ports.length === 0 ? null : await findListener(ports.map(mappingOf));
    return found === null ? null : heldPort(found.mapping, found.holder);
  };
}

const heldPort = ({ hostPort, protocol }: HostPort, holder: string): HeldPort => ({
  hostPort,
  protocol,
  holder: holder.slice(0, mostHolderChars),
});
