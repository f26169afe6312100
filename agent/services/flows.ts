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
  /** Whether an endpoint of a network is attached, and its host up. */
  readonly isThere: (network: string, endpoint: string) => boolean;
  readonly log: Logger;
}

export interface FlowBackend {
  readonly id: string;
  readonly addresses: readonly string[];
  readonly state: BackendState;
}

/** Connections that are to end. */
interface Ending {
  readonly service: Service;
  readonly protocols: readonly PortProtocol[];
  /** Of the backends that they lead to. */
  readonly addresses: readonly string[];
  /** Whatever those to the virtual address lead to. */
  readonly isWhole?: boolean;
}

interface Followed {
  readonly service: Service;
  readonly backends: ReadonlyMap<string, FlowBackend>;
  /** Endpoints that the service selects no longer: their connections go on as those of draining ones. */
  readonly leaving: Map<string, FlowBackend>;
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
    const leaving = before?.leaving ?? new Map<string, FlowBackend>();
    this.#followed.set(id, { service, backends: now, leaving, deadlines });
    if (service.mode !== 'vip') return;
    if (before !== undefined) this.#endMoved(before, service);
    for (const backend of before?.backends.values() ?? []) {
      const state = now.get(backend.id)?.state ?? 'down';
      if (!hadFlows(backend) || state === 'ready' || state === 'draining') continue;
      if (!now.has(backend.id) && this.#options.isThere(service.network, backend.id)) leaving.set(backend.id, backend);
      else {
        const protocols: readonly PortProtocol[] = state === 'failing' ? ['udp'] : allProtocols;
        void this.#end({ service, protocols, addresses: backend.addresses });
      }
    }
    for (const backendId of now.keys()) leaving.delete(backendId);
    const ending = [...leaving.values(), ...backends.filter(({ state }) => state === 'draining')];
    for (const { id: backendId, addresses } of ending) {
      if (deadlines.has(backendId)) continue;
      const end = (): void => {
        leaving.delete(backendId);
        void this.#end({ service, protocols: allProtocols, addresses });
      };
      deadlines.set(backendId, setTimeout(end, service.drainMs).unref());
    }
    for (const [backendId, timer] of deadlines) {
      if (leaving.has(backendId) || now.get(backendId)?.state === 'draining') continue;
      clearTimeout(timer);
      deadlines.delete(backendId);
    }
  }

  /** An endpoint is gone: also what selects it no longer may have connections to it. */
  endpointGone(endpoint: string): void {
    for (const { service, leaving, deadlines } of this.#followed.values()) {
      const left = leaving.get(endpoint);
      if (left === undefined) continue;
      leaving.delete(endpoint);
      clearTimeout(deadlines.get(endpoint));
      deadlines.delete(endpoint);
      void this.#end({ service, protocols: allProtocols, addresses: left.addresses });
    }
  }

  /** A service is gone: its address may be another's soon. */
  forget(id: string): void {
    const before = this.#followed.get(id);
    if (before === undefined) return;
    this.#followed.delete(id);
    for (const timer of before.deadlines.values()) clearTimeout(timer);
    const { service } = before;
    if (service.mode !== 'vip') return;
    void this.#end({ service, protocols: allProtocols, addresses: addressesOf(before), isWhole: true });
  }

  /** Datagrams to a port that is gone, or leads elsewhere now, would go where they went as long as they come. */
  #endMoved(followed: Followed, after: Service): void {
    const before = followed.service;
    const isSame = (a: Service['ports'][number], b: Service['ports'][number]): boolean =>
      a.port === b.port && a.protocol === b.protocol && a.target === b.target;
    const moved = before.ports.filter((port) => !after.ports.some((one) => isSame(port, one)));
    const hidden = (before.publish ?? []).filter(
      ({ hostPort, port, protocol }) =>
        !(after.publish ?? []).some(
          (one) => one.hostPort === hostPort && one.port === port && one.protocol === protocol,
        ),
    );
    const ports = before.ports.filter(
      (port) => moved.includes(port) || hidden.some((one) => one.port === port.port && one.protocol === port.protocol),
    );
    if (ports.length === 0) return;
    const service = { ...before, ports };
    void this.#end({ service, protocols: ['udp'], addresses: addressesOf(followed), isWhole: true });
  }

  /** Forgets connections to a service that lead to one of these addresses. */
  async #end({ service, protocols, addresses, isWhole = false }: Ending): Promise<void> {
    const { conntrack, settled, log } = this.#options;
    try {
      await settled();
      for (const vip of service.addresses) {
        const { family } = parseAddr(vip);
        for (const { port, protocol } of service.ports) {
          if (!protocols.includes(protocol)) continue;
          const published = (service.publish ?? []).filter((each) => each.port === port && each.protocol === protocol);
          const hostPorts = new Set(published.map(({ hostPort }) => hostPort));
          for (const dstPort of new Set([port, ...hostPorts])) {
            if (this.#isClosed) return;
            const flows = await conntrackList(conntrack, { family, protocol, dstPort });
            const theirs = flows.filter(({ dst, replySrc }) => {
              if (dst === vip) return dstPort === port && (isWhole || addresses.includes(replySrc));
              // What others translate may have that port as well: a service of its own address, or rules not of ours.
              return (
                hostPorts.has(dstPort) && dst !== replySrc && addresses.includes(replySrc) && !this.#isVirtual(dst)
              );
            });
            if (theirs.length > 0) await conntrackDelete(conntrack, family, theirs);
          }
        }
      }
    } catch (error) {
      if (!this.#isClosed)
        log.error({ service: service.name, error: String(error) }, 'connections of a backend that is gone were kept');
    }
  }

  #isVirtual(address: string): boolean {
    for (const { service } of this.#followed.values()) if (service.addresses.includes(address)) return true;
    return false;
  }
}

/** The addresses of all that connections to a service may lead to. */
const addressesOf = ({ backends, leaving }: Pick<Followed, 'backends' | 'leaving'>): string[] =>
  [...backends.values(), ...leaving.values()].flatMap(({ addresses }) => addresses);
