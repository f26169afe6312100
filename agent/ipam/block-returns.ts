import { toTsnetError } from '../../core/errors.js';
import type { Block } from '../../core/model.js';
import type { Logger } from '../../lib/log.js';
import type { BlockReturn } from '../journal/entries.js';
import type { Journal } from '../journal/journal.js';
import { Backoff } from '../../lib/sync/backoff.js';
import type { BlockSource } from './block-source.js';

/** Returned blocks remembered, so that a late word of the controller does not bring one back. */
const rememberedReturns = 4096;

/** Gives blocks back to the controller: first the journal lets go of them, then the controller hears, as often as it takes. */
export class BlockReturns {
  readonly #journal: Journal;
  readonly #source: BlockSource;
  readonly #log: Logger;
  readonly #backoff = new Backoff();
  /** Generation up to which a block was given up, by network/CIDR. */
  readonly #returned = new Map<string, number>();
  #running = false;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(parts: { readonly journal: Journal; readonly source: BlockSource; readonly log: Logger }) {
    this.#journal = parts.journal;
    this.#source = parts.source;
    this.#log = parts.log;
    for (const entry of parts.journal.addresses.returns()) this.#remember(entry);
  }

  /** Reports whether a record of a block is one that this host gave up already. */
  isReturned(block: Block): boolean {
    return block.generation <= (this.#returned.get(`${block.network}/${block.cidr}`) ?? -1);
  }

  /** Gives up a block that nothing here uses any more. */
  add(block: BlockReturn): void {
    this.#journal.addresses.startReturn(block);
    this.#remember(block);
    this.flush();
  }

  /** Tells the controller of everything given up; called also when it can be reached again. */
  flush(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    if (!this.#running && !this.#closed) void this.#run();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      for (
        let [next] = this.#journal.addresses.returns();
        next !== undefined && !this.#closed;
        [next] = this.#journal.addresses.returns()
      ) {
        await this.#release(next);
        this.#finish(next);
      }
      this.#backoff.reset();
    } catch (error) {
      const reason = toTsnetError(error);
      this.#log.debug({ code: reason.code }, `block not returned: ${reason.message}`);
      if (this.#closed) return;
      this.#retry = setTimeout(() => this.flush(), this.#backoff.next());
      this.#retry.unref();
    } finally {
      this.#running = false;
    }
  }

  async #release(entry: BlockReturn): Promise<void> {
    try {
      await this.#source.release({ network: entry.network, cidr: entry.cidr, generation: entry.generation });
    } catch (error) {
      const reason = toTsnetError(error);
      if (reason.retryable || reason.code === 'ERR_INTERNAL') throw error;
      // Granted anew since, or its network is gone: there is nothing to return any more.
      this.#log.debug({ code: reason.code }, `return of ${entry.cidr}: ${reason.message}`);
    }
  }

  /** A later grant of the block may have been given up while the call was under way: its return is still to be told. */
  #finish({ network, cidr, generation }: BlockReturn): void {
    for (const noted of this.#journal.addresses.returns()) {
      if (noted.network !== network || noted.cidr !== cidr) continue;
      if (noted.generation === generation) this.#journal.addresses.finishReturn(network, cidr);
      return;
    }
  }

  #remember({ network, cidr, generation }: BlockReturn): void {
    this.#returned.set(`${network}/${cidr}`, generation);
    if (this.#returned.size <= rememberedReturns) return;
    const [oldest] = this.#returned.keys();
    if (oldest !== undefined) this.#returned.delete(oldest);
  }
}
