import { setTimeout as setTimeoutAsync } from 'node:timers/promises';
import { addrWidth, containsAddr, formatAddr, formatPrefix, parseAddr, parsePrefix } from '../../core/addr.js';
import { TsnetError, toTsnetError } from '../../core/errors.js';
import { addressInUse, parseFixedAddr } from '../../core/ipam.js';
import type { Block, Carve, Network } from '../../core/model.js';
import type { Logger } from '../../lib/log.js';
import type { Journal } from '../journal/journal.js';
import { Backoff } from '../../lib/sync/backoff.js';
import type { BlockListener } from '../sync/cluster-sync.js';
import type { ControllerClient } from '../sync/controller-client.js';
import { BlockReturns } from './block-returns.js';
import { controllerBlocks, type BlockSource } from './block-source.js';
import { CarveAnswers } from './carve-answers.js';
import { Pools, takeQuietly, usedAddresses, type Clocks, type SubnetPool } from './pools.js';

/** What this host lost with a block that is another's by now. */
export interface BlockLoss {
  readonly network: string;
  readonly cidr: string;
  readonly addresses: readonly string[];
  /** Own endpoints that have one of the addresses: they must be withdrawn, with ERR_BLOCK_FENCED. */
  readonly endpoints: readonly string[];
  /** Whether the host's own address is among them. */
  readonly hostAddress: boolean;
}

export interface HostAddressesOptions {
  readonly host: string;
  readonly journal: Journal;
  readonly state: { network(id: string): Network | undefined };
  readonly log: Logger;
  readonly quarantineMs: number;
  /** Where blocks come from: the controllers, or a test's own source. */
  readonly client?: ControllerClient;
  readonly source?: BlockSource;
  readonly clocks?: Clocks;
  /** Between two looks for what can be returned, ms. Default 5 s. */
  readonly sweepMs?: number;
}

/** After a request ahead of need that failed, the next waits this long, ms. */
const aheadPauseMs = 30_000;
const defaultSweepMs = 5000;
/** One allocation asks this many times at most: others may take what each request brings. */
const maxRefills = 256;
/** For a fixed address: it may be on its way to or from this host. */
const maxFixedTries = 8;

const systemClocks: Clocks = { monoMs: () => performance.now(), wallMs: () => Date.now() };

/**
 * The addresses that this host gives out: from its own blocks without asking anyone, from the controller when they
 * have none. The journal has every block before an address of it is given.
 */
export class HostAddresses implements BlockListener {
  readonly #options: HostAddressesOptions;
  readonly #clocks: Clocks;
  readonly #source: BlockSource;
  readonly #pools: Pools;
  readonly #returns: BlockReturns;
  readonly #carves: CarveAnswers;
  readonly #hostAddressRuns = new Map<string, Promise<readonly string[]>>();
  readonly #lossListeners = new Set<(loss: BlockLoss) => void>();
  /** Since when a block has been idle, by network/CIDR. */
  readonly #idleSinceMs = new Map<string, number>();
  /** Blocks that the store says are ours and the journal does not know, and since when. */
  readonly #unknown = new Map<string, { readonly block: Block; readonly sinceMs: number }>();
  readonly #timer: NodeJS.Timeout;

