import { TsnetError } from '../../core/errors.js';
import type { Logger } from '../../lib/log.js';
import { changeElements } from '../../lib/nft/element-message.js';
import { NftError } from '../../lib/nft/errors.js';
import type { NftEvent } from '../../lib/nft/monitor.js';
import { listChains, listRules, runNft, type ListedChain } from '../../lib/nft/run.js';
import type { NftElement, NftFamily, NftTable } from '../../lib/nft/table.js';
import { changeTable, planTableChange } from '../../lib/nft/table-change.js';
import { removeTable, replaceTable } from '../../lib/nft/transaction.js';
import { ElementStore } from './element-store.js';
import type { NftAccess } from './nft-access.js';
import { isQuickerLoaded } from './slow-removal.js';

export interface RuleSetOptions {
  readonly access: NftAccess;
  readonly log: Logger;
  /** Name of the table, which is no other family's either; default: tsnet. */
  readonly table?: string;
  /** Default: inet. */
  readonly family?: NftFamily;
  /** Changes nothing until `release`: what a restarted agent takes up again stays in the kernel meanwhile. */
  readonly held?: boolean;
}

/** So long it is waited for the end of a transaction that touched the table: its notification may be lost. */
const mendDelayMs = 100;
/** Once mended, so long until the next time, while somebody keeps changing it. */
const mendPauseMs = 500;
const retryMs = 1000;
const lossPauseMs = 30_000;
/** A chain without rules that is part of each load: its first notification tells which port id is ours. */
const marker = 'loaded-by-agent';
const touched = 'somebody changed it';
/** More are quicker applied by messages, after the rules. */
const fewElements = 64;

interface Waiter {
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Keeps the table of this host as its owners want it. Changes handed in together go in one transaction; a table that
 * somebody else touched is put back as a whole, in one transaction as well. Another table with the same base chains is
 * made of the one that is there, by the sets, chains and rules in which they differ.
 *
 *     setTable, setElements ──▶ desired ──▶ difference to applied ──▶ transaction
 *     notification by another's port id ──▶ whole table ───────────────▶ transaction
 */
export class RuleSet {
  readonly #options: RuleSetOptions;
  readonly #name: string;
  readonly #access: NftAccess;
  readonly #elements = new ElementStore();
  readonly #foreignListeners = new Set<() => void>();
  readonly #stop: () => void;
  #hasLoaded = false;
  #table: NftTable | null = null;
  /** Null: not known to be there. */
  #loaded: NftTable | null | 'unknown' = 'unknown';
  #waiters: Waiter[] = [];
  #running: Promise<void> | undefined;
  #scheduled = false;
  #timer: NodeJS.Timeout | undefined;
  #notBeforeMs = 0;
  #repairs = 0;
  #failure: TsnetError | null = null;
  #closed = false;
  #isHeld: boolean;
  /** By others, in a transaction whose end has not been heard of. */
  #isTouched = false;

  constructor(options: RuleSetOptions) {
    this.#options = options;
    this.#name = options.table ?? 'tsnet';
    this.#access = options.access;
    this.#isHeld = options.held ?? false;
    this.#stop = this.#access.listen((event) => this.#hear(event));
  }

  /** What was mended since the start. */
  get repairs(): number {
    return this.#repairs;
  }

  /** Why the rules are not as wanted; null: they are, or are about to be. */
  get failure(): TsnetError | null {
    return this.#failure;
  }

  /** Calls back after changes by others, also of their own tables. */
  onForeign(listener: () => void): void {
    this.#foreignListeners.add(listener);
  }

  /** The rules; null removes the table. */
  setTable(table: NftTable | null): void {
    this.#table = table;
    this.#schedule();
  }

  /** Replaces what one owner wants. */
  setElements(owner: string, elements: readonly NftElement[]): void {
    if (this.#elements.replace(owner, elements)) this.#schedule();
  }

  /** Resolves when all that was handed in before is in the kernel. Errors: ERR_KERNEL. */
  settled(): Promise<void> {
    if (!this.#scheduled && this.#running === undefined && !this.#isDirty()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#schedule();
    });
  }

  /** The chains of all tables. */
  chains(): Promise<ListedChain[]> {
    return listChains(this.#access.context);
  }

  /** The rules of somebody's chain, as text; empty when there is no such chain. */
  rulesOf(chain: Pick<ListedChain, 'family' | 'table' | 'name'>): Promise<string> {
    return listRules(this.#access.context, chain).catch(() => '');
  }

  /** Lets go of it; the rules stay, so that traffic goes on. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#stop();
    await this.#running?.catch(() => undefined);
    for (const waiter of this.#waiters.splice(0))
      waiter.reject(new TsnetError('ERR_STOPPING', 'the agent is stopping'));
  }

  #isDirty(): boolean {
    return this.#loaded !== this.#table || (this.#table !== null && this.#elements.isDirty);
  }

  /** Begins with what was handed in up to now. */
  release(): void {
    this.#isHeld = false;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed || this.#isHeld) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#running ??= this.#flush().finally(() => {
        this.#running = undefined;
        if (this.#failure === null && (this.#waiters.length > 0 || this.#isDirty())) this.#schedule();
      });
    });
  }

