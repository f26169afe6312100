import assert from 'node:assert/strict';
import { parseAddr } from '../../core/addr.js';
import type { ErrorCode } from '../../core/errors.js';
import { TsnetError } from '../../core/errors.js';
import { isUsable, newGrid, usableCount } from '../../core/grid.js';
import type { Grid } from '../../core/grid.js';
import { planRefill } from '../../core/ipam-refill.js';
import { planHostRemoval, planRelease } from '../../core/ipam-return.js';
import { planBlock, planCarved } from '../../core/ipam.js';
import type { BlockChange, BlockState } from '../../core/ipam.js';
import type { Block, Subnet } from '../../core/model.js';
import { AddressPool } from '../../core/pool.js';

export const quarantineMs = 100;

type Line =
  | { readonly type: 'put'; readonly block: Block }
  | { readonly type: 'settled'; readonly carve: string; readonly address: string };

interface HostState {
  readonly pool: AddressPool;
  /** Addresses of endpoints here. */
  readonly used: Set<string>;
  /** Lines of the stream that have not arrived yet. */
  readonly stream: Line[];
}

interface PendingCarve {
  readonly id: string;
  readonly requester: string;
  readonly owner: string;
  readonly address: string | null;
  readonly refusedBy: ReadonlySet<string>;
}

/** What an owner answered, on its way to a controller. */
interface Answer {
  readonly carve: PendingCarve;
  readonly address: string | null;
}

/**
 * A store, a controller and hosts, without wires: every step a real cluster takes on blocks, each apart
 * from the others, so that a test can put them in any order. Holds nobody's address twice, or throws.
 */
export class IpamCluster {
  readonly grid: Grid;
  nowMs = 0;
  private readonly blocks = new Map<string, Block>();
  private nextGeneration = 1;
  private readonly hosts = new Map<string, HostState>();
  private carveCount = 0;
  private readonly carves: PendingCarve[] = [];
  private readonly answers: Answer[] = [];
  /** Who holds each address in use. */
  private readonly holders = new Map<string, string>();
  /** The largest generation that any block ever had. */
  private readonly generations = new Map<string, number>();

  constructor(subnet: Subnet) {
    this.grid = newGrid(subnet);
  }

  get records(): readonly Block[] {
    return [...this.blocks.values()];
  }

  get usedCount(): number {
    return this.holders.size;
  }

  get pendingCarves(): number {
    return this.carves.length + this.answers.length;
  }

  usedBy(host: string): readonly string[] {
    return [...(this.hosts.get(host)?.used ?? [])];
  }

  /** Starts an endpoint if the host has an address for it, else asks the controller. */
  attach(host: string, address?: string): 'attached' | 'asked' | ErrorCode {
    const state = this.hostOf(host);
    try {
      const given = address === undefined ? state.pool.allocate(this.nowMs) : this.takeFixed(state, address);
      if (given !== null) {
        this.hold(host, given);
        return 'attached';
      }
      return this.ask({ requester: host, address: address ?? null, refusedBy: new Set() });
    } catch (error) {
      if (error instanceof TsnetError) return error.code;
      throw error;
    }
  }

  /** Attaches, with everything in between at once. */
  attachNow(host: string, address?: string): 'attached' | ErrorCode {
    for (let turn = 0; turn < 1000; turn++) {
      const result = this.attach(host, address);
      if (result !== 'asked') return result;
      let failure: ErrorCode | null = null;
      while (this.pendingCarves > 0) {
        this.answerCarve();
        failure = this.commitAnswer();
      }
      this.deliver();
      if (failure !== null) return failure;
    }
    throw new Error('no end to it');
  }

  detach(host: string, address: string): void {
    const state = this.hostOf(host);
    assert.ok(state.used.delete(address));
    assert.equal(this.holders.get(address), host);
    this.holders.delete(address);
    assert.ok(state.pool.release(address, this.nowMs), `${host} knows ${address}`);
  }

  /** Returns what a host does not need. */
  returnIdle(host: string): void {
    for (const block of this.hostOf(host).pool.idleBlocks(this.nowMs)) this.returnBlock(host, block);
  }

