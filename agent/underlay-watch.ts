import { type TsnetError, toTsnetError } from '../core/errors.js';
import type { Logger } from '../lib/log.js';
import type { Underlay } from './underlay.js';

export interface UnderlayWatchOptions {
  /** The underlay of the start. */
  readonly first: Underlay;
  /** Finds it again as at the start. Errors: ERR_UNDERLAY_UNKNOWN. */
  readonly find: () => Promise<Underlay>;
  /** Whether an interface of this host has the address. */
  readonly hasAddress: (address: string) => Promise<boolean>;
  readonly readMtu: (iface: string) => Promise<number>;
  readonly log: Logger;
  readonly everyMs?: number;
}

const lookMs = 2000;

/**
 * The underlay as it is now. An address that goes (DHCP, an operator) takes the traffic between hosts with it, since VXLAN
 * devices send from no other: the next one is taken up. While the address is there it stays, also where further ones come.
 */
export class UnderlayWatch implements Underlay {
  readonly #options: UnderlayWatchOptions;
  readonly #listeners: (() => void)[] = [];
  readonly #timer: NodeJS.Timeout;
  #current: Underlay;
  /** What the last look found in its place: one that comes and goes in between is not taken up. */
  #next: Underlay | null = null;
  #failure: TsnetError | null = null;
  #looking: Promise<void> | undefined;

  constructor(options: UnderlayWatchOptions) {
    this.#options = options;
    this.#current = options.first;
    this.#timer = setInterval(() => void this.look(), options.everyMs ?? lookMs);
    this.#timer.unref();
  }

  get iface(): string {
    return this.#current.iface;
  }

  get vtep(): string {
    return this.#current.vtep;
  }

  get mtu(): number {
    return this.#current.mtu;
  }

  get warnings(): readonly { readonly code: string; readonly message: string }[] {
    if (this.#failure === null) return [];
    const message = `this host has lost ${this.vtep}, which carries VXLAN: ${this.#failure.message}`;
    return [{ code: this.#failure.code, message }];
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Looks whether the underlay is as it was; two looks in a row have to agree on another one. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#listeners.length = 0;
  }

  async #look(): Promise<void> {
    const { log } = this.#options;
    try {
      const found = await this.#find();
      this.#failure = null;
      const isAgain = this.#next !== null && isSame(found, this.#next);
      this.#next = isSame(found, this.#current) ? null : found;
      if (this.#next === null || !isAgain) return;
      log.warn({ before: this.#current, now: found }, 'the underlay has changed');
      this.#current = found;
      this.#next = null;
    } catch (error) {
      const failure = toTsnetError(error);
      this.#next = null;
      if (this.#failure === null) log.error({ code: failure.code }, `the underlay is lost: ${failure.message}`);
      this.#failure = failure;
      return;
    }
    for (const listener of this.#listeners) listener();
  }

  async #find(): Promise<Underlay> {
    const { find, hasAddress, readMtu } = this.#options;
    const { iface, vtep } = this.#current;
    return (await hasAddress(vtep)) ? { iface, vtep, mtu: await readMtu(iface) } : find();
  }
}

function isSame(a: Underlay, b: Underlay): boolean {
  return a.iface === b.iface && a.vtep === b.vtep && a.mtu === b.mtu;
}