  async #flush(): Promise<void> {
    while (!this.#closed && this.#isDirty()) {
      const waiters = this.#waiters.splice(0);
      try {
        await this.#apply();
        this.#failure = null;
        for (const waiter of waiters) waiter.resolve();
      } catch (error) {
        this.#fail(error, waiters);
        return;
      }
    }
    for (const waiter of this.#waiters.splice(0)) waiter.resolve();
  }

  async #apply(): Promise<void> {
    const table = this.#table;
    const repairs = this.#repairs;
    if (table === null) {
      await runNft(this.#access.context, removeTable({ family: this.#options.family ?? 'inet', name: this.#name }));
      this.#elements.forgetApplied();
      this.#loaded = null;
      return;
    }
    if (await this.#applyChange(table)) return;
    const named = { ...table, chains: [...table.chains, { name: marker, rules: [] }] };
    const all = this.#elements.takeAll();
    this.#hasLoaded = true;
    try {
      // In place of another table, one without elements would let everything through until they come.
      const inScript = this.#loaded !== null || all.length <= fewElements;
      const { script, rest } = replaceTable(named, inScript ? all : []);
      await runNft(this.#access.context, script);
      await changeElements(this.#access.connection, table, { removed: [], added: inScript ? rest : all });
      this.#setLoaded(table, repairs);
    } catch (error) {
      this.#loaded = 'unknown';
      throw error;
    }
  }

  /** Unless somebody has changed it since: then it is still to be mended. */
  #setLoaded(table: NftTable, repairsBefore: number): void {
    if (this.#repairs === repairsBefore) this.#loaded = table;
  }

  /** Makes the table of the one that is loaded. Reports whether it is done: else it has to be loaded. */
  async #applyChange(table: NftTable): Promise<boolean> {
    const loaded = this.#loaded;
    if (loaded === null || loaded === 'unknown') return false;
    const { connection } = this.#access;
    const repairs = this.#repairs;
    const change = loaded === table ? null : planTableChange(loaded, table);
    if (change === undefined) return false;
    const { gone, come } = this.#elements.takeChanges();
    if (isQuickerLoaded(table, gone, (set) => this.#elements.countApplied(set))) return false;
    const elements = { removed: gone, added: come };
    try {
      await (change === null ? changeElements(connection, table, elements) : changeTable(connection, change, elements));
      this.#setLoaded(table, repairs);
      return true;
    } catch (error) {
      // What is applied is not what is thought to be: load it anew, which also says whether that can be had.
      this.#options.log.warn({ error: String(error) }, 'a change of nftables failed: loading the table again');
      this.#loaded = 'unknown';
      return false;
    }
  }

  #fail(error: unknown, waiters: readonly Waiter[]): void {
    const reason = error instanceof NftError ? error.message : String(error);
    this.#failure = new TsnetError('ERR_KERNEL', reason, { cause: error });
    this.#options.log.error({ error: reason }, 'nftables refused the rules; it is tried again');
    for (const waiter of [...waiters, ...this.#waiters.splice(0)]) waiter.reject(this.#failure);
    this.#later(retryMs, () => this.#schedule());
  }

  #hear(event: NftEvent): void {
    if (event.kind === 'lost') {
      // Our own big loads can do that too: once in a while only.
      if (this.#table !== null) this.#mend({ delayMs: mendDelayMs, pauseMs: lossPauseMs }, 'notifications were lost');
      // What others did to their own tables may be among them.
      for (const listener of this.#foreignListeners) listener();
      return;
    }
    if (!this.#access.knowsContext) {
      const isMarker = event.kind === 'object' && event.chain === marker && event.table === this.#name;
      if (this.#hasLoaded && isMarker) this.#access.learnContext(event.portid);
      return;
    }
    if (event.kind === 'object') {
      if (event.table !== this.#name || this.#table === null) return;
      this.#isTouched = true;
      this.#mend({ delayMs: mendDelayMs, pauseMs: mendPauseMs }, touched);
      return;
    }
    // Its whole transaction is over. Until the table is back, packets of translated connections go astray.
    if (this.#isTouched) this.#mend({ delayMs: 0, pauseMs: mendPauseMs }, touched);
    this.#isTouched = false;
    for (const listener of this.#foreignListeners) listener();
  }

  /** Puts the table back after a delay, and not again for a while. Of two delays the shorter counts. */
  #mend({ delayMs, pauseMs }: { readonly delayMs: number; readonly pauseMs: number }, reason: string): void {
    if ((this.#timer !== undefined && delayMs > 0) || this.#closed) return;
    const waitMs = Math.max(delayMs, this.#notBeforeMs - performance.now());
    this.#later(waitMs, () => {
      if (this.#table === null) return;
      this.#notBeforeMs = performance.now() + pauseMs;
      this.#repairs += 1;
      this.#loaded = 'unknown';
      this.#options.log.warn({ reason, repairs: this.#repairs }, `loading the table ${this.#name} again`);
      this.#schedule();
    });
  }

  #later(waitMs: number, task: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      task();
    }, waitMs);
  }
}
