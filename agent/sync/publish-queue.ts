import type { Publication } from '../../core/api/publication.js';
import type { Block, Carrier, Endpoint, Network, Service } from '../../core/model.js';
import type { Journal, OwnChange } from '../journal/journal.js';

/** Something that a controller should hear; what exactly is looked up when it is sent. */
export type PublishItem =
  | { readonly kind: 'network'; readonly network: string }
  | { readonly kind: 'service'; readonly network: string; readonly name: string }
  | { readonly kind: 'block'; readonly network: string; readonly cidr: string }
  | OwnChange;

/** What the queue looks up of records that are not the journal's. */
export interface ForeignRecords {
  readonly network: (id: string) => Network | undefined;
  /** Undefined where the store has it. */
  readonly lostService: (network: string, name: string) => Service | undefined;
  /** Whether services lead connections to an endpoint. */
  readonly isBackend: (endpoint: Endpoint) => boolean;
}

/**
 * In this order, so that nothing refers to what the store does not have, and an address is given up
 * before its next endpoint claims it.
 */
const order = ['network', 'service', 'block', 'carrier', 'gone', 'endpoint', 'carrier-gone'] as const;
type Rank = (typeof order)[number];

/** An item with the record as it was sent. */
export interface SentItem {
  /** As the controller names it in a refusal: `kind/network/id`. */
  readonly key: string;
  readonly item: PublishItem;
  readonly generation: number;
}

export interface Batch {
  readonly publication: Publication;
  readonly sent: readonly SentItem[];
}

/** What is to be published, one entry a record, the latest state of each. */
export class PublishQueue {
  readonly #journal: Journal;
  readonly #foreign: ForeignRecords;
  readonly #ranks: Readonly<Record<Rank, Map<string, PublishItem>>> = {
    network: new Map(),
    service: new Map(),
    block: new Map(),
    carrier: new Map(),
    gone: new Map(),
    endpoint: new Map(),
    'carrier-gone': new Map(),
  };

  constructor(journal: Journal, foreign: ForeignRecords) {
    this.#journal = journal;
    this.#foreign = foreign;
  }

  get size(): number {
    return order.reduce((sum, rank) => sum + this.#ranks[rank].size, 0);
  }

  add(item: PublishItem): void {
    this.#ranks[rankOf(item)].set(itemKey(item), item);
  }

  delete(item: PublishItem): void {
    this.#ranks[rankOf(item)].delete(itemKey(item));
  }

  has(item: PublishItem): boolean {
    return this.#ranks[rankOf(item)].has(itemKey(item));
  }

  /** Takes up to `limit` records off the queue; null when nothing is left. */
  take(limit: number): Batch | null {
    const draft = new BatchDraft();
    for (const rank of order) {
      const queue = this.#ranks[rank];
      for (const [key, item] of queue) {
        if (draft.sent.length >= limit) return draft;
        queue.delete(key);
        this.#append(draft, item);
      }
    }
    return draft.sent.length === 0 ? null : draft;
  }

  /** Puts records back to the front that could not be sent; newer entries of the same record win. */
  restore(sent: readonly SentItem[]): void {
    for (const rank of order) {
      const returned = sent.filter(({ item }) => rankOf(item) === rank);
      if (returned.length === 0) continue;
      const queue = this.#ranks[rank];
      const rest = [...queue];
      queue.clear();
      for (const { item } of returned) queue.set(itemKey(item), item);
      for (const [key, item] of rest) queue.set(key, item);
    }
  }

  /** A batch of one record, whatever else waits; null when there is nothing to say of it. */
  takeOne(item: PublishItem): Batch | null {
    this.delete(item);
    const draft = new BatchDraft();
    this.#append(draft, item);
    return draft.sent.length === 0 ? null : draft;
  }

  #append(draft: BatchDraft, item: PublishItem): void {
    const journal = this.#journal;
    switch (item.kind) {
      case 'network': {
        const network = this.#foreign.network(item.network);
        if (network !== undefined) draft.addNetwork(item, network);
        break;
      }
      case 'service': {
        const service = this.#foreign.lostService(item.network, item.name);
        if (service !== undefined) draft.addService(item, service);
        break;
      }
      case 'block': {
        const block = journal.addresses.block(item.network, item.cidr);
        if (block !== undefined) draft.addBlock(item, block);
        break;
      }
      case 'carrier': {
        const own = journal.carrier(item.network);
        if (own !== undefined && own.publishedGeneration < own.record.generation) draft.addCarrier(item, own.record);
        break;
      }
      case 'endpoint': {
        const own = journal.endpoint(item.id);
        if (own === undefined || own.publishedGeneration >= own.record.generation) break;
        // Other hosts lead nothing to a backend from the start of its removal.
        const isLeaving = own.step === 'detach' && this.#foreign.isBackend(own.record);
        if (own.step === null || isLeaving) draft.addEndpoint(item, own.record);
        break;
      }
      case 'gone': {
        const tombstone = journal.tombstone(item.network, item.id);
        if (tombstone !== undefined) draft.addGone(item, tombstone.generation);
        break;
      }
    }
  }
}

