import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import { isLoopback, parseAddr, type Family } from '../../core/addr.js';
import type { Endpoint, PortMapping, PortProtocol } from '../../core/model.js';
import { formatPort, portAddresses } from '../../core/ports.js';
import type { Logger } from '../../lib/log.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { conntrackDelete, conntrackList } from '../../lib/netlink/conntrack.js';
import { listHostAddresses } from '../firewall/surroundings.js';

/** So many ports are asked for one by one, with the kernel filtering; more are picked out of one listing. */
const askedSingly = 4;
/** A walk is followed by a rest, so many times as long, in which what comes is gathered for the next. */
const restFactor = 9;
const maxRestMs = 250;
/** Ports by their upper bits: thousands of mappings are not gone through for each of thousands of connections. */
const pageBits = 6;

/** Ports of one family and protocol. */
interface FlowGroup {
  readonly family: Family;
  readonly protocol: PortProtocol;
  readonly mappings: PortMapping[];
}

type Published = Pick<Endpoint, 'addresses' | 'ports'>;

export interface StaleFlowsOptions {
  /** Of NETLINK_ROUTE. */
  readonly connection: NetlinkConnection;
  /** Of NETLINK_NETFILTER. */
  readonly conntrack: NetlinkConnection;
  readonly log: Logger;
}

/**
 * Forgets the connections that were sent to published ports: they would outlive a mapping that is gone, or keep a
 * datagram sender from one that has come. Others are left alone.
 *
 * The kernel has no index for that: it walks the table of all namespaces, some 6 ms for the 262 144 buckets that it
 * makes on a host of 8 GiB and more. So this goes on behind the caller, one walk at a time, a walk serves all that was
 * asked for since the one before it began, and takes a tenth of one processor at most.
 */
export class StaleFlows {
  readonly #options: StaleFlowsOptions;
  /** Told apart only once the caller has its answer. */
  readonly #asked: { readonly endpoint: Published; readonly ports: () => readonly PortMapping[] }[] = [];
  #running: Promise<void> | undefined;
  #restUntilMs = 0;

  constructor(options: StaleFlowsOptions) {
    this.#options = options;
  }

  /** Begins to forget the connections to these ports of an endpoint. */
  drop(endpoint: Published): void {
    this.#ask(endpoint, () => endpoint.ports ?? []);
  }

  /** Begins to forget the connections to ports that only one of two states of an endpoint publishes. */
  dropChanged(before: Published, now: Published): void {
    this.#ask(now, () => differingPorts(before.ports ?? [], now.ports ?? []));
  }

  #ask(endpoint: Published, ports: () => readonly PortMapping[]): void {
    this.#asked.push({ endpoint, ports });
    this.#running ??= this.#run();
  }

  /** What was asked for since the last time, by family and protocol. */
  #takeGroups(): Map<string, FlowGroup> {
    const groups = new Map<string, FlowGroup>();
    for (const { endpoint, ports } of this.#asked.splice(0)) {
      for (const mapping of ports()) {
        for (const address of portAddresses(mapping, endpoint)) {
          const family = address.includes(':') ? 6 : 4;
          const key = `${family} ${mapping.protocol}`;
          const group = groups.get(key);
          if (group === undefined) groups.set(key, { family, protocol: mapping.protocol, mappings: [mapping] });
          else group.mappings.push(mapping);
        }
      }
    }
    return groups;
  }

  /** Resolves when all that was asked for has been done. */
  idle(): Promise<void> {
    return this.#running ?? Promise.resolve();
  }

  async #run(): Promise<void> {
    try {
      // The caller's answer goes first.
      await setImmediate();
      while (this.#asked.length > 0) {
        const leftMs = this.#restUntilMs - performance.now();
        if (leftMs > 0) await delay(leftMs);
        const startedMs = performance.now();
        const groups = this.#takeGroups();
        if (groups.size === 0) continue;
        const own = await listHostAddresses(this.#options.connection);
        const isOwn = (address: string): boolean => own.has(address) || isLoopback(parseAddr(address));
        for (const group of groups.values()) await this.#dropGroup(group, isOwn);
        const endedMs = performance.now();
        this.#restUntilMs = endedMs + Math.min(maxRestMs, restFactor * (endedMs - startedMs));
      }
    } catch (error) {
      this.#options.log.error({ error: String(error) }, 'while forgetting connections to published ports');
    } finally {
      this.#running = undefined;
    }
  }

  async #dropGroup(group: FlowGroup, isOwn: (address: string) => boolean): Promise<void> {
    const { conntrack } = this.#options;
    const { family, protocol, mappings } = group;
    const count = mappings.reduce((sum, each) => sum + each.hostPortEnd - each.hostPort + 1, 0);
    const ports: (number | undefined)[] = count > askedSingly ? [undefined] : portsOf(mappings);
    const pages = pagesOf(mappings);
    for (const dstPort of new Set(ports)) {
      const flows = await conntrackList(conntrack, { family, protocol, ...(dstPort === undefined ? {} : { dstPort }) });
      const stale = flows.filter((flow) =>
        pages.get(flow.dstPort >> pageBits)?.some((mapping) => covers(mapping, flow, isOwn)),
      );
      if (stale.length > 0) await conntrackDelete(conntrack, family, stale);
    }
  }
}

function covers(
  mapping: PortMapping,
  flow: { readonly dst: string; readonly dstPort: number },
  isOwnAddress: (address: string) => boolean,
): boolean {
  if (flow.dstPort < mapping.hostPort || flow.dstPort > mapping.hostPortEnd) return false;
  return mapping.hostAddress === null ? isOwnAddress(flow.dst) : flow.dst === mapping.hostAddress;
}

function portsOf(mappings: readonly PortMapping[]): number[] {
  return mappings.flatMap(({ hostPort, hostPortEnd }) =>
    Array.from({ length: hostPortEnd - hostPort + 1 }, (_, offset) => hostPort + offset),
  );
}

function pagesOf(mappings: readonly PortMapping[]): ReadonlyMap<number, readonly PortMapping[]> {
  const pages = new Map<number, PortMapping[]>();
  for (const mapping of mappings) {
    for (let page = mapping.hostPort >> pageBits; page <= mapping.hostPortEnd >> pageBits; page++) {
      const some = pages.get(page);
      if (some === undefined) pages.set(page, [mapping]);
      else some.push(mapping);
    }
  }
  return pages;
}

/** Mappings that stand in one of two lists only. */
function differingPorts(old: readonly PortMapping[], fresh: readonly PortMapping[]): PortMapping[] {
  const differing = new Map(old.map((mapping) => [formatPort(mapping), mapping]));
  for (const mapping of fresh) {
    const text = formatPort(mapping);
    if (!differing.delete(text)) differing.set(text, mapping);
  }
  return [...differing.values()];
}
