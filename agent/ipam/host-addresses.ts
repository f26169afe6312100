import { uptime } from 'node:os';
import { addrWidth, containsAddr, formatPrefix, parseAddr, parsePrefix } from '../../core/addr.js';
import { toTsnetError } from '../../core/errors.js';
import type { Block, Carve, Network } from '../../core/model.js';
import type { Logger } from '../../lib/log.js';
import type { Journal } from '../journal/journal.js';
import type { BlockListener } from '../sync/cluster-sync.js';
import type { ControllerClient } from '../sync/controller-client.js';
import { AddressSupply } from './address-supply.js';
import { BlockReturns } from './block-returns.js';
import { controllerBlocks, type BlockSource } from './block-source.js';
import { BlockSweep } from './block-sweep.js';
import { CarveAnswers } from './carve-answers.js';
import { matchFixed } from './fixed-addresses.js';
import { Pools, takeQuietly, usedAddresses, type Clocks } from './pools.js';

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

const defaultSweepMs = 5000;
const systemClocks: Clocks = { monoMs: () => performance.now(), uptimeMs: () => uptime() * 1000 };

/**
 * The addresses that this host gives out: from its own blocks without asking anyone, from the controller when they
 * have none. The journal has every block before an address of it is given.
 */
export class HostAddresses implements BlockListener {
  readonly #options: HostAddressesOptions;
  readonly #clocks: Clocks;
  readonly #pools: Pools;
  readonly #returns: BlockReturns;
  readonly #carves: CarveAnswers;
  readonly #supply: AddressSupply;
  readonly #sweep: BlockSweep;
  readonly #hostAddressRuns = new Map<string, Promise<readonly string[]>>();
  readonly #lossListeners = new Set<(loss: BlockLoss) => void>();
  readonly #timer: NodeJS.Timeout;

