import type { PortView } from '../../core/api/port.js';
import { isLoopback, parseAddr } from '../../core/addr.js';
import { checkFeature } from '../../core/desired/feature.js';
import { TsnetError } from '../../core/errors.js';
import type { Endpoint, Network, PortMapping } from '../../core/model.js';
import { formatPort, portAddresses } from '../../core/ports.js';
import type { Logger } from '../../lib/log.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import type { Firewall } from '../firewall/firewall.js';
import { listHostAddresses } from '../firewall/surroundings.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { Journal } from '../journal/journal.js';
import type { PortBook } from './port-book.js';
import type { StaleFlows } from './stale-flows.js';

export interface PublishedPortsOptions {
  readonly book: PortBook;
  readonly firewall: Firewall;
  readonly journal: Journal;
  /** Of NETLINK_ROUTE. */
  readonly connection: NetlinkConnection;
  readonly flows: StaleFlows;
  readonly knownNetwork: (id: string) => Network | undefined;
  readonly log: Logger;
}

const isPublished = (endpoint: Endpoint): boolean => endpoint.state === 'linked' || endpoint.state === 'attached';

/** The ports that this host's endpoints publish, from the claim to the last packet. */
export class PublishedPorts {
  readonly #options: PublishedPortsOptions;

  constructor(options: PublishedPortsOptions) {
    this.#options = options;
  }

  /** Takes up what the journal says, nothing of which has to be made anew. */
  restore(): void {
    const { journal, book, firewall } = this.#options;
    for (const entry of journal.endpoints()) {
      if (entry.record.ports !== undefined) book.restore(entry.record.id, entry.record.ports);
      if (isPublished(entry.record)) firewall.publish(entry);
    }
  }

  /**
   * Checks that a network's endpoint could publish these ports, before anything is made.
   * Errors: ERR_PORT_IN_USE, ERR_PORT_HOST_ADDRESS, ERR_PORT_INTERNAL, ERR_DRIVER_UNSUPPORTED.
   */
  async check(network: Network, mappings: readonly PortMapping[]): Promise<void> {
    if (mappings.length === 0) return;
    await this.#checkPossible(network, mappings);
    await this.#options.book.check(mappings);
  }

  /** What can be said of ports that are claimed at once, without asking the kernel for sockets twice. Errors: as `check`. */
  checkPossible(network: Network, mappings: readonly PortMapping[]): Promise<void> {
    return mappings.length === 0 ? Promise.resolve() : this.#checkPossible(network, mappings);
  }

  /** Takes the ports for an endpoint. Errors: ERR_PORT_IN_USE. */
  claim(endpoint: string, mappings: readonly PortMapping[]): Promise<PortMapping[]> {
    return this.#options.book.claim(endpoint, mappings);
  }

  release(endpoint: string): void {
    this.#options.book.release(endpoint);
  }

  /** Lets an endpoint send, and opens its ports; resolves when it can. Errors: ERR_KERNEL. */
  async publish(entry: OwnEndpoint): Promise<void> {
    const { firewall } = this.#options;
    firewall.publish(entry);
    await firewall.bound();
    if (entry.record.ports === undefined) return;
    await firewall.settled(entry.record.network);
    this.#options.flows.drop(entry.record);
  }

  /** Takes ports in place of those that an endpoint has. Errors: those of `check`. */
  async change(network: Network, endpoint: string, mappings: readonly PortMapping[]): Promise<PortMapping[]> {
    await this.#checkPossible(network, mappings);
    return this.#options.book.change(endpoint, mappings);
  }

  /**
   * Opens and closes what differs between two states of an endpoint; what stays is not interrupted.
   * Errors: ERR_KERNEL, with everything as before.
   */
  async republish(before: OwnEndpoint, now: OwnEndpoint): Promise<void> {
    const { firewall, book } = this.#options;
    if (!isPublished(now.record)) return;
    firewall.publish(now);
    try {
      await firewall.settled(now.record.network);
    } catch (error) {
      book.restore(before.record.id, before.record.ports ?? []);
      firewall.publish(before);
      throw error;
    }
    this.#options.flows.dropChanged(before.record, now.record);
  }

  /** Closes them. Goes on past errors: the rule set is mended by itself. */
  async unpublish(endpoint: Endpoint): Promise<void> {
    const { firewall, log } = this.#options;
    firewall.unpublish(endpoint);
    if (endpoint.ports === undefined) return;
    try {
      await firewall.settled();
      this.#options.flows.drop(endpoint);
    } catch (error) {
      log.error({ endpoint: endpoint.id, error: String(error) }, 'while closing ports');
    }
  }

  /** What is published here. */
  list(): PortView[] {
    const { journal, knownNetwork } = this.#options;
    const views: PortView[] = [];
    for (const { record } of journal.endpoints()) {
      for (const mapping of record.ports ?? []) {
        views.push({
          ...mapping,
          endpoint: record.id,
          name: record.name,
          network: knownNetwork(record.network)?.name ?? record.network,
          addresses: portAddresses(mapping, record),
        });
      }
    }
    return views.sort((a, b) => a.protocol.localeCompare(b.protocol) || a.hostPort - b.hostPort);
  }

  async #checkPossible(network: Network, mappings: readonly PortMapping[]): Promise<void> {
    checkFeature(network.driver, 'ports');
    if (network.internal) {
      throw new TsnetError('ERR_PORT_INTERNAL', `network ${network.name} is internal: nothing can be published on it`, {
        details: { network: network.name },
      });
    }
    const families = new Set(network.subnets.map(({ subnet }) => (subnet.includes(':') ? 6 : 4)));
    let own: ReadonlySet<string> | undefined;
    for (const mapping of mappings) {
      const { hostAddress } = mapping;
      if (hostAddress === null) continue;
      const addr = parseAddr(hostAddress);
      const details = { field: 'ports', value: formatPort(mapping) };
      if (!families.has(addr.family)) {
        throw new TsnetError(
          'ERR_PORT_HOST_ADDRESS',
          `ports: ${formatPort(mapping)}: network ${network.name} has no IPv${addr.family} subnet`,
          { details },
        );
      }
      if (addr.family === 6 && isLoopback(addr)) {
        throw new TsnetError(
          'ERR_PORT_HOST_ADDRESS',
          `ports: ${formatPort(mapping)}: the kernel forwards nothing that is sent to [::1]`,
          {
            details,
            hint: 'Name another address of the host, or 127.0.0.1; all of them are reached by the host itself.',
          },
        );
      }
      own ??= await listHostAddresses(this.#options.connection);
      if (own.has(hostAddress) || (addr.family === 4 && isLoopback(addr))) continue;
      throw new TsnetError(
        'ERR_PORT_HOST_ADDRESS',
        `ports: ${formatPort(mapping)}: this host has no address ${hostAddress}`,
        { details },
      );
    }
  }
}
