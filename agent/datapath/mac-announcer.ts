import { bridgeName } from '../../core/ids.js';
import { macForBridge } from '../../core/mac.js';
import type { Endpoint, Network } from '../../core/model.js';
import { encodeAnnouncement } from '../../lib/frames.js';
import type { Logger } from '../../lib/log.js';
import { ownerOf } from './datapath.js';

export interface MacAnnouncerOptions {
  readonly host: string;
  readonly sendFrame: (ifindex: number, frame: Uint8Array) => void;
  readonly linkIndex: (name: string) => number | undefined;
  readonly settled: (owner: string, timeoutMs: number) => Promise<void>;
  readonly log: Logger;
  /** Between the two announcements, ms. Default 2000. */
  readonly againMs?: number;
}

/** Addresses remembered; beyond that the longest unchanged ones are forgotten. */
const remembered = 65_536;
const settleMs = 5000;

/**
 * Tells this host's sandboxes when an address has another MAC than before. Neighbour suppression keeps the endpoint's
 * own gratuitous ARP from crossing hosts, and without it a sandbox goes on sending to the old MAC until its
 * neighbour entry is found stale: 28 to 40 s measured. Twice: a sandbox whose own link has just come up hears what is sent
 * to all nodes up to a second later.
 */
export class MacAnnouncer {
  readonly #options: MacAnnouncerOptions;
  readonly #macs = new Map<string, string>();

  constructor(options: MacAnnouncerOptions) {
    this.#options = options;
  }

  /** Takes note of an endpoint; announces the addresses of it that had another MAC, once the kernel forwards to the new one. */
  note(network: Network, endpoint: Endpoint): void {
    const moved = endpoint.addresses.filter((address) => this.#remember(`${network.id}/${address}`, endpoint.mac));
    if (moved.length === 0) return;
    void this.#announce(network, endpoint, moved);
  }

  #remember(key: string, mac: string): boolean {
    const before = this.#macs.get(key);
    if (before === mac) return false;
    this.#macs.delete(key);
    this.#macs.set(key, mac);
    if (this.#macs.size > remembered) {
      const [oldest] = this.#macs.keys();
      if (oldest !== undefined) this.#macs.delete(oldest);
    }
    return before !== undefined;
  }

  async #announce(network: Network, endpoint: Endpoint, addresses: readonly string[]): Promise<void> {
    const { settled, log, againMs = 2000 } = this.#options;
    const details = { network: network.name, endpoint: endpoint.id, addresses, mac: endpoint.mac };
    try {
      await settled(ownerOf.endpoint(network.id, endpoint.id), settleMs);
      this.#send(network, endpoint, addresses);
      const again = (): void => {
        const unchanged = addresses.filter((address) => this.#macs.get(`${network.id}/${address}`) === endpoint.mac);
        try {
          this.#send(network, endpoint, unchanged);
        } catch (error) {
          log.debug({ ...details, error: String(error) }, 'could not announce a new MAC again');
        }
      };
      setTimeout(again, againMs).unref();
      log.debug(details, 'announced a new MAC');
    } catch (error) {
      log.warn({ ...details, error: String(error) }, 'could not announce a new MAC');
    }
  }

  #send(network: Network, endpoint: Endpoint, addresses: readonly string[]): void {
    const { host, linkIndex, sendFrame } = this.#options;
    const ifindex = linkIndex(bridgeName(network.id));
    if (ifindex === undefined) return;
    const from = macForBridge(network.id, host);
    for (const address of addresses) sendFrame(ifindex, encodeAnnouncement({ from, address, mac: endpoint.mac }));
  }
}
