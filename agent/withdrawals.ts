import type { Network } from '../core/model.js';
import type { Logger } from '../lib/log.js';
import type { BlockLoss } from './ipam/host-addresses.js';
import type { Journal } from './journal/journal.js';
import type { Attachments } from './attach/attachments.js';
import type { Carry } from './attach/carry.js';
import type { OwnIndex } from './attach/own-index.js';

export interface WithdrawalsOptions {
  readonly journal: Journal;
  readonly own: OwnIndex;
  readonly attachments: Attachments;
  readonly carry: Carry;
  readonly knownNetwork: (id: string) => Network | undefined;
  readonly log: Logger;
}

/** Takes away own endpoints that nobody asked to detach, since what they stand on is theirs no longer. Never rejects. */
export class Withdrawals {
  readonly #options: WithdrawalsOptions;

  constructor(options: WithdrawalsOptions) {
    this.#options = options;
  }

  /** Addresses in a block that is another host's by now must not be used a moment longer. */
  async blockLost({ network, cidr, endpoints, hostAddress }: BlockLoss): Promise<void> {
    const { carry, knownNetwork, log } = this.#options;
    const removals = endpoints.map((endpoint) => {
      const said = { code: 'ERR_BLOCK_FENCED', endpoint, network, cidr };
      log.error(said, "withdrew an endpoint: its address is another host's by now");
      return this.#remove(endpoint);
    });
    const known = knownNetwork(network);
    if (hostAddress && known !== undefined) removals.push(carry.renumber(known));
    for (const result of await Promise.allSettled(removals)) {
      if (result.status === 'rejected')
        log.error({ network, cidr, error: String(result.reason) }, 'while withdrawing from a lost block');
    }
  }

  /** A network that is no more takes its endpoints with it: its subnet may be another network's by now. */
  async networkGone(network: string): Promise<void> {
    const { journal, own, carry, log } = this.#options;
    const removals = journal.endpointsOf(network).map(({ record: { id: endpoint, sandbox } }) => {
      const said = { code: 'ERR_NETWORK_UNKNOWN', endpoint, network, sandbox };
      log.error(said, 'removed an endpoint: its network was removed');
      return this.#remove(endpoint);
    });
    for (const result of await Promise.allSettled(removals)) {
      if (result.status === 'rejected') log.error({ network, error: String(result.reason) }, 'while ending a network');
    }
    if (own.countOf(network) === 0) carry.drop(network);
  }

  #remove(endpoint: string): Promise<void> {
    return this.#options.attachments.removeInTurn(endpoint, () => true);
  }
}