  constructor(options: HostAddressesOptions) {
    const { journal, state, log, quarantineMs, host, client } = options;
    const source = options.source ?? (client === undefined ? undefined : controllerBlocks(client, host));
    if (source === undefined) throw new TypeError('neither client nor source is given');
    this.#options = options;
    this.#clocks = options.clocks ?? systemClocks;
    this.#pools = new Pools({ journal, network: (id) => state.network(id), quarantineMs, clocks: this.#clocks });
    this.#returns = new BlockReturns({ journal, source, log });
    const common = { journal, source, log, pools: this.#pools, returns: this.#returns, nowMs: this.#clocks.monoMs };
    const holderOf = (network: string, address: string): string => this.#holderOf(network, address);
    this.#carves = new CarveAnswers({ ...common, holderOf });
    this.#supply = new AddressSupply({ ...common, host, quarantineMs, holderOf, adopt: (block) => this.#adopt(block) });
    this.#sweep = new BlockSweep({ ...common, state, quarantineMs });
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
        taken.push(this.#supply.takeNow(pool, address) ?? (await this.#supply.takeLater(pool, address, signal)));
        this.#supply.refillWhenLow(pool);
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
    const uptimeMs = this.#clocks.uptimeMs();
    const released = addresses.filter(
      (address) => this.#pools.ofAddress(network, address)?.pool.release(address, nowMs) === true,
    );
    // An address granted alone goes back at once: somebody else may want just this one.
    const single = released.filter((address) => this.#returnSingle(network, address));
    const resting = released.filter((address) => !single.includes(address));
    if (resting.length === 0 || quarantineMs === 0) return;
    try {
      journal.addresses.putResting(
        resting.map((address) => ({ network, address, untilMs: uptimeMs + quarantineMs })),
        uptimeMs,
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
    const own = [...journal.addresses.hostAddresses()].filter((entry) => entry.network === network);
    for (const { subnet } of own) journal.addresses.removeHostAddress(network, subnet);
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
    const known = this.#options.journal.addresses.block(block.network, block.cidr);
    if (known === undefined) this.#noteUnknown(block);
    else if (block.host !== this.#options.host) this.#applyForeign(block, known);
    else if (block.generation > known.generation) this.#adopt(block);
  }

  /** The store has no record of a block (any more). One that the journal holds is published again by `blockSet`'s caller. */
  blockGone(network: string, cidr: string): void {
    this.#sweep.forgetUnknown({ network, cidr });
  }

  /** All blocks of this host that the store has; returns those of the journal that it lacks, to be published again. */
  blockSet(blocks: readonly Block[]): readonly Block[] {
    const named = new Set(blocks.map(({ network, cidr }) => `${network}/${cidr}`));
    this.#sweep.keepUnknown(blocks);
    for (const block of blocks) this.blockPut(block);
    this.#returns.flush();
    return [...this.#options.journal.addresses.blocks()].filter(
      ({ network, cidr }) => !named.has(`${network}/${cidr}`),
    );
  }

  /** A controller says that a block of the journal is another host's. */
  blockFenced(network: string, cidr: string): void {
    const { journal, log } = this.#options;
    const block = journal.addresses.block(network, cidr);
    if (block === undefined) return;
    journal.addresses.removeBlock(network, cidr);
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
    this.#sweep.run();
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
      const known = journal.addresses.hostAddress(network.id, pool.subnet);
      if (known !== undefined) {
        own.push(known.address);
        continue;
      }
      const address = this.#supply.takeNow(pool, undefined) ?? (await this.#supply.takeLater(pool, undefined));
      try {
        journal.addresses.putHostAddress({ network: network.id, subnet: pool.subnet, address });
      } catch (error) {
        this.release(network.id, [address]);
        throw error;
      }
      own.push(address);
      this.#supply.refillWhenLow(pool);
    }
    return own;
  }

  /** Takes a block or a newer record of one; the journal first. */
  #adopt(block: Block): void {
    // An answer that was long on its way may speak of a block given back since.
    if (this.#returns.isReturned(block)) return;
    const { journal } = this.#options;
    const known = journal.addresses.block(block.network, block.cidr);
    this.#sweep.forgetUnknown(block);
    if (known !== undefined && known.generation >= block.generation) return;
    // Building the pools first: they read the journal, and must not find the block there twice.
    const pool = this.#pools.ofBlock(block.network, block.cidr);
    journal.addresses.putBlock(block);
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
    if (usedIn(journal, block).length > 0) this.#adopt(block);
    else this.#sweep.noteUnknown(block);
  }

  #tellLoss(block: Block, addresses: readonly string[]): void {
    if (addresses.length === 0) return;
    const { journal } = this.#options;
    const lost = new Set(addresses);
    const own = [...journal.addresses.hostAddresses()].filter(
      ({ network, address }) => network === block.network && lost.has(address),
    );
    for (const { network, subnet } of own) journal.addresses.removeHostAddress(network, subnet);
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

  #returnSingle(network: string, address: string): boolean {
    const addr = parseAddr(address);
    const pool = this.#pools.ofAddress(network, address);
    const cidr = formatPrefix({ family: addr.family, base: addr.value, length: addrWidth(addr.family) });
    const block = this.#options.journal.addresses.block(network, cidr);
    if (pool === undefined || block === undefined || pool.grid.blockLength === addrWidth(addr.family)) return false;
    this.#sweep.giveBack(block);
    return true;
  }

  #holderOf(network: string, address: string): string {
    const { journal, host } = this.#options;
    const endpoint = journal.endpointsOf(network).find(({ record }) => record.addresses.includes(address));
    if (endpoint !== undefined) return `endpoint ${endpoint.record.name ?? endpoint.record.id} on host ${host}`;
    const isOwn = [...journal.addresses.hostAddresses()].some(
      (entry) => entry.network === network && entry.address === address,
    );
    return isOwn ? `host ${host} itself` : `an attach under way on host ${host}`;
  }
}

/** Addresses in use here that lie in a block and are not another host's. */
function usedIn(journal: Journal, block: Block): string[] {
  const prefix = parsePrefix(block.cidr);
  return usedAddresses(journal, block.network).filter((text) => {
    const addr = parseAddr(text);
    return containsAddr(prefix, addr) && !block.carved.includes(text);
  });
}
