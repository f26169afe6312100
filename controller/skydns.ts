import type { IRequestOp } from 'etcd3';
import { isOwnSkyDns, skyDnsFolders, skyDnsRecords, type SkyDnsPlace } from '../core/dns/skydns.js';
import { skyDnsKey } from '../core/keys.js';
import type { EtcdClient } from '../lib/etcd/client.js';
import type { Logger } from '../lib/log.js';
import { downHosts } from './liveness.js';
import type { Mirror } from './mirror.js';

export interface SkyDnsOptions {
  readonly client: EtcdClient;
  readonly mirror: Mirror;
  /** Null: off. What a controller that had it on left is removed. */
  readonly place: SkyDnsPlace | null;
  readonly livenessMs: () => number;
  readonly log: Logger;
  /** How long changes are gathered, ms. */
  readonly gatherMs?: number;
  /** How often hosts are looked after, and everything is read again, ms. */
  readonly auditMs?: number;
}

interface Observed {
  readonly value: string;
  readonly modRevision: number;
}

/** Below etcd's limit for comparisons and for operations of one transaction, 128 each. */
const batchSize = 100;
const auditDefaultMs = 30_000;
/** A host that dies changes no record of the mirror that would say so at once. */
const lookMs = 500;

/**
 * Keeps records for CoreDNS's etcd plugin like the endpoints that the mirror shows. Each write compares what was read
 * before, so any number of controllers may do it: one of them is first, and the others read again.
 */
export class SkyDns {
  readonly #options: SkyDnsOptions;
  readonly #unlisten: () => void;
  readonly #look: NodeJS.Timeout;
  #observed: Map<string, Observed> | null = null;
  #readMs = -Infinity;
  #down = '';
  #gathering: NodeJS.Timeout | undefined;
  #passing: Promise<void> = Promise.resolve();
  #isClosed = false;
  #isOver = false;

