import type { EndpointView } from '../../core/api/endpoint.js';
import type { HostRegister } from '../../core/api/host.js';
import type { Publication, PublicationResult } from '../../core/api/publication.js';
import { toTsnetError } from '../../core/errors.js';
import type { Block, Carve, Cursor, Policy } from '../../core/model.js';
import { isSelectedBy } from '../../core/service/backend.js';
import type { Logger } from '../../lib/log.js';
import type { Journal } from '../journal/journal.js';
import type { ClusterState } from '../state/cluster-state.js';
import type { ControllerClient } from './controller-client.js';
import type { Announcement } from './announcements.js';
import { Publisher } from './publisher.js';
import type { PublishWarning } from './refusals.js';
import { Watch } from './watch.js';

/** Who decides on blocks and carves: HostAddresses. */
export interface BlockListener {
  blockPut(block: Block): void;
  blockGone(network: string, cidr: string): void;
  /** All blocks of this host that the store has; returns those of the journal that it lacks. */
  blockSet(blocks: readonly Block[]): readonly Block[];
  blockFenced(network: string, cidr: string): void;
  carvePut(carve: Carve): void;
  carveGone(id: string): void;
  carveSet(ids: ReadonlySet<string>): void;
}

export interface ClusterSyncOptions {
  readonly host: string;
  readonly client: ControllerClient;
  readonly journal: Journal;
  readonly state: ClusterState;
  readonly blocks: BlockListener;
  readonly log: Logger;
  /** What this host says of itself; asked at each connection. */
  readonly register: () => HostRegister;
}

export interface SyncStatus {
  /** Null while no controller can be reached. */
  readonly controller: string | null;
  readonly cursor: Cursor | null;
  readonly unpublished: number;
  readonly warnings: readonly PublishWarning[];
}

/** Keeps this host and the cluster in step: the stream in, the records of the journal out. */
export class ClusterSync {
  readonly #options: ClusterSyncOptions;
  readonly #watch: Watch;
  readonly #publisher: Publisher;
  readonly #unsubscribe: () => void;
  readonly #progressListeners = new Set<() => void>();
  #rebased = false;
  #swept = false;

