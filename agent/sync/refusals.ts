import { errorRegistry } from '../../core/errors.js';
import { itemKey, type PublishItem, type SentItem } from './publish-queue.js';

export interface PublishWarning {
  readonly code: string;
  readonly message: string;
}

interface Refusal {
  readonly item: PublishItem;
  readonly warning: PublishWarning;
  readonly timer: NodeJS.Timeout;
}

const maxRetryMs = 60_000;

/** Records that controllers refused, set aside for a later try: they must not hold up the others. */
export class Refusals {
  readonly #refused = new Map<string, Refusal>();
  /** How often each was refused in a row. */
  readonly #times = new Map<string, number>();
  readonly #firstRetryMs: number;
  readonly #retry: (item: PublishItem, code: string) => void;

  /** `retry` hears of each, and why it was refused, when its time has come; the time doubles with each refusal. */
  constructor(firstRetryMs: number, retry: (item: PublishItem, code: string) => void) {
    this.#firstRetryMs = firstRetryMs;
    this.#retry = retry;
  }

  get size(): number {
    return this.#refused.size;
  }

  get warnings(): readonly PublishWarning[] {
    return [...this.#refused.values()].map(({ warning }) => warning);
  }

  /** Sets a record aside. How often it was refused before. */
  add({ item, key: record }: SentItem, { code, message }: PublishWarning): number {
    const key = itemKey(item);
    const times = this.#times.get(key) ?? 0;
    this.#times.set(key, times + 1);
    this.drop(key);
    const delayMs = Math.min(maxRetryMs, this.#firstRetryMs * 2 ** Math.min(times, 16));
    const timer = setTimeout(() => {
      this.#refused.delete(key);
      this.#retry(item, code);
    }, delayMs);
    timer.unref();
    const isKnown = Object.hasOwn(errorRegistry, code);
    const warning = { code: isKnown ? code : 'ERR_INTERNAL', message: `${record}: ${message}` };
    this.#refused.set(key, { item, warning, timer });
    return times;
  }

  /** A record was taken at last. */
  accepted(item: PublishItem): void {
    this.#times.delete(itemKey(item));
  }

  /** There is something newer to say of a record, by its key. */
  drop(key: string): void {
    clearTimeout(this.#refused.get(key)?.timer);
    this.#refused.delete(key);
  }

  /** Takes all out. */
  clear(): PublishItem[] {
    const items = [...this.#refused.values()].map(({ item }) => item);
    for (const key of [...this.#refused.keys()]) this.drop(key);
    return items;
  }
}
