import { parseAddr } from '../../core/addr.js';
import type { PortProtocol, Service } from '../../core/model.js';
import type { BackendState } from '../../core/service/backend.js';
import type { Logger } from '../../lib/log.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { conntrackDelete, conntrackList } from '../../lib/netlink/conntrack.js';

export interface FlowsOptions {
  /** Of NETLINK_NETFILTER. */
  readonly conntrack: NetlinkConnection;
  /** Resolves when the table no longer leads new connections to what was taken out before. */
  readonly settled: () => Promise<void>;
  readonly log: Logger;
}

export interface FlowBackend {
  readonly id: string;
  readonly addresses: readonly string[];
  readonly state: BackendState;
}

interface Followed {
  readonly service: Service;
  readonly backends: ReadonlyMap<string, FlowBackend>;
  /** Ends of draining, by endpoint. */
  readonly deadlines: Map<string, NodeJS.Timeout>;
}

const allProtocols: readonly PortProtocol[] = ['tcp', 'udp', 'sctp'];
const hadFlows = (backend: FlowBackend | undefined): boolean =>
  backend?.state === 'ready' || backend?.state === 'draining';

/**
 * Ends connections that would go on to a backend that is no more. Tracked connections keep their backend, which is what
 * a draining one wants until its deadline; one that is gone would black-hole them, and one that fails keep UDP senders.
 */
export class Flows {
  readonly #options: FlowsOptions;
  readonly #followed = new Map<string, Followed>();
  #isClosed = false;

  constructor(options: FlowsOptions) {
    this.#options = options;
  }

  close(): void {
    this.#isClosed = true;
    for (const { deadlines } of this.#followed.values()) for (const timer of deadlines.values()) clearTimeout(timer);
  }

  /** A service with its backends as they are now. */
  follow(id: string, service: Service, backends: readonly FlowBackend[]): void {
    const before = this.#followed.get(id);
    const now = new Map(backends.map((backend) => [backend.id, backend]));
    const deadlines = before?.deadlines ?? new Map<string, NodeJS.Timeout>();
    this.#followed.set(id, { service, backends: now, deadlines });
    if (service.mode !== 'vip') return;
    for (const backend of before?.backends.values() ?? []) {
      const state = now.get(backend.id)?.state ?? 'down';
      if (!hadFlows(backend) || state === 'ready' || state === 'draining') continue;
      void this.#end(service, state === 'failing' ? ['udp'] : allProtocols, backend.addresses);
    }
    for (const backend of backends) {
      const timer = deadlines.get(backend.id);
      if (backend.state === 'draining' && timer === undefined) {
        const end = (): void => {
          void this.#end(service, allProtocols, backend.addresses);
        };
        deadlines.set(backend.id, setTimeout(end, service.drainMs).unref());
      } else if (backend.state !== 'draining' && timer !== undefined) {
        clearTimeout(timer);
        deadlines.delete(backend.id);
      }
    }
  }

  /** A service is gone: its address may be another's soon. */
  forget(id: string): void {
    const before = this.#followed.get(id);
    if (before === undefined) return;
    this.#followed.delete(id);
    for (const timer of before.deadlines.values()) clearTimeout(timer);
    if (before.service.mode === 'vip') void this.#end(before.service, allProtocols, null);
  }

  /** Forgets connections to a service that lead to one of these addresses; null: all of them. */
  async #end(service: Service, protocols: readonly PortProtocol[], addresses: readonly string[] | null): Promise<void> {
    const { conntrack, settled, log } = this.#options;
    try {
      await settled();
      for (const vip of service.addresses) {
        const { family } = parseAddr(vip);
        for (const { port, protocol } of service.ports) {
          if (!protocols.includes(protocol)) continue;
          const published = (service.publish ?? []).filter((each) => each.port === port && each.protocol === protocol);
          for (const dstPort of [port, ...published.map(({ hostPort }) => hostPort)]) {
            if (this.#isClosed) return;
            const flows = await conntrackList(conntrack, { family, protocol, dstPort });
            const theirs = flows.filter(
              ({ dst, replySrc }) =>
                (dst === vip || (dstPort !== port && replySrc !== dst)) &&
                (addresses === null ? dst === vip || dstPort !== port : addresses.includes(replySrc)),
            );
            if (theirs.length > 0) await conntrackDelete(conntrack, family, theirs);
          }
        }
      }
    } catch (error) {
      if (!this.#isClosed)
        log.error({ service: service.name, error: String(error) }, 'connections of a backend that is gone were kept');
    }
  }
}