  /** Returns everything that a host without endpoints holds. */
  returnAll(host: string): void {
    for (const block of this.hostOf(host).pool.held) this.returnBlock(host, block);
  }

  /** The oldest carve request is answered by its owner: what it gives up is withheld from then on. */
  answerCarve(): void {
    const carve = this.carves.shift();
    if (carve === undefined) return;
    const given = this.hosts.get(carve.owner)?.pool.carveOut(carve, this.nowMs) ?? null;
    this.answers.push({ carve, address: given?.address ?? null });
  }

  /** An answer arrives, the oldest first or another one, and is acted on. Null when all went well. */
  commitAnswer(pick = 0): ErrorCode | null {
    const [answer] = this.answers.splice(pick % Math.max(1, this.answers.length), 1);
    if (answer === undefined) return null;
    const { carve, address } = answer;
    const owner = this.hosts.get(carve.owner);
    try {
      if (!this.hosts.has(carve.requester)) return 'ERR_HOST_UNKNOWN';
      if (address === null) {
        if (carve.address !== null && owner !== undefined) return 'ERR_ADDRESS_IN_USE';
        this.ask({ ...carve, refusedBy: new Set([...carve.refusedBy, carve.owner]) });
        return null;
      }
      const plan = planCarved({ ...this.state(), grid: this.grid, host: carve.requester, owner: carve.owner, address });
      if (plan.kind === 'grant') this.commit(plan, carve.requester);
      return null;
    } catch (error) {
      if (error instanceof TsnetError) return error.code;
      throw error;
    } finally {
      if (address !== null) owner?.stream.push({ type: 'settled', carve: carve.id, address });
    }
  }

  /** Lines arrive, at one host or at all. */
  deliver(host?: string, count = Infinity): void {
    for (const [name, { pool, stream }] of this.hosts) {
      if (host !== undefined && host !== name) continue;
      for (const line of stream.splice(0, count)) {
        if (line.type === 'settled') pool.withdrawOffer(line.address, line.carve);
        else if (line.block.host === name) assert.deepEqual(pool.addBlock(line.block), [], 'no used address is carved');
      }
    }
  }

  /** The host is dead and an operator removes it. */
  removeHost(host: string): void {
    for (const address of this.usedBy(host)) this.holders.delete(address);
    this.hosts.delete(host);
    for (const [index, { owner }] of [...this.carves.entries()].reverse())
      if (owner === host) this.carves.splice(index, 1);
    for (const [index, { carve }] of [...this.answers.entries()].reverse())
      if (carve.owner === host) this.answers.splice(index, 1);
    for (let hasMore = true; hasMore;) {
      const plan = planHostRemoval({ ...this.state(), grids: [this.grid], host, limit: 3 });
      assert.ok(plan.put.length + plan.remove.length <= 6);
      this.commit(plan, null);
      hasMore = plan.hasMore;
    }
    assert.ok(!this.records.some((block) => block.host === host));
  }

  /** The store is emptied; every host publishes what it holds. Returns how many blocks were refused. */
  loseStore(order: (hosts: string[]) => string[]): number {
    this.blocks.clear();
    this.nextGeneration = 1;
    this.carves.length = 0;
    this.answers.length = 0;
    this.generations.clear();
    let fenced = 0;
    for (const name of order([...this.hosts.keys()])) {
      const { pool } = this.hostOf(name);
      for (const published of pool.held) {
        try {
          this.commit(planRefill({ ...this.state(), grids: [this.grid], host: name, published }), null);
        } catch (error) {
          assert.ok(error instanceof TsnetError && error.code === 'ERR_BLOCK_FENCED', String(error));
          fenced++;
          for (const address of pool.removeBlock(published.cidr)) {
            this.hostOf(name).used.delete(address);
            this.holders.delete(address);
          }
        }
      }
    }
    return fenced;
  }

