import type { Endpoint, PortProtocol, Service } from '../../core/model.js';

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

/** Endpoints that publish a port which leads to a service. */
export function portConflicts(
  published: readonly PublishedService[],
  endpoints: readonly Endpoint[],
): { readonly code: string; readonly message: string }[] {
  if (published.length === 0) return [];
  return endpoints.flatMap(({ id, name, ports = [] }) =>
    published
      .filter(({ protocol, port }) =>
        ports.some((one) => one.protocol === protocol && one.hostPort <= port && port <= one.hostPortEnd),
      )
      .map(({ protocol, port, holder }) => ({
        code: 'ERR_PORT_IN_USE',
        message: `port ${port}/${protocol} of endpoint ${name ?? id} leads to ${holder}, which publishes it too`,
      })),
  );
}
