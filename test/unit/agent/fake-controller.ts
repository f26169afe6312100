import type { BlockRelease, BlockRequest, CarveAnswer } from '../../../core/api/publication.js';
import { TsnetError } from '../../../core/errors.js';
import { newGrid, type Grid } from '../../../core/grid.js';
import { planRefill } from '../../../core/ipam-refill.js';
import { planHostRemoval, planRelease } from '../../../core/ipam-return.js';
import { addressInUse, planBlock, planCarved, type BlockChange } from '../../../core/ipam.js';
import type { Block, Network } from '../../../core/model.js';
import type { BlockSource } from '../../../agent/ipam/block-source.js';
import type { BlockListener } from '../../../agent/sync/cluster-sync.js';

interface Line {
  readonly host: string;
  readonly tell: (listener: BlockListener) => void;
}

interface OpenCarve {
  readonly owner: string;
  readonly answer: (answer: CarveAnswer | null) => void;
}

/** One network's blocks as a controller decides on them, with a stream to each host; calls and streams can be cut. */
export class FakeController {
  readonly network: Network;
  readonly grids: readonly Grid[];
  /** Hosts that cannot reach the controller, nor hear of it. */
  readonly away = new Set<string>();
  /** Chooses the calls whose answer is lost. */
  losesAnswer: () => boolean = () => false;
  requests = 0;
  #blocks = new Map<string, Block>();
  #nextGeneration = 1;
  readonly #listeners = new Map<string, BlockListener>();
  readonly #lines: Line[] = [];
  readonly #carves = new Map<string, OpenCarve>();
  #carveCount = 0;
  #delivering = false;

  constructor(network: Network) {
    this.network = network;
    this.grids = network.subnets.map(newGrid);
  }