  /** What must hold after every step. */
  check(): void {
    const seen = new Map<string, Block>();
    for (const block of this.blocks.values()) {
      assert.ok(block.host !== null || block.carved.length > 0, 'a record without owner has carvings');
      assert.equal(new Set(block.carved).size, block.carved.length, 'nothing is carved twice');
      if (block.cidr.endsWith('/32') || block.cidr.endsWith('/128')) seen.set(block.cidr.replace(/\/.*/, ''), block);
    }
    for (const block of this.blocks.values()) {
      for (const address of block.carved) assert.ok(seen.has(address), `${address} is carved for somebody`);
    }
    for (const address of this.holders.keys())
      assert.ok(isUsable(this.grid, parseAddr(address)), `${address} is usable`);
    assert.ok(this.holders.size <= usableCount(this.grid));
    const used = [...this.hosts.values()].reduce((sum, state) => sum + state.used.size, 0);
    assert.equal(used, this.holders.size);
  }

  /** Free addresses in the pools of all hosts. */
  freeCount(): number {
    return [...this.hosts.values()].reduce((sum, { pool }) => sum + pool.counts(this.nowMs).free, 0);
  }

  private hostOf(name: string): HostState {
    const known = this.hosts.get(name);
    if (known !== undefined) return known;
    const state = { pool: new AddressPool(this.grid, quarantineMs), used: new Set<string>(), stream: [] };
    this.hosts.set(name, state);
    return state;
  }

  private state(): BlockState {
    return { network: { id: '0123abcd', name: 'frontend' }, blocks: this.records, nextGeneration: this.nextGeneration };
  }

  private takeFixed(state: HostState, address: string): string | null {
    return state.pool.allocateFixed(address) ? address : null;
  }

  private hold(host: string, address: string): void {
    assert.equal(this.holders.get(address), undefined, `${address} is given to ${host}`);
    this.holders.set(address, host);
    this.hostOf(host).used.add(address);
  }

  private ask(carve: Omit<PendingCarve, 'id' | 'owner'>): 'asked' {
    const { requester: host, address, refusedBy } = carve;
    const fixed = address === null ? {} : { address };
    const plan = planBlock({ ...this.state(), grid: this.grid, host, refusedBy, ...fixed });
    if (plan.kind === 'grant') this.commit(plan, host);
    if (plan.kind === 'carve') {
      assert.notEqual(plan.owner, host);
      this.carves.push({ ...carve, id: `carve-${++this.carveCount}`, owner: plan.owner });
    }
    return 'asked';
  }

  /** One transaction; the host that asked hears of its own records with the answer, the others by stream. */
  private commit(change: BlockChange, asker: string | null): void {
    assert.ok(change.nextGeneration >= this.nextGeneration);
    this.nextGeneration = change.nextGeneration;
    for (const { cidr } of change.remove) assert.ok(this.blocks.delete(cidr));
    for (const block of change.put) {
      assert.ok(block.generation < change.nextGeneration);
      const stored = this.blocks.get(block.cidr)?.generation ?? 0;
      assert.ok(block.generation > stored, `${block.cidr}: ${block.generation} after ${stored}`);
      this.blocks.set(block.cidr, block);
      if (block.host === null) continue;
      const host = this.hosts.get(block.host);
      if (block.host === asker) host?.pool.addBlock(block);
      host?.stream.push({ type: 'put', block });
    }
    if (asker === null) return;
    for (const { cidr, generation } of change.put) {
      assert.ok(generation > (this.generations.get(cidr) ?? 0), 'a grant is newer than any before');
      this.generations.set(cidr, generation);
    }
  }

  private returnBlock(host: string, block: Block): void {
    const { pool } = this.hostOf(host);
    assert.deepEqual(pool.removeBlock(block.cidr), []);
    try {
      const { cidr, generation } = block;
      this.commit(planRelease({ ...this.state(), grids: [this.grid], host, cidr, generation }), null);
    } catch (error) {
      assert.ok(error instanceof TsnetError && error.code === 'ERR_STALE_GENERATION', String(error));
      const current = this.blocks.get(block.cidr);
      if (current?.host === host) pool.addBlock(current);
    }
  }
}