class BatchDraft implements Batch {
  readonly sent: SentItem[] = [];
  readonly #networks: Network[] = [];
  readonly #services: Service[] = [];
  readonly #blocks: Block[] = [];
  readonly #carriers: Carrier[] = [];
  readonly #endpoints: Endpoint[] = [];
  readonly #carriersGone: { network: string; generation: number }[] = [];
  readonly #endpointsGone: { network: string; id: string; generation: number }[] = [];

  get publication(): Publication {
    return {
      ...(this.#networks.length === 0 ? {} : { networks: this.#networks }),
      ...(this.#services.length === 0 ? {} : { services: this.#services }),
      ...(this.#blocks.length === 0 ? {} : { blocks: this.#blocks }),
      ...(this.#carriers.length === 0 ? {} : { carriers: this.#carriers }),
      ...(this.#endpointsGone.length === 0 ? {} : { endpointsGone: this.#endpointsGone }),
      ...(this.#endpoints.length === 0 ? {} : { endpoints: this.#endpoints }),
      ...(this.#carriersGone.length === 0 ? {} : { carriersGone: this.#carriersGone }),
    };
  }

  addNetwork(item: PublishItem, network: Network): void {
    this.#networks.push(network);
    this.#note(item, `network/${network.id}/${network.id}`, network.generation);
  }

  addService(item: PublishItem, service: Service): void {
    this.#services.push(service);
    this.#note(item, `service/${service.network}/${service.name}`, service.generation);
  }

  addBlock(item: PublishItem, block: Block): void {
    this.#blocks.push(block);
    this.#note(item, `block/${block.network}/${block.cidr}`, block.generation);
  }

  addCarrier(item: PublishItem, carrier: Carrier): void {
    this.#carriers.push(carrier);
    this.#note(item, `carrier/${carrier.network}/${carrier.host}`, carrier.generation);
  }

  addEndpoint(item: PublishItem, endpoint: Endpoint): void {
    this.#endpoints.push(endpoint);
    this.#note(item, `endpoint/${endpoint.network}/${endpoint.id}`, endpoint.generation);
  }

  addGone(item: Extract<PublishItem, { kind: 'gone' }>, generation: number): void {
    const { network, id } = item;
    if (id === null) this.#carriersGone.push({ network, generation });
    else this.#endpointsGone.push({ network, id, generation });
    this.#note(item, id === null ? `carrier/${network}` : `endpoint/${network}/${id}`, generation);
  }

  #note(item: PublishItem, key: string, generation: number): void {
    this.sent.push({ key, item, generation });
  }
}

/** Names an item within the queue. */
export function itemKey(item: PublishItem): string {
  switch (item.kind) {
    case 'block':
      return `block/${item.network}/${item.cidr}`;
    case 'service':
      return `service/${item.network}/${item.name}`;
    case 'endpoint':
      return `endpoint/${item.id}`;
    case 'gone':
      return `gone/${item.network}/${item.id ?? ''}`;
    default:
      return `${item.kind}/${item.network}`;
  }
}

function rankOf(item: PublishItem): Rank {
  return item.kind === 'gone' && item.id === null ? 'carrier-gone' : item.kind;
}