  constructor(options: ClusterSyncOptions) {
    this.#options = options;
    const { client, journal, state, blocks, log, host } = options;
    const path = `/v1/hosts/${encodeURIComponent(host)}/publish`;
    this.#publisher = new Publisher({
      journal,
      foreign: {
        network: (id) => state.network(id),
        lostService: (network, name) => state.unconfirmedService(network, name),
        isBackend: (endpoint) =>
          endpoint.draining !== true &&
          [...state.servicesOf(endpoint.network)].some((service) => isSelectedBy(service, endpoint)),
      },
      send: (body: Publication) => client.call<PublicationResult>('POST', path, { body, repeatable: true }),
      log,
      onBlockFenced: (network, cidr) => blocks.blockFenced(network, cidr),
    });
    this.#watch = new Watch({
      client,
      host,
      journal,
      state,
      log,
      register: options.register,
      events: {
        connected: (rebased) => this.#connected(rebased),
        disconnected: () => this.#publisher.pause(),
        settled: () => this.#settled(),
        progressed: () => this.#progressListeners.forEach((listener) => listener()),
        blockPut: (block) => blocks.blockPut(block),
        blockGone: (network, cidr) => {
          blocks.blockGone(network, cidr);
          // Taken from us, not given back by us: whether another host has it by now is the controller's to say.
          if (journal.addresses.block(network, cidr) !== undefined) this.#publisher.publishBlock(network, cidr);
        },
        blockSet: (held) => {
          for (const { network, cidr } of blocks.blockSet(held)) this.#publisher.publishBlock(network, cidr);
        },
        carvePut: (carve) => blocks.carvePut(carve),
        carveGone: (id) => blocks.carveGone(id),
        carveSet: (ids) => blocks.carveSet(ids),
      },
    });
    for (const { record } of journal.carriers()) this.#watch.addInterest(record.network);
    this.#unsubscribe = journal.onChange((change) => {
      if (change.kind === 'carrier') this.#watch.addInterest(change.network);
      else if (change.kind === 'gone' && change.id === null) this.#watch.removeInterest(change.network);
    });
  }

  /** Whether the stream lives. */
  get isConnected(): boolean {
    return this.#watch.controller !== null;
  }

  start(): void {
    this.#watch.start();
  }

  /** Says again what this host is: its underlay has changed, and with that the connections to controllers may be dead. */
  registerAgain(): void {
    this.#options.client.close();
    this.#watch.reconnect();
  }

  async stop(): Promise<void> {
    this.#unsubscribe();
    this.#publisher.stop();
    await this.#watch.stop();
  }

  /** Calls `listener` at each heartbeat: whatever the cluster has said up to now has been applied. Returns what ends that. */
  onProgress(listener: () => void): () => void {
    this.#progressListeners.add(listener);
    return () => this.#progressListeners.delete(listener);
  }

  /** Wants carriers and endpoints of a network before the host carries it; journaled carriers are wanted anyway. */
  addInterest(network: string): void {
    this.#watch.addInterest(network);
  }

  /** See Publisher.announceCarrier. */
  announceCarrier(network: string): Promise<Announcement> {
    return this.#publisher.announceCarrier(network);
  }

  status(): SyncStatus {
    const { client, state } = this.#options;
    const warnings = [...this.#publisher.warnings];
    const { error } = this.#watch;
    if (error !== null) warnings.push({ code: error.code, message: error.message });
    if (client.tokenError !== null)
      warnings.push({ code: 'ERR_UNAUTHENTICATED', message: `token file: ${client.tokenError}` });
    return {
      controller: this.#watch.controller,
      cursor: state.cursor,
      unpublished: this.#publisher.unpublished,
      warnings,
    };
  }

  #connected(rebased: boolean): void {
    this.#rebased ||= rebased;
    // What a rebased store lacks is known after its full set; until then endpoints could refer to networks that it lost.
    if (!this.#rebased) this.#publisher.resume();
  }

  #settled(): void {
    if (this.#rebased) {
      this.#rebased = false;
      this.#swept = false;
      const { state } = this.#options;
      this.#publisher.refill(state.unconfirmedNetworks(), state.unconfirmedServices());
      for (const policy of state.unconfirmedPolicies()) void this.#refillPolicy(policy);
      this.#publisher.resume();
    }
    if (this.#swept) return;
    this.#swept = true;
    void this.#withdrawUnknown();
  }

  /** Every agent that knows it tries: the first one makes it. */
  async #refillPolicy({ v: _v, generation: _generation, createdAt: _createdAt, ...body }: Policy): Promise<void> {
    const { client, log } = this.#options;
    try {
      await client.call('POST', '/v1/policies', { body });
      log.warn({ policy: body.name }, 'made a policy again that the store had lost');
    } catch (error) {
      if (toTsnetError(error).code === 'ERR_POLICY_EXISTS') return;
      log.error({ policy: body.name, error: String(error) }, 'a policy that the store lost could not be made again');
    }
  }

  /** Endpoints that the store has of this host and the journal does not know, also in networks that it no longer carries. */
  async #withdrawUnknown(): Promise<void> {
    const { client, host, journal, state, log } = this.#options;
    try {
      const views = await client.call<readonly EndpointView[]>('GET', `/v1/endpoints?host=${encodeURIComponent(host)}`);
      for (const { id, network: name, generation } of views) {
        const network = state.networkByRef(name);
        if (network !== undefined) journal.observeOwn({ network: network.id, id, generation });
      }
    } catch (error) {
      this.#swept = false;
      log.debug({ code: toTsnetError(error).code }, `own endpoints not compared: ${toTsnetError(error).message}`);
    }
  }
}
