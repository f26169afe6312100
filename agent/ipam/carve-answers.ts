import { errorRegistry, toTsnetError } from '../../core/errors.js';
import type { Carve } from '../../core/model.js';
import type { Logger } from '../../lib/log.js';
import type { Journal } from '../journal/journal.js';
import { Backoff } from '../../lib/sync/backoff.js';
import type { BlockSource } from './block-source.js';
import type { Pools } from './pools.js';

export interface CarveAnswersOptions {
  readonly journal: Journal;
  readonly pools: Pools;
  readonly source: BlockSource;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** Who here uses an address, for the error that the requester gets. */
  readonly holderOf: (network: string, address: string) => string;
}

/**
 * Answers other hosts' requests for addresses inside this host's blocks. An address given up is journaled before the
 * answer, and withheld until the block's record lists it or the carve came to nothing.
 */
export class CarveAnswers {
  readonly #options: CarveAnswersOptions;
  readonly #open = new Map<string, NodeJS.Timeout | null>();
  #closed = false;

  constructor(options: CarveAnswersOptions) {
    this.#options = options;
    // Whether the answers given before a restart arrived is not known.
    for (const { carve } of options.journal.addresses.carves()) this.put(carve);
  }

  /** A carve that waits for this host's answer; hearing of it again gives the same answer again. */
  put(carve: Carve): void {
    if (this.#open.has(carve.id)) return;
    this.#open.set(carve.id, null);
    void this.#answer(carve, new Backoff());
  }

  /** The carve is over, and every change that came with it is applied. */
  gone(id: string): void {
    const { journal, pools } = this.#options;
    clearTimeout(this.#open.get(id) ?? undefined);
    this.#open.delete(id);
    const decision = journal.addresses.carve(id);
    if (decision === undefined) return;
    journal.addresses.removeCarve(id);
    if (decision.address !== null)
      pools.ofAddress(decision.carve.network, decision.address)?.pool.withdrawOffer(decision.address, id);
  }

  /** All carves that are open: the others are over. */
  set(ids: ReadonlySet<string>): void {
    const known = [...this.#open.keys(), ...[...this.#options.journal.addresses.carves()].map(({ carve }) => carve.id)];
    for (const id of new Set(known)) if (!ids.has(id)) this.gone(id);
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#open.values()) if (timer !== null) clearTimeout(timer);
    this.#open.clear();
  }

  async #answer(carve: Carve, backoff: Backoff): Promise<void> {
    const { source, log } = this.#options;
    try {
      const { address, holder } = this.#decide(carve);
      await source.answer(carve.id, holder === null ? { address } : { address, holder });
    } catch (error) {
      const reason = toTsnetError(error);
      log.debug({ code: reason.code, carve: carve.id }, `carve not answered: ${reason.message}`);
      // One that the controller does not know any more is over; its end comes over the stream.
      if (this.#closed || !this.#open.has(carve.id) || !errorRegistry[reason.code].retryable) return;
      const timer = setTimeout(() => void this.#answer(carve, backoff), backoff.next());
      timer.unref();
      this.#open.set(carve.id, timer);
    }
  }

  #decide(carve: Carve): { readonly address: string | null; readonly holder: string | null } {
    const { journal, pools, nowMs, holderOf } = this.#options;
    const earlier = journal.addresses.carve(carve.id);
    if (earlier !== undefined) return earlier;
    const candidates =
      carve.address === null ? pools.ofBlock(carve.network, carve.cidr) : pools.ofAddress(carve.network, carve.address);
    const given = candidates?.pool.carveOut(carve, nowMs()) ?? null;
    if (given === null)
      return { address: null, holder: carve.address === null ? null : holderOf(carve.network, carve.address) };
    try {
      journal.addresses.putCarve({ carve, address: given.address, holder: null });
    } catch (error) {
      candidates?.pool.withdrawOffer(given.address, carve.id);
      throw error;
    }
    return { address: given.address, holder: null };
  }
}