  get blocks(): readonly Block[] {
    return [...this.#blocks.values()];
  }

  blocksOf(host: string): readonly Block[] {
    return this.blocks.filter((block) => block.host === host);
  }

  /** A host connects: a full set of its blocks, what it lacks is published again, then changes. */
  connect(host: string, listener: BlockListener): void {
    this.#listeners.set(host, listener);
    this.away.delete(host);
    for (let at = this.#lines.length - 1; at >= 0; at -= 1)
      if (this.#lines[at]?.host === host) this.#lines.splice(at, 1);
    for (const [id, carve] of this.#carves) if (carve.owner === host) this.#endCarve(id);
    for (const block of listener.blockSet(this.blocksOf(host))) this.#refill(host, block, listener);
    listener.carveSet(new Set());
  }

  disconnect(host: string): void {
    this.away.add(host);
    this.#listeners.delete(host);
  }

  source(host: string): BlockSource {
    return {
      request: (request) => this.#call(host, () => this.#request(host, request)),
      release: (release) => this.#call(host, () => this.#release(host, release)),
      answer: (id, answer) => this.#call(host, () => this.#answer(id, answer)),
    };
  }

  removeHost(host: string): void {
    for (let more = true; more;) {
      const plan = planHostRemoval({ ...this.#state(), grids: this.grids, host });
      this.#commit(plan);
      more = plan.hasMore;
    }
  }

  async #call<T>(host: string, run: () => Promise<T>): Promise<T> {
    await turn();
    if (this.away.has(host)) throw new TsnetError('ERR_CONTROLLER_UNREACHABLE', 'the controller is away');
    const result = await run();
    await turn();
    if (this.losesAnswer()) throw new TsnetError('ERR_DEADLINE', 'the answer was lost');
    return result;
  }

  async #request(host: string, request: BlockRequest): Promise<Block> {
    this.requests += 1;
    const grid = this.#gridOf(request.subnet);
    const refusedBy = new Set<string>();
    const { address, ahead } = request;
    for (;;) {
      const more = {
        ...(address === undefined ? {} : { address }),
        ...(ahead === undefined ? {} : { isAhead: ahead }),
      };
      const plan = planBlock({ ...this.#state(), ...more, grid, host, refusedBy });
      if (plan.kind !== 'carve') {
        if (plan.kind === 'grant') this.#commit(plan);
        return plan.block;
      }
      const { owner, cidr } = plan;
      const answer = await this.#carve(owner, { cidr, address: plan.address, requester: host });
      if (answer === null) throw new TsnetError('ERR_ADDRESS_HELD_ELSEWHERE', `host ${owner} did not answer`);
      if (answer.address === null) {
        if (address !== undefined) throw addressInUse(this.network, address, answer.holder ?? `host ${owner}`);
        refusedBy.add(owner);
        continue;
      }
      const given = planCarved({ ...this.#state(), grid, host, owner, address: answer.address });
      if (given.kind === 'grant') this.#commit(given);
      if (given.kind !== 'carve') return given.block;
    }
  }

  #carve(
    owner: string,
    wanted: { cidr: string; address: string | null; requester: string },
  ): Promise<CarveAnswer | null> {
    if (!this.#listeners.has(owner)) return Promise.resolve(null);
    const id = (this.#carveCount += 1).toString(16).padStart(16, '0');
    return new Promise((resolve) => {
      const answer = (given: CarveAnswer | null): void => {
        resolve(given);
        // The requester's side commits first; then the carve is gone.
        setImmediate(() => this.#tell(owner, (listener) => listener.carveGone(id)));
      };
      this.#carves.set(id, { owner, answer });
      this.#tell(owner, (listener) =>
        listener.carvePut({ v: 1, generation: 1, id, network: this.network.id, owner, ...wanted }),
      );
    });
  }

  #answer(id: string, answer: CarveAnswer): Promise<void> {
    const carve = this.#carves.get(id);
    if (carve === undefined) return Promise.reject(new TsnetError('ERR_NOT_FOUND', `carve ${id}`));
    this.#carves.delete(id);
    carve.answer(answer);
    return Promise.resolve();
  }

  #endCarve(id: string): void {
    this.#carves.get(id)?.answer(null);
    this.#carves.delete(id);
  }

  #release(host: string, release: BlockRelease): Promise<void> {
    try {
      this.#commit(
        planRelease({ ...this.#state(), grids: this.grids, host, cidr: release.cidr, generation: release.generation }),
      );
      return Promise.resolve();
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #refill(host: string, published: Block, listener: BlockListener): void {
    try {
      this.#commit(planRefill({ ...this.#state(), grids: this.grids, host, published }));
    } catch (error) {
      if (!(error instanceof TsnetError) || error.code !== 'ERR_BLOCK_FENCED') throw error;
      listener.blockFenced(published.network, published.cidr);
    }
  }

  #state(): { network: Network; blocks: readonly Block[]; nextGeneration: number } {
    return { network: this.network, blocks: this.blocks, nextGeneration: this.#nextGeneration };
  }

  #gridOf(subnet: string): Grid {
    const grid = this.grids[this.network.subnets.findIndex((each) => each.subnet === subnet)];
    if (grid === undefined) throw new TsnetError('ERR_INVALID_REQUEST', `subnet: ${subnet}`);
    return grid;
  }

  #commit(change: BlockChange): void {
    this.#nextGeneration = change.nextGeneration;
    for (const block of change.remove) {
      this.#blocks.delete(block.cidr);
      if (block.host !== null) this.#tell(block.host, (listener) => listener.blockGone(block.network, block.cidr));
    }
    for (const block of change.put) {
      const before = this.#blocks.get(block.cidr)?.host ?? null;
      this.#blocks.set(block.cidr, block);
      if (before !== null && before !== block.host)
        this.#tell(before, (listener) => listener.blockGone(block.network, block.cidr));
      if (block.host !== null) this.#tell(block.host, (listener) => listener.blockPut(block));
    }
  }

  #tell(host: string, tell: (listener: BlockListener) => void): void {
    if (!this.#listeners.has(host)) return;
    this.#lines.push({ host, tell });
    if (!this.#delivering) {
      this.#delivering = true;
      setImmediate(() => this.#deliver());
    }
  }

  #deliver(): void {
    const line = this.#lines.shift();
    if (line === undefined) {
      this.#delivering = false;
      return;
    }
    const listener = this.#listeners.get(line.host);
    if (listener !== undefined) line.tell(listener);
    setImmediate(() => this.#deliver());
  }
}

export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
