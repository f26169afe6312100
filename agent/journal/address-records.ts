import type { Block } from '../../core/model.js';
import { journalKeys, type BlockReturn, type CarveDecision, type HostAddress, type Resting } from './entries.js';
import type { JournalFile } from './journal-file.js';

/** What this host has of networks' addresses: blocks, those on their way back, its own addresses, what rests, carvings. */
export class AddressRecords {
  readonly #file: JournalFile;

  constructor(file: JournalFile) {
    this.#file = file;
  }

  blocks(): IterableIterator<Block> {
    return this.#file.tables.blocks.values();
  }

  block(network: string, cidr: string): Block | undefined {
    return this.#file.tables.blocks.get(journalKeys.block(network, cidr));
  }

  putBlock(block: Block): void {
    this.#file.write([[journalKeys.block(block.network, block.cidr), block]]);
  }

  removeBlock(network: string, cidr: string): void {
    this.#file.writeOn([[journalKeys.block(network, cidr), undefined]]);
  }

  /** Blocks on their way back. */
  returns(): IterableIterator<BlockReturn> {
    return this.#file.tables.returns.values();
  }

  /** Gives a block up; it stays noted as on its way back until `finishReturn`. */
  startReturn(block: BlockReturn): void {
    const { network, cidr, generation } = block;
    this.#file.writeOn([
      [journalKeys.block(network, cidr), undefined],
      [journalKeys.return(network, cidr), { network, cidr, generation }],
    ]);
  }

  finishReturn(network: string, cidr: string): void {
    this.#file.write([[journalKeys.return(network, cidr), undefined]]);
  }

  resting(): IterableIterator<Resting> {
    return this.#file.tables.resting.values();
  }

  /** Notes addresses that rest, and drops those whose rest is over. */
  putResting(resting: readonly Resting[], nowMs: number): void {
    const over = [...this.#file.tables.resting.values()].filter(({ untilMs }) => untilMs <= nowMs);
    this.#file.write([
      ...over.map(({ network, address }) => [journalKeys.resting(network, address), undefined] as const),
      ...resting.map((entry) => [journalKeys.resting(entry.network, entry.address), entry] as const),
    ]);
  }

  hostAddresses(): IterableIterator<HostAddress> {
    return this.#file.tables.hostAddresses.values();
  }

  hostAddress(network: string, subnet: string): HostAddress | undefined {
    return this.#file.tables.hostAddresses.get(journalKeys.hostAddress(network, subnet));
  }

  putHostAddress(address: HostAddress): void {
    this.#file.write([[journalKeys.hostAddress(address.network, address.subnet), address]]);
  }

  removeHostAddress(network: string, subnet: string): void {
    this.#file.writeOn([[journalKeys.hostAddress(network, subnet), undefined]]);
  }

  carves(): IterableIterator<CarveDecision> {
    return this.#file.tables.carves.values();
  }

  carve(id: string): CarveDecision | undefined {
    return this.#file.tables.carves.get(journalKeys.carve(id));
  }

  putCarve(decision: CarveDecision): void {
    this.#file.write([[journalKeys.carve(decision.carve.id), decision]]);
  }

  removeCarve(id: string): void {
    this.#file.writeOn([[journalKeys.carve(id), undefined]]);
  }
}
