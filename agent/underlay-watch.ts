import { TsnetError, toTsnetError } from '../core/errors.js';
import type { Logger } from '../lib/log.js';
import type { Underlay } from './underlay.js';

export interface UnderlayWatchOptions {
  /** Finds it as the agent was told to. Errors: ERR_UNDERLAY_UNKNOWN. */
  readonly find: () => Promise<Underlay>;
  /** The underlay with that address; null while no interface has it. */
  readonly at: (vtep: string) => Promise<Underlay | null>;
  /** The VTEP of the run before; null: this host has carried nothing yet. */
  readonly lastVtep: string | null;
  readonly log: Logger;
  readonly everyMs?: number;
}

type Warning = { readonly code: string; readonly message: string };

const lookMs = 2000;

/**
 * The underlay as it is now. An address that goes (DHCP, an operator) takes the traffic between hosts with it, since VXLAN
 * devices send from no other: the next one is taken up. While the address is there it stays, also where further ones come.
 * A host that starts without an address keeps what its devices have, and waits as it does after a loss.
 */
export class UnderlayWatch {
  readonly #options: UnderlayWatchOptions;
  readonly #listeners: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** Null until it was found once. */
  #current: Underlay | null = null;
  /** What the last look found in its place: one that comes and goes in between is not taken up. */
  #next: Underlay | null = null;
  #failure: TsnetError | null = null;
  #looking: Promise<void> | undefined;

  private constructor(options: UnderlayWatchOptions) {
    this.#options = options;
  }

  /** Looks for the underlay, and goes on looking. One that is not there yet is no error. Errors: those of `find` else. */
  static async start(options: UnderlayWatchOptions): Promise<UnderlayWatch> {
    const watch = new UnderlayWatch(options);
    try {
      watch.#current = await options.find();
      if (!watch.#current.hasCarrier) watch.#logCarrier(watch.#current);
    } catch (error) {
      if (toTsnetError(error).code !== 'ERR_UNDERLAY_UNKNOWN') throw error;
      watch.#fail(error);
    }
    watch.#timer = setInterval(() => void watch.look(), options.everyMs ?? lookMs);
    watch.#timer.unref();
    return watch;
  }

  /** As it was last found; null until it was found once. */
  get found(): Underlay | null {
    return this.#current;
  }

  /** The address for VXLAN that there is or was last; null: this host never had one. */
  get lastVtep(): string | null {
    return this.#current?.vtep ?? this.#options.lastVtep;
  }

  /** As `lastVtep`. Errors: ERR_UNDERLAY_UNKNOWN while there is none. */
  get vtep(): string {
    const vtep = this.lastVtep;
    if (vtep !== null) return vtep;
    throw new TsnetError('ERR_UNDERLAY_UNKNOWN', `this host has no underlay yet: ${this.#failure?.message ?? ''}`);
  }

  /** Bytes; without a bound while the underlay was not found. */
  get mtu(): number {
    return this.#current?.mtu ?? Infinity;
  }

  get warnings(): readonly Warning[] {
    if (this.#failure !== null) {
      const vtep = this.lastVtep;
      const without = vtep === null ? 'has no address to carry VXLAN yet' : `has lost ${vtep}, which carries VXLAN`;
      return [{ code: this.#failure.code, message: `this host ${without}: ${this.#failure.message}` }];
    }
    if (this.#current?.hasCarrier !== false) return [];
    const { iface, vtep } = this.#current;
    return [
      { code: 'ERR_UNDERLAY_DOWN', message: `interface ${iface}, which carries VXLAN from ${vtep}, has no link` },
    ];
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
      const before = this.#current;
      if (before !== null && isSame(found, before)) {
        this.#next = null;
        this.#current = found;
        if (found.hasCarrier !== before.hasCarrier) this.#logCarrier(found);
        return;
      }
      const isAgain = this.#next !== null && isSame(found, this.#next);
      this.#next = isAgain ? null : found;
      if (!isAgain) return;
      log.warn({ before, now: found }, before === null ? 'the underlay is there' : 'the underlay has changed');
      this.#current = found;
    } catch (error) {
      this.#next = null;
      this.#fail(error);
      return;
    }
    for (const listener of this.#listeners) listener();
  }

  async #find(): Promise<Underlay> {
    const { find, at } = this.#options;
    return (this.#current === null ? null : await at(this.#current.vtep)) ?? find();
  }

  #logCarrier({ iface, hasCarrier }: Underlay): void {
    this.#options.log.warn({ iface }, hasCarrier ? 'the underlay has its link back' : 'the underlay has no link');
  }

  #fail(error: unknown): void {
    const failure = toTsnetError(error);
    if (this.#failure === null) this.#options.log.error({ code: failure.code }, `no underlay: ${failure.message}`);
    this.#failure = failure;
  }
}

/** Carrier comes and goes without a change of what other hosts are told. */
function isSame(a: Underlay, b: Underlay): boolean {
  return a.iface === b.iface && a.vtep === b.vtep && a.mtu === b.mtu;
}
