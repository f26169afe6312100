import { randomBytes } from 'node:crypto';
import { controllerKey, settingsKey } from '../core/keys.js';
import type { ClusterSettings } from '../core/model.js';
import type { EtcdClient } from '../lib/etcd/client.js';
import { holdLease, type HeldLease, type LeaseKeeper } from '../lib/etcd/lease.js';
import { transact, type Txn } from '../lib/etcd/txn.js';
import type { Logger } from '../lib/log.js';
import { Backoff } from '../lib/sync/backoff.js';
import type { Mirror } from './mirror.js';
import {
  guardPlaces,
  listControllerPlaces,
  putControllerPlaces,
  type ControllerPlaces,
  type GuardedPlaces,
} from './store/controllers.js';
import { decodeRecord } from './store/record.js';
import { ensureSettings, placesWithout, removeGuarded } from './store/settings.js';

export interface PlaceKeeperOptions {
  /** Of this controller, kept over restarts. */
  readonly id: string;
  /** Where this controller and its store are; what cannot be found out now is left out. */
  readonly ownPlaces: () => Promise<GuardedPlaces>;
  readonly settings: Omit<ClusterSettings, 'v' | 'generation' | 'guarded'>;
  readonly client: EtcdClient;
  readonly keeper: LeaseKeeper;
  readonly mirror: Pick<Mirror, 'listen'>;
  /** How long places stay guarded that no controller names any longer. */
  readonly keepMs: number;
  readonly log: Logger;
}

/** Begins the ids of records of places that were left without a controller. */
const leftPrefix = 'left-';

/**
 * Keeps the places that no sandbox may reach: each controller's own, and those of its store. Each controller names its
 * places in a record that is bound to a lease of many days. A lease runs out only while the store works and hears
 * nothing of the controller, so what is named by one that lives stays, and an outage of the store changes nothing. Places
 * in the settings that nobody names (a controller now listens elsewhere, could not find its store out this time, or is of
 * an older version) get a record of their own and as many days. Only what a record that is gone had named is taken away,
 * and only as far as no other record names it.
 */
export class PlaceKeeper {
  readonly #options: PlaceKeeperOptions;
  readonly #stopping = new AbortController();
  readonly #stopListening: () => void;
  #lease: HeldLease | undefined;
  #removing: Promise<void> = Promise.resolve();

  constructor(options: PlaceKeeperOptions) {
    this.#options = options;
    this.#stopListening = options.mirror.listen({
      onChanges: (changes) => {
        for (const change of changes)
          if (change.kind === 'controller' && change.after === undefined && change.before !== undefined)
            this.#goneSoon(change.before.value);
      },
      onReset: () => undefined,
    });
  }

  /** Lets go of the lease without ending it: a controller that stops is still guarded. */
  async close(): Promise<void> {
    this.#stopListening();
    this.#stopping.abort();
    await this.#lease?.ended;
    await this.#removing;
  }

  /** Called whenever the store has been listed: another store has neither settings nor leases. */
  async prepare(): Promise<void> {
    const { client, settings, ownPlaces } = this.#options;
    const guarded = await ownPlaces();
    await transact(client, (txn) => ensureSettings(txn, { ...settings, guarded }), { what: 'settings' });
    if (this.#lease === undefined) await this.#hold();
    else this.#lease.renew();
  }

  async #hold(): Promise<void> {
    const { client, keeper, keepMs, id, log } = this.#options;
    // The lease of the run before: a controller that is started again and again leaves one, not many.
    const before = (await client.get(controllerKey(id)))?.lease;
    this.#lease ??= holdLease(keeper, {
      ttlMs: keepMs,
      ...(before === undefined || before === '0' ? {} : { leaseId: before }),
      attach: (leaseId) => this.#register(leaseId),
      onError: (error) => log.warn({ error: String(error) }, 'places of this controller are not written down yet'),
      signal: this.#stopping.signal,
    });
  }

  async #register(leaseId: string): Promise<void> {
    const { client, keeper, keepMs, id, settings, ownPlaces } = this.#options;
    const places = await ownPlaces();
    const register = async (txn: Txn, leftLease?: string): Promise<boolean> => {
      await guardPlaces(txn);
      const { guarded = [] } = await ensureSettings(txn, { ...settings, guarded: places });
      const named = (await listControllerPlaces(txn)).filter((other) => other.id !== id);
      const left = placesWithout(guarded, [...places, ...named.flatMap((other) => other.places)]);
      putControllerPlaces(txn, { id, places }, leaseId);
      if (left.length === 0) return true;
      if (leftLease === undefined) return false;
      putControllerPlaces(txn, { id: `${leftPrefix}${randomBytes(8).toString('hex')}`, places: left }, leftLease);
      return true;
    };
    const what = 'places of this controller';
    const { result: isWhole } = await transact(client, (txn) => register(txn), { what });
    if (isWhole) return;
    const left = await keeper.grant(keepMs);
    await transact(client, (txn) => register(txn, left.leaseId), { what });
  }

  #goneSoon(gone: ControllerPlaces): void {
    this.#removing = this.#removing.then(() => this.#gone(gone));
  }

  /** Every controller does so; whoever comes later finds nothing to do. */
  async #gone({ id, places }: ControllerPlaces): Promise<void> {
    const { client, log } = this.#options;
    const { signal } = this.#stopping;
    const backoff = new Backoff(50, 1000);
    while (!signal.aborted) {
      try {
        await transact(client, (txn) => this.#remove(txn, places), { what: 'places of a controller that is gone' });
        log.info({ id, places }, 'places of a controller that is gone are no longer guarded, but for those of others');
        return;
      } catch (error) {
        log.warn({ error: String(error) }, 'places of a controller that is gone are still guarded');
        await backoff.wait(signal);
      }
    }
  }

  async #remove(txn: Txn, places: GuardedPlaces): Promise<void> {
    const held = await txn.get(settingsKey);
    const { guarded = [] } = held === undefined ? {} : decodeRecord<ClusterSettings>(held);
    const named = (await listControllerPlaces(txn)).flatMap((other) => other.places);
    const gone = placesWithout(places, named);
    if (placesWithout(guarded, gone).length === guarded.length) return;
    await guardPlaces(txn);
    await removeGuarded(txn, gone);
  }
}
