import { vethName } from '../../core/ids.js';
import { addTo, dropFrom } from '../../core/set-map.js';
import type { Journal } from '../journal/journal.js';
import type { OwnEndpoint } from '../journal/entries.js';

/**
 * Own endpoints by what they are looked up by: caller, sandbox, link, network. The journal stays the owner of the
 * records; everything that changes them goes through `put` and `remove` here.
 */
export class OwnIndex {
  readonly #journal: Journal;
  readonly #byCaller = new Map<string, Set<string>>();
  readonly #byCookie = new Map<string, Set<string>>();
  readonly #byNetwork = new Map<string, Set<string>>();
  readonly #byLink = new Map<string, string>();
  readonly #listeners = new Set<(id: string) => void>();

  constructor(journal: Journal) {
    this.#journal = journal;
    for (const own of journal.endpoints()) this.#add(own);
  }

  get(id: string): OwnEndpoint | undefined {
    return this.#journal.endpoint(id);
  }

  /** Writes the journal, then the index. */
  put(own: OwnEndpoint): OwnEndpoint {
    const before = this.#journal.endpoint(own.record.id);
    this.#journal.putEndpoint(own);
    if (before === undefined || !isFoundAlike(before, own)) {
      if (before !== undefined) this.#drop(before);
      this.#add(own);
    }
    for (const listener of this.#listeners) listener(own.record.id);
    return own;
  }

  /** Calls `listener` with the endpoint's id after each change; returns how to stop it. */
  onChange(listener: (id: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  remove(id: string): void {
    const before = this.#journal.endpoint(id);
    if (before === undefined) return;
    this.#journal.removeEndpoint(id);
    this.#drop(before);
    for (const listener of this.#listeners) listener(id);
  }

  ofCaller(network: string, callerId: string): OwnEndpoint[] {
    return this.ofCallerAnywhere(callerId).filter(({ record }) => record.network === network);
  }

  /** Of one caller's id on all networks. */
  ofCallerAnywhere(callerId: string): OwnEndpoint[] {
    return this.#list(this.#byCaller.get(callerId));
  }

  ofSandbox(cookie: string): OwnEndpoint[] {
    return this.#list(this.#byCookie.get(cookie));
  }

  ofLink(name: string): OwnEndpoint | undefined {
    const id = this.#byLink.get(name);
    return id === undefined ? undefined : this.get(id);
  }

  ofNetwork(network: string): OwnEndpoint[] {
    return this.#list(this.#byNetwork.get(network));
  }

  countOf(network: string): number {
    return this.#byNetwork.get(network)?.size ?? 0;
  }

  #list(ids: ReadonlySet<string> | undefined): OwnEndpoint[] {
    const found: OwnEndpoint[] = [];
    for (const id of ids ?? []) {
      const own = this.get(id);
      if (own !== undefined) found.push(own);
    }
    return found;
  }

  #add(own: OwnEndpoint): void {
    const { id, network, callerId } = own.record;
    addTo(this.#byCaller, callerId, id);
    addTo(this.#byNetwork, network, id);
    if (own.cookie !== null) addTo(this.#byCookie, own.cookie, id);
    this.#byLink.set(vethName(id), id);
  }

  #drop(own: OwnEndpoint): void {
    const { id, network, callerId } = own.record;
    dropFrom(this.#byCaller, callerId, id);
    dropFrom(this.#byNetwork, network, id);
    if (own.cookie !== null) dropFrom(this.#byCookie, own.cookie, id);
    this.#byLink.delete(vethName(id));
  }
}

/** Whether all that leads to an endpoint is the same of both. */
function isFoundAlike(a: OwnEndpoint, b: OwnEndpoint): boolean {
  return a.cookie === b.cookie && a.record.callerId === b.record.callerId && a.record.network === b.record.network;
}