  constructor(options: SkyDnsOptions) {
    this.#options = options;
    this.#unlisten = options.mirror.listen({ onChanges: () => this.#soon(), onReset: () => this.#readAgain() });
    this.#look = setInterval(() => this.#lookAround(), lookMs);
    this.#look.unref();
    this.#soon();
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#unlisten();
    clearInterval(this.#look);
    clearTimeout(this.#gathering);
    return this.#passing;
  }

  #readAgain(): void {
    this.#observed = null;
    this.#isOver = false;
    this.#soon();
  }

  #lookAround(): void {
    const { mirror, livenessMs, auditMs = auditDefaultMs } = this.#options;
    const down = (downHosts(mirror, livenessMs()) ?? ['?']).join();
    const isDue = performance.now() - this.#readMs > auditMs;
    if (isDue) this.#observed = null;
    if (isDue || down !== this.#down) this.#soon();
    this.#down = down;
  }

  #soon(): void {
    if (this.#isClosed || this.#isOver) return;
    this.#gathering ??= setTimeout(() => {
      this.#gathering = undefined;
      this.#passing = this.#passing
        .then(() => this.#pass())
        .catch((error: unknown) => {
          this.#observed = null;
          this.#options.log.warn({ err: error }, 'records for CoreDNS could not be written; it is tried again');
        });
    }, this.#options.gatherMs ?? 100);
  }

  async #pass(): Promise<void> {
    const { client, mirror, place } = this.#options;
    if (this.#isClosed || !mirror.isConnected) return;
    if (this.#observed === null) {
      const mark = await client.get(skyDnsKey);
      const before = mark === undefined ? null : readPlace(mark.value.toString('utf8'));
      if (before !== null && !isSamePlace(before, place)) await this.#bring(await this.#read(before), new Map());
      const now = place === null ? undefined : JSON.stringify(place);
      if (mark?.value.toString('utf8') !== now)
        await this.#write([[skyDnsKey, now]], new Map(mark === undefined ? [] : [[skyDnsKey, observedOf(mark)]]));
      if (place === null) {
        this.#isOver = true;
        return;
      }
      this.#readMs = performance.now();
      this.#observed = await this.#read(place);
    }
    if (place !== null) await this.#bring(this.#observed, this.#wanted(place, this.#observed));
  }

  async #read(place: SkyDnsPlace): Promise<Map<string, Observed>> {
    const found = new Map<string, Observed>();
    for (const folder of skyDnsFolders(place))
      for (const kv of (await this.#options.client.list(folder)).kvs) found.set(kv.key, observedOf(kv));
    return found;
  }

  #wanted(place: SkyDnsPlace, observed: ReadonlyMap<string, Observed>): Map<string, string> {
    const { mirror, livenessMs } = this.#options;
    const { network, endpoint, service, host, liveness } = mirror.tables;
    const networks = [...network.all()].map(({ value }) => ({
      name: value.name,
      endpoints: [...endpoint.group(value.id).values()].map((stored) => stored.value),
      services: [...service.group(value.id).values()].map((stored) => stored.value),
    }));
    const down = downHosts(mirror, livenessMs());
    if (down !== undefined) return skyDnsRecords(place, networks, new Set(down));
    // Nothing is said of hosts that have not been heard yet: what there is of them stays.
    const silent = [...host.all()].flatMap(({ value }) =>
      liveness.get('', value.name) === undefined ? [value.name] : [],
    );
    const sure = skyDnsRecords(place, networks, new Set(silent));
    for (const [key, value] of skyDnsRecords(place, networks, new Set()))
      if (!sure.has(key) && observed.has(key)) sure.set(key, value);
    return sure;
  }

  /** Others' records are left: those that stand where one of ours would, and those that nobody wants. */
  async #bring(observed: Map<string, Observed>, wanted: ReadonlyMap<string, string>): Promise<void> {
    const changes: (readonly [string, string | undefined])[] = [];
    for (const [key, value] of wanted) {
      const known = observed.get(key)?.value;
      if (known !== value && (known === undefined || isOwnSkyDns(known))) changes.push([key, value]);
    }
    for (const [key, { value }] of observed) if (!wanted.has(key) && isOwnSkyDns(value)) changes.push([key, undefined]);
    for (let from = 0; from < changes.length; from += batchSize)
      if (!(await this.#write(changes.slice(from, from + batchSize), observed))) return;
  }

  /** Writes where nothing has changed since it was read; false, and everything is read again, where something has. */
  async #write(
    changes: readonly (readonly [string, string | undefined])[],
    observed: Map<string, Observed>,
  ): Promise<boolean> {
    const compare = changes.map(([key]) => ({
      key: Buffer.from(key),
      target: 'Mod' as const,
      result: 'Equal' as const,
      mod_revision: observed.get(key)?.modRevision ?? 0,
    }));
    const operations = changes.map(([key, value]): IRequestOp =>
      value === undefined
        ? { request_delete_range: { key: Buffer.from(key) } }
        : { request_put: { key: Buffer.from(key), value: Buffer.from(value) } },
    );
    const { succeeded, revision } = await this.#options.client.txn(compare, operations);
    if (!succeeded) {
      this.#readAgain();
      return false;
    }
    for (const [key, value] of changes) {
      if (value === undefined) observed.delete(key);
      else observed.set(key, { value, modRevision: revision });
    }
    return true;
  }
}

function observedOf(kv: { readonly value: Buffer; readonly modRevision: number }): Observed {
  return { value: kv.value.toString('utf8'), modRevision: kv.modRevision };
}

function readPlace(text: string): SkyDnsPlace | null {
  try {
    const { prefix, domain } = JSON.parse(text) as Partial<SkyDnsPlace>;
    return typeof prefix === 'string' && typeof domain === 'string' ? { prefix, domain } : null;
  } catch {
    return null;
  }
}

function isSamePlace(a: SkyDnsPlace, b: SkyDnsPlace | null): boolean {
  return b !== null && a.prefix === b.prefix && a.domain === b.domain;
}
