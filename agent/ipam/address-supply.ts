import { setTimeout as setTimeoutAsync } from 'node:timers/promises';
import { TsnetError, toTsnetError } from '../../core/errors.js';
import { addressInUse } from '../../core/ipam.js';
import type { Block } from '../../core/model.js';
import type { Logger } from '../../lib/log.js';
import { Backoff } from '../../lib/sync/backoff.js';
import type { BlockSource } from './block-source.js';
import type { SubnetPool } from './pools.js';

export interface AddressSupplyOptions {
  readonly host: string;
  readonly source: BlockSource;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** How long a released address rests. */
  readonly quarantineMs: number;
  /** Takes a block that was granted: into the journal, then the pools. */
  readonly adopt: (block: Block) => void;
  /** Who here uses an address, for the error. */
  readonly holderOf: (network: string, address: string) => string;
}

/** After a request ahead of need that failed, the next waits this long, ms. */
const aheadPauseMs = 30_000;
/** One allocation asks this many times at most: others may take what each request brings. */
const maxRefills = 256;
/** For a fixed address: it may be on its way to or from this host. */
const maxFixedTries = 8;

/** Gives out addresses of a subnet: those of the blocks held, and asks for more blocks when they run out. */
export class AddressSupply {
  readonly #options: AddressSupplyOptions;

  constructor(options: AddressSupplyOptions) {
    this.#options = options;
  }

  /** Takes an address from the blocks held here; null when they have none to give. */
  takeNow({ pool, network }: SubnetPool, fixed: string | undefined): string | null {
    if (fixed === undefined) return pool.allocate(this.#options.nowMs());
    if (pool.isUsed(fixed)) throw addressInUse(network, fixed, this.#options.holderOf(network.id, fixed));
    return pool.allocateFixed(fixed) ? fixed : null;
  }

  /** Asks the controller as long as it takes until an address is ours. */
  async takeLater(pool: SubnetPool, fixed: string | undefined, signal?: AbortSignal): Promise<string> {
    const pauses = new Backoff(10, 500);
    for (let tries = 0; tries < (fixed === undefined ? maxRefills : maxFixedTries); tries += 1) {
      // A request ahead of need that is under way may bring enough; when it fails, need is a better reason.
      if (fixed === undefined && pool.ahead !== undefined)
        await abortable(
          pool.ahead.catch(() => undefined),
          signal,
        );
      const address =
        this.takeNow(pool, fixed) ??
        (await abortable(this.#requestFor(pool, fixed), signal)) ??
        this.takeNow(pool, fixed);
      if (address !== null) return address;
      await abortable(setTimeoutAsync(pauses.next()), signal);
    }
    const name = JSON.stringify(pool.network.name);
    if (fixed === undefined)
      throw new TsnetError('ERR_NO_BLOCK', `network ${name}: others took every address that was asked for`);
    throw new TsnetError(
      'ERR_ADDRESS_HELD_ELSEWHERE',
      `address: ${fixed} of network ${name} is about to go to another host`,
      {
        details: { field: 'address', value: fixed, network: pool.network.name },
      },
    );
  }

  /** One request; a fixed address is taken in the same turn in which its block comes, before anybody else can. */
  async #requestFor(pool: SubnetPool, fixed: string | undefined): Promise<string | null> {
    if (fixed === undefined) {
      await this.#refill(pool);
      return null;
    }
    await this.#request(pool, { address: fixed });
    return this.takeNow(pool, fixed);
  }

  /** Asks for more addresses of a subnet; whoever needs some shares one request. */
  #refill(pool: SubnetPool): Promise<void> {
    pool.refill ??= this.#request(pool, {}).finally(() => {
      pool.refill = undefined;
    });
    return pool.refill;
  }

  /** Asks for another block ahead of need, where that is near. */
  refillWhenLow(pool: SubnetPool): void {
    const nowMs = this.#options.nowMs();
    if (pool.refill !== undefined || pool.ahead !== undefined || nowMs < pool.aheadAfterMs || !pool.pool.isLow(nowMs))
      return;
    pool.ahead = this.#request(pool, { ahead: true }).finally(() => {
      pool.ahead = undefined;
    });
    pool.ahead.then(
      () => this.refillWhenLow(pool),
      (error: unknown) => {
        pool.aheadAfterMs = this.#options.nowMs() + aheadPauseMs;
        this.#options.log.debug({ code: toTsnetError(error).code }, `no block ahead: ${toTsnetError(error).message}`);
      },
    );
  }

  async #request(subnetPool: SubnetPool, more: { readonly address?: string; readonly ahead?: boolean }): Promise<void> {
    const { network, subnet } = subnetPool;
    try {
      const block = await this.#options.source.request({ network: network.id, subnet, ...more });
      if (block.network !== network.id || block.host !== this.#options.host) {
        throw new TsnetError(
          'ERR_INTERNAL',
          `asked for a block of network ${network.id}, got ${block.cidr} of ${block.network} for ${block.host ?? 'nobody'}`,
        );
      }
      this.#options.adopt(block);
    } catch (error) {
      const reason = toTsnetError(error);
      if (reason.code === 'ERR_ADDRESS_EXHAUSTED') throw this.#whileSomeRest(subnetPool, reason);
      if (
        !['ERR_CONTROLLER_UNREACHABLE', 'ERR_STORE_UNREACHABLE', 'ERR_DEADLINE', 'ERR_STOPPING'].includes(reason.code)
      )
        throw reason;
      throw new TsnetError(
        'ERR_NO_BLOCK',
        `network ${JSON.stringify(network.name)}: no free address here, and ${reason.message}`,
        {
          cause: reason,
          details: { network: network.name, subnet },
        },
      );
    }
  }

  /** To the controller an address at rest is as used as any: says how many would come back by themselves. */
  #whileSomeRest({ pool, network }: SubnetPool, reason: TsnetError): TsnetError {
    const { quarantined } = pool.counts(this.#options.nowMs());
    if (quarantined === 0) return reason;
    const seconds = Math.ceil(this.#options.quarantineMs / 1000);
    return new TsnetError(
      reason.code,
      `${reason.message}; ${quarantined} released on this host rest for ${seconds} s before they are given again`,
      {
        cause: reason,
        hint: `Wait for those that rest, or add a subnet with \`tsnet update ${network.name} --subnet CIDR\`.`,
        details: { ...reason.details, resting: quarantined },
      },
    );
  }
}

function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(toTsnetError(signal.reason));
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}
