import { setTimeout as wait } from 'node:timers/promises';
import { TsnetError } from '../../core/errors.js';
import type { Endpoint, Network } from '../../core/model.js';
import { KeyedQueue } from '../../lib/sync/keyed-queue.js';
import type { OwnIndex } from './own-index.js';

export interface ChosenMacsOptions {
  readonly own: OwnIndex;
  /** Who has a MAC of a network on another host, as far as the cluster has said. */
  readonly macHolder: (network: string, mac: string) => Endpoint | undefined;
}

/** How long a MAC is waited for that was on another host until just now. */
const waitMs = 1000;
const lookMs = 50;

/** MACs that callers chose. A bridge has one port for a MAC, and leads it to one host. */
export class ChosenMacs {
  readonly #options: ChosenMacsOptions;
  readonly #queue = new KeyedQueue();

  constructor(options: ChosenMacsOptions) {
    this.#options = options;
  }

  /**
   * Makes an endpoint with a MAC, where nobody else has it; null: with none that was chosen. Those who choose one MAC wait for
   * each other: whether it is free shows once the one before has its record. Where two hosts choose it at once, the
   * controller has the last word when it hears of the endpoints.
   * Errors: ERR_MAC_IN_USE; those of `make`.
   */
  claim<T>(network: Network, mac: string | null, make: () => Promise<T>): Promise<T> {
    if (mac === null) return make();
    return this.#queue.run(`${network.id}/${mac}`, async () => {
      await this.#assertFree(network, mac);
      return make();
    });
  }

  async #assertFree(network: Network, mac: string): Promise<void> {
    const { own, macHolder } = this.#options;
    const here = own.ofNetwork(network.id).find(({ record }) => record.mac === mac)?.record;
    let holder = here ?? macHolder(network.id, mac);
    for (let waitedMs = 0; here === undefined && holder !== undefined && waitedMs < waitMs; waitedMs += lookMs) {
      await wait(lookMs);
      holder = macHolder(network.id, mac);
    }
    if (holder === undefined) return;
    const message = `MAC ${mac} is that of endpoint ${holder.id} on ${network.name}, on host ${holder.host}`;
    throw new TsnetError('ERR_MAC_IN_USE', message, {
      details: { field: 'mac', value: mac, network: network.name, endpoint: holder.id, host: holder.host },
    });
  }
}