  constructor(options: HostAddressesOptions) {
    const { journal, state, log, quarantineMs, host, client } = options;
    const source = options.source ?? (client === undefined ? undefined : controllerBlocks(client, host));
    if (source === undefined) throw new TypeError('neither client nor source is given');
    this.#options = options;
    this.#clocks = options.clocks ?? systemClocks;
    this.#source = source;
    this.#pools = new Pools({ journal, network: (id) => state.network(id), quarantineMs, clocks: this.#clocks });
    this.#returns = new BlockReturns({ journal, source, log });
    this.#carves = new CarveAnswers({
      journal,
      source,
      log,
      pools: this.#pools,
      nowMs: this.#clocks.monoMs,
      holderOf: (network, address) => this.#holderOf(network, address),
    });
    this.#timer = setInterval(() => {
      try {
        this.sweep();
      } catch (error) {
        log.warn({ code: toTsnetError(error).code }, `blocks not returned: ${toTsnetError(error).message}`);
      }
    }, options.sweepMs ?? defaultSweepMs);
    this.#timer.unref();
  }

  /**
   * Allocates one address of each subnet, in their order; a fixed one stands for its subnet. Nothing is kept when one fails.
   * Errors: ERR_ADDRESS_OUTSIDE_SUBNET, ERR_ADDRESS_IN_USE, ERR_ADDRESS_RESERVED, ERR_INVALID_ADDRESS, ERR_INVALID_REQUEST (two for one
   * subnet), ERR_NO_BLOCK, ERR_ADDRESS_EXHAUSTED, ERR_ADDRESS_HELD_ELSEWHERE.
   */
  async allocate(network: Network, fixed: readonly string[], signal?: AbortSignal): Promise<readonly string[]> {
    const pools = this.#pools.ensure(network);
    const wanted = matchFixed(network, pools, fixed);
    const taken: string[] = [];
    try {
      for (const pool of pools) {
        signal?.throwIfAborted();
        const address = wanted.get(pool);
        taken.push(this.#takeNow(pool, address) ?? (await this.#takeLater(pool, address, signal)));
        this.#refillWhenLow(pool);
      }
      return taken;
    } catch (error) {
      this.release(network.id, taken);
      throw error;
    }
  }

  /** Takes addresses back; they rest before they are given again. Ones not in use are no error. */
  release(network: string, addresses: readonly string[]): void {
    const { journal, quarantineMs, log } = this.#options;
    const nowMs = this.#clocks.monoMs();
    const wallMs = this.#clocks.wallMs();
    const released = addresses.filter(
      (address) => this.#pools.ofAddress(network, address)?.pool.release(address, nowMs) === true,
    );
    // An address granted alone goes back at once: somebody else may want just this one.
    const single = released.filter((address) => this.#returnSingle(network, address));
    const resting = released.filter((address) => !single.includes(address));
    if (resting.length === 0 || quarantineMs === 0) return;
    try {
      journal.putResting(
        resting.map((address) => ({ network, address, untilMs: wallMs + quarantineMs })),
        wallMs,
      );
    } catch (error) {
      log.warn(
        { code: toTsnetError(error).code },
        `rest of ${resting.join(', ')} not written: ${toTsnetError(error).message}`,
      );
    }
  }

  /** Reports whether every subnet of a network has an address to give without asking anyone. */
  hasFree(network: Network): boolean {
    const nowMs = this.#clocks.monoMs();
    return this.#pools.ensure(network).every(({ pool }) => pool.counts(nowMs).free > 0);
  }

  /**
   * The host's own addresses in a network, one a subnet; allocated and journaled when there are none yet.
   * Errors: as `allocate`.
   */
  ensureHostAddresses(network: Network): Promise<readonly string[]> {
    const running = this.#hostAddressRuns.get(network.id);
    if (running !== undefined) return running;
    const run = this.#ensureHostAddresses(network).finally(() => this.#hostAddressRuns.delete(network.id));
    this.#hostAddressRuns.set(network.id, run);
    return run;
  }

  /** Gives the host's own addresses in a network back; its blocks follow when nothing in them rests any more. */
  releaseHost(network: string): void {
    const { journal } = this.#options;
    const own = [...journal.hostAddresses()].filter((entry) => entry.network === network);
    for (const { subnet } of own) journal.removeHostAddress(network, subnet);
    this.release(
      network,
      own.map(({ address }) => address),
    );
  }

  /** Calls `listener` for each block that this host lost to another; returns how to stop it. */
  onLoss(listener: (loss: BlockLoss) => void): () => void {
    this.#lossListeners.add(listener);
    return () => this.#lossListeners.delete(listener);
  }

  /** A record of a block came over the stream: carvings changed, or another host owns it. */
  blockPut(block: Block): void {
    const known = this.#options.journal.block(block.network, block.cidr);
    if (known === undefined) this.#noteUnknown(block);
    else if (block.host !== this.#options.host) this.#applyForeign(block, known);
    else if (block.generation > known.generation) this.#adopt(block);
  }

  /** The store has no record of a block (any more). One that the journal holds is published again by `blockSet`'s caller. */
  blockGone(network: string, cidr: string): void {
    this.#unknown.delete(`${network}/${cidr}`);
  }

  /** All blocks of this host that the store has; returns those of the journal that it lacks, to be published again. */
  blockSet(blocks: readonly Block[]): readonly Block[] {
    const named = new Set(blocks.map(({ network, cidr }) => `${network}/${cidr}`));
    for (const key of this.#unknown.keys()) if (!named.has(key)) this.#unknown.delete(key);
    for (const block of blocks) this.blockPut(block);
    this.#returns.flush();
    return [...this.#options.journal.blocks()].filter(({ network, cidr }) => !named.has(`${network}/${cidr}`));
  }

  /** A controller says that a block of the journal is another host's. */
  blockFenced(network: string, cidr: string): void {
    const { journal, log } = this.#options;
    const block = journal.block(network, cidr);
    if (block === undefined) return;
    journal.removeBlock(network, cidr);
    log.warn({ code: 'ERR_BLOCK_FENCED', network, cidr }, `block ${cidr} is another host's by now`);
    this.#tellLoss(block, this.#pools.ofBlock(network, cidr)?.pool.removeBlock(cidr) ?? usedIn(journal, block));
  }

  carvePut(carve: Carve): void {
    this.#carves.put(carve);
  }

  carveGone(id: string): void {
    this.#carves.gone(id);
  }

  carveSet(ids: ReadonlySet<string>): void {
    this.#carves.set(ids);
  }

  /** Looks for blocks that can be returned. Called by a timer; tests call it themselves. */
  sweep(): void {
    const nowMs = this.#clocks.monoMs();
    const idle = new Set<string>();
    for (const network of new Set([...this.#options.journal.blocks()].map((block) => block.network)))
      this.#pools.of(network);
    for (const { network, pool } of this.#pools.all()) {
      for (const block of this.#isInUse(network.id) ? pool.idleBlocks(nowMs) : idleOf(pool.held, pool.counts(nowMs))) {
        idle.add(`${network.id}/${block.cidr}`);
        this.#returnWhenIdleLong(block, nowMs);
      }
    }
    for (const key of this.#idleSinceMs.keys()) if (!idle.has(key)) this.#idleSinceMs.delete(key);
    for (const [key, { block, sinceMs }] of this.#unknown) {
      if (nowMs - sinceMs < this.#options.quarantineMs) continue;
      this.#unknown.delete(key);
      if (this.#options.journal.block(block.network, block.cidr) === undefined) this.#returns.add(block);
    }
    this.#returnOrphans();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#returns.close();
    this.#carves.close();
  }

  async #ensureHostAddresses(network: Network): Promise<readonly string[]> {
    const { journal } = this.#options;
    const pools = this.#pools.ensure(network);
    const own: string[] = [];
    for (const pool of pools) {
      const known = journal.hostAddress(network.id, pool.subnet);
      if (known !== undefined) {
        own.push(known.address);
        continue;
      }
      const address = this.#takeNow(pool, undefined) ?? (await this.#takeLater(pool, undefined));
      try {
        journal.putHostAddress({ network: network.id, subnet: pool.subnet, address });
      } catch (error) {
        this.release(network.id, [address]);
        throw error;
      }
      own.push(address);
      this.#refillWhenLow(pool);
    }
    return own;
  }

  /** Takes an address from the blocks held here; null when they have none to give. */
  #takeNow({ pool, network }: SubnetPool, fixed: string | undefined): string | null {
    if (fixed === undefined) return pool.allocate(this.#clocks.monoMs());
    if (pool.isUsed(fixed)) throw addressInUse(network, fixed, this.#holderOf(network.id, fixed));
    return pool.allocateFixed(fixed) ? fixed : null;
  }

  /** Asks the controller as long as it takes until an address is ours. */
  async #takeLater(pool: SubnetPool, fixed: string | undefined, signal?: AbortSignal): Promise<string> {
    const pauses = new Backoff(10, 500);
    for (let tries = 0; tries < (fixed === undefined ? maxRefills : maxFixedTries); tries += 1) {
      // A request ahead of need that is under way may bring enough; when it fails, need is a better reason.
      if (fixed === undefined && pool.ahead !== undefined)
        await abortable(
          pool.ahead.catch(() => undefined),
          signal,
        );
      const address =
        this.#takeNow(pool, fixed) ??
        (await abortable(this.#requestFor(pool, fixed), signal)) ??
        this.#takeNow(pool, fixed);
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
    return this.#takeNow(pool, fixed);
  }

  /** Asks for more addresses of a subnet; whoever needs some shares one request. */
  #refill(pool: SubnetPool): Promise<void> {
    pool.refill ??= this.#request(pool, {}).finally(() => {
      pool.refill = undefined;
    });
    return pool.refill;
  }

  #refillWhenLow(pool: SubnetPool): void {
    const nowMs = this.#clocks.monoMs();
    if (pool.refill !== undefined || pool.ahead !== undefined || nowMs < pool.aheadAfterMs || !pool.pool.isLow(nowMs))
      return;
    pool.ahead = this.#request(pool, { ahead: true }).finally(() => {
      pool.ahead = undefined;
    });
    pool.ahead.catch((error: unknown) => {
      pool.aheadAfterMs = this.#clocks.monoMs() + aheadPauseMs;
      this.#options.log.debug({ code: toTsnetError(error).code }, `no block ahead: ${toTsnetError(error).message}`);
    });
  }

  async #request(
    { network, subnet }: SubnetPool,
    more: { readonly address?: string; readonly ahead?: boolean },
  ): Promise<void> {
    try {
      const block = await this.#source.request({ network: network.id, subnet, ...more });
      if (block.network !== network.id || block.host !== this.#options.host) {
        throw new TsnetError(
          'ERR_INTERNAL',
          `asked for a block of network ${network.id}, got ${block.cidr} of ${block.network} for ${block.host ?? 'nobody'}`,
        );
      }
      this.#adopt(block);
    } catch (error) {
      const reason = toTsnetError(error);
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

  /** Takes a block or a newer record of one; the journal first. */
  #adopt(block: Block): void {
    // An answer that was long on its way may speak of a block given back since.
    if (this.#returns.isReturned(block)) return;
    const { journal } = this.#options;
    const known = journal.block(block.network, block.cidr);
    this.#unknown.delete(`${block.network}/${block.cidr}`);
    if (known !== undefined && known.generation >= block.generation) return;
    // Building the pools first: they read the journal, and must not find the block there twice.
    const pool = this.#pools.ofBlock(block.network, block.cidr);
    journal.putBlock(block);
    const lost = pool?.pool.addBlock(block) ?? [];
    if (pool !== undefined && known === undefined) {
      for (const address of usedIn(journal, block)) takeQuietly(pool.pool, address);
    }
    if (lost.length > 0) this.#tellLoss(block, lost);
  }

  #applyForeign(block: Block, known: Block): void {
    if (block.generation > known.generation) this.blockFenced(block.network, block.cidr);
  }

  /**
   * A block that the store says is ours and the journal does not know: the answer that granted it was lost, or is on
   * its way. Used addresses in it make it ours; else it goes back after a while.
   */
  #noteUnknown(block: Block): void {
    const { host, journal } = this.#options;
    if (block.host !== host || this.#returns.isReturned(block)) return;
    if (usedIn(journal, block).length > 0) {
      this.#adopt(block);
      return;
    }
    const key = `${block.network}/${block.cidr}`;
    const known = this.#unknown.get(key);
    this.#unknown.set(key, { block, sinceMs: known?.sinceMs ?? this.#clocks.monoMs() });
  }

  #tellLoss(block: Block, addresses: readonly string[]): void {
    if (addresses.length === 0) return;
    const { journal } = this.#options;
    const lost = new Set(addresses);
    const own = [...journal.hostAddresses()].filter(
      ({ network, address }) => network === block.network && lost.has(address),
    );
    for (const { network, subnet } of own) journal.removeHostAddress(network, subnet);
    const endpoints = journal
      .endpointsOf(block.network)
      .filter(({ record }) => record.addresses.some((address) => lost.has(address)));
    const loss: BlockLoss = {
      network: block.network,
      cidr: block.cidr,
      addresses,
      endpoints: endpoints.map(({ record }) => record.id),
      hostAddress: own.length > 0,
    };
    for (const listener of this.#lossListeners) listener(loss);
  }

  #isInUse(network: string): boolean {
    const { journal } = this.#options;
    return journal.carrier(network) !== undefined || usedAddresses(journal, network).length > 0;
  }

  #returnWhenIdleLong(block: Block, nowMs: number): void {
    const key = `${block.network}/${block.cidr}`;
    const sinceMs = this.#idleSinceMs.get(key);
    if (sinceMs === undefined) this.#idleSinceMs.set(key, nowMs);
    if (nowMs - (sinceMs ?? nowMs) < this.#options.quarantineMs) return;
    this.#idleSinceMs.delete(key);
    this.#return(block);
  }

  #returnSingle(network: string, address: string): boolean {
    const addr = parseAddr(address);
    const pool = this.#pools.ofAddress(network, address);
    const cidr = formatPrefix({ family: addr.family, base: addr.value, length: addrWidth(addr.family) });
    const block = this.#options.journal.block(network, cidr);
    if (pool === undefined || block === undefined || pool.grid.blockLength === addrWidth(addr.family)) return false;
    this.#return(block);
    return true;
  }

  #return(block: Block): void {
    try {
      this.#returns.add(block);
      this.#pools.ofBlock(block.network, block.cidr)?.pool.removeBlock(block.cidr);
    } catch (error) {
      this.#options.log.warn(
        { code: toTsnetError(error).code },
        `block ${block.cidr} not returned: ${toTsnetError(error).message}`,
      );
    }
  }

  /** Blocks of networks that are gone go back as well. */
  #returnOrphans(): void {
    const { journal, state } = this.#options;
    for (const block of [...journal.blocks()]) {
      if (state.network(block.network) !== undefined || this.#isInUse(block.network)) continue;
      this.#returns.add(block);
      this.#pools.forget(block.network);
    }
  }

  #holderOf(network: string, address: string): string {
    const { journal, host } = this.#options;
    const endpoint = journal.endpointsOf(network).find(({ record }) => record.addresses.includes(address));
    if (endpoint !== undefined) return `endpoint ${endpoint.record.name ?? endpoint.record.id} on host ${host}`;
    const isOwn = [...journal.hostAddresses()].some((entry) => entry.network === network && entry.address === address);
    return isOwn ? `host ${host} itself` : `an attach under way on host ${host}`;
  }
}

function matchFixed(
  network: Network,
  pools: readonly SubnetPool[],
  fixed: readonly string[],
): ReadonlyMap<SubnetPool, string> {
  const wanted = new Map<SubnetPool, string>();
  for (const text of fixed) {
    const addr = parseAddr(text);
    const pool = pools.find(({ grid }) => containsAddr(grid.prefix, addr));
    if (pool === undefined) {
      const subnets = pools.map(({ subnet }) => subnet);
      throw new TsnetError(
        'ERR_ADDRESS_OUTSIDE_SUBNET',
        `address: ${formatAddr(addr)} lies outside the subnets of network ${JSON.stringify(network.name)}: ${subnets.join(', ')}`,
        {
          details: { field: 'address', value: formatAddr(addr), network: network.name, subnets },
        },
      );
    }
    if (wanted.has(pool)) {
      throw new TsnetError(
        'ERR_INVALID_REQUEST',
        `addresses: ${formatAddr(addr)} is the second one of subnet ${pool.subnet}`,
        {
          details: { field: 'addresses', value: formatAddr(addr), subnet: pool.subnet },
        },
      );
    }
    wanted.set(pool, formatAddr(parseFixedAddr(pool.grid, text)));
  }
  return wanted;
}

/** Addresses in use here that lie in a block and are not another host's. */
function usedIn(journal: Journal, block: Block): string[] {
  const prefix = parsePrefix(block.cidr);
  return usedAddresses(journal, block.network).filter((text) => {
    const addr = parseAddr(text);
    return containsAddr(prefix, addr) && !block.carved.includes(text);
  });
}

function idleOf(
  held: readonly Block[],
  counts: { readonly used: number; readonly quarantined: number },
): readonly Block[] {
  return counts.used === 0 && counts.quarantined === 0 ? held : [];
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
