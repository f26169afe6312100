import type { NativeApi, NetnsRef } from '../../native/api.js';
import { tsnetProtocol, type KernelFdbPort } from '../../core/kernel.js';
import { addrList } from '../../lib/netlink/addr.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { isNetlinkError } from '../../lib/netlink/errors.js';
import { fdbList } from '../../lib/netlink/fdb.js';
import type { Link } from '../../lib/netlink/link-value.js';
import { linkGet, linkList } from '../../lib/netlink/link.js';
import type { NetlinkEvent } from '../../lib/netlink/monitor.js';
import { neighList } from '../../lib/netlink/neigh.js';
import { routeList } from '../../lib/netlink/route.js';
import { Feed } from './feed.js';
import { KeyedIndex } from './keyed-index.js';
import { linkEntry, LinkTable, type LinkEntry } from './link-table.js';
import { isAsDesired, isLink, keyOf, linkNameOf, type ObservedObject } from './object.js';
import { observedAddr, observedFdb, observedLink, observedNeigh, observedPort, observedRoute } from './observe.js';

/** Links of ours that are the reconciler's to make and remove; those of endpoints belong to attach. */
const networkMarks = new Set(['bridge', 'vxlan', 'shim']);

/** What the view tells of. */
export interface KernelViewListener {
  /** An object of ours is another now, or gone. */
  onObject(key: string): void;
  /** A link came under this name, went, or changed hands. `before` and `after` are undefined while there is none. */
  onLink(name: string, before: LinkEntry | undefined, after: LinkEntry | undefined): void;
  /** Notifications were lost: `load` must be called. */
  onLoss(cause: unknown): void;
}

/**
 * What the kernel has of ours in one namespace: read in full by `load`, then kept current by its
 * notifications. Objects are ours by their mark, forwarding entries by the mark of their link.
 */
export class KernelView {
  readonly links = new LinkTable();
  readonly #objects = new KeyedIndex<ObservedObject>(linkNameOf);
  /** Keys seen while a `load` is under way: newer than what it reads. */
  #touched: Set<string> | undefined;
  /** Links whose IPv4 routes may be gone: the kernel drops them, with their source or with a link's fall, unannounced. */
  readonly #routesSuspect = new Set<string>();
  /** Which port of a bridge has a MAC: a bridge has one entry for it, and moving it is told of the new port only. */
  readonly #holders = new Map<string, string>();
  #feed: Feed | undefined;

  constructor(
    private readonly connection: NetlinkConnection,
    private readonly listener: KernelViewListener,
  ) {}

  /**
   * Subscribes to the namespace, which must be the connection's, unless a subscription stands; `load` is
   * the caller's to call afterwards.
   */
  async open(native: NativeApi, netns: NetnsRef | undefined): Promise<void> {
    if (this.#feed?.closed === false) return;
    this.#feed = await Feed.open(native, netns, (event) => this.#take(event));
  }

  /** Objects of ours by key. */
  get objects(): ReadonlyMap<string, ObservedObject> {
    return this.#objects.map;
  }

  close(): void {
    this.#feed?.close();
  }

  /** Resolves when all that the kernel has said up to now is taken in. See Feed.barrier. */
  async barrier(isHurried = true): Promise<void> {
    await this.#feed?.barrier(isHurried);
  }

  /** Takes note of what an acknowledged request made, where no notification has said it. */
  assume(key: string, object: ObservedObject | undefined): void {
    this.#put(key, object);
  }

  /** Reads everything again. Returns the keys that were not as they were thought to be. */
  async load(): Promise<ReadonlySet<string>> {
    const touched = new Set<string>();
    this.#touched = touched;
    try {
      const links = await linkList(this.connection);
      const listed = new Set(links.map(({ ifindex }) => ifindex));
      // Parents and masters first need their names in the table; a link's own objects refer to them.
      for (const link of links) if (!touched.has(`ifindex ${link.ifindex}`)) this.#learnEntry(link);
      for (const entry of [...this.links.values()]) {
        if (!listed.has(entry.ifindex) && !touched.has(`ifindex ${entry.ifindex}`)) this.#forgetLink(entry);
      }
      const fresh = new Map<string, ObservedObject>();
      for (const link of links) for (const object of this.#linkObjects(link)) fresh.set(keyOf(object), object);
      for (const object of await this.#dumpOnLinks()) fresh.set(keyOf(object), object);
      return this.#merge(fresh, [...this.#objects.map.keys()], touched);
    } finally {
      this.#touched = undefined;
    }
  }

  /** Reads the routes of links again that may have lost some without a notification. */
  async reloadSuspectRoutes(): Promise<void> {
    for (const name of [...this.#routesSuspect]) {
      this.#routesSuspect.delete(name);
      const known = this.#objects.keysOn(name).filter((key) => this.#objects.get(key)?.kind === 'route');
      const entry = this.links.byName(name);
      if (known.length === 0 || entry === undefined) continue;
      const touched = new Set<string>();
      this.#touched = touched;
      try {
        const routes = await routeList(this.connection, { ifindex: entry.ifindex, protocol: tsnetProtocol });
        const fresh = new Map<string, ObservedObject>();
        for (const route of routes) {
          const object = observedRoute(route, name);
          if (object !== undefined) fresh.set(keyOf(object), object);
        }
        this.#merge(fresh, known, touched);
      } finally {
        this.#touched = undefined;
      }
    }
  }

  get hasSuspectRoutes(): boolean {
    return this.#routesSuspect.size > 0;
  }

  /** Asks for one link, for whoever cannot wait for its notification. */
  async refreshLink(name: string): Promise<LinkEntry | undefined> {
    try {
      this.learnLink(await linkGet(this.connection, name));
    } catch (error) {
      if (!isNetlinkError(error, 'ENODEV')) throw error;
      const entry = this.links.byName(name);
      if (entry !== undefined) this.#forgetLink(entry);
    }
    return this.links.byName(name);
  }

  /** Takes in a link as the kernel describes it. */
  learnLink(link: Link): void {
    this.#learnEntry(link);
    this.#putLinkObjects(link);
  }

  #take(event: NetlinkEvent): void {
    switch (event.kind) {
      case 'link':
        this.#touched?.add(`ifindex ${event.link.ifindex}`);
        if (event.change === 'new') return this.learnLink(event.link);
        return this.#forgetIndex(event.link.ifindex);
      case 'bridgePort': {
        const name = this.#oursByIndex(event.link.ifindex);
        if (name === undefined) return;
        const port = event.change === 'new' ? observedPort(event.link, this.#nameOf) : undefined;
        return this.#put(`port ${name}`, port);
      }
      case 'addr': {
        const link = this.#oursByIndex(event.addr.ifindex);
        if (link === undefined) return;
        const object = event.change === 'new' ? observedAddr(event.addr, link) : undefined;
        if (event.change === 'delete') this.#suspectRoutes(link);
        return this.#put(keyOf({ kind: 'addr', link, address: event.addr.address, deprecated: false }), object);
      }
      case 'route': {
        const { route } = event;
        const link = this.#oursByIndex(route.ifindex ?? 0);
        if (link === undefined) return;
        const object = observedRoute(route, link);
        if (object !== undefined) this.#put(keyOf(object), event.change === 'new' ? object : undefined);
        return;
      }
      case 'neigh': {
        const { neigh } = event;
        const link = this.#oursByIndex(neigh.ifindex);
        if (link === undefined) return;
        const object = event.change === 'new' ? observedNeigh(neigh, link) : undefined;
        return this.#put(keyOf({ kind: 'neigh', link, address: neigh.dst, mac: '' }), object);
      }
      case 'fdb': {
        const link = this.#oursByIndex(event.fdb.ifindex);
        const object = link === undefined ? undefined : observedFdb(event.fdb, link);
        if (object === undefined) return;
        const key = keyOf(object);
        if (event.change === 'new') return this.#put(key, object);
        const known = this.#objects.get(key);
        // The destination that was replaced is reported gone after the new one is reported.
        if (known !== undefined && !isAsDesired(known, object)) return;
        return this.#put(key, undefined);
      }
      case 'resync':
        return this.listener.onLoss(event.cause);
      case 'closed':
        return this.listener.onLoss(event.cause);
    }
  }

  readonly #nameOf = (ifindex: number): string | undefined => this.links.byIndex(ifindex)?.name;

  #oursByIndex(ifindex: number): string | undefined {
    const entry = this.links.byIndex(ifindex);
    return entry === undefined || entry.mark === null ? undefined : entry.name;
  }

  #suspectRoutes(link: string): void {
    if (this.#objects.keysOn(link).some((key) => this.#objects.get(key)?.kind === 'route'))
      this.#routesSuspect.add(link);
  }

  #learnEntry(link: Link): void {
    const entry = linkEntry(link);
    const sameIndex = this.links.byIndex(entry.ifindex);
    if (sameIndex !== undefined && sameIndex.name !== entry.name) this.#forgetLink(sameIndex);
    const before = this.links.byName(entry.name);
    if (before !== undefined && before.ifindex !== entry.ifindex) this.#forgetLink(before);
    this.links.set(entry);
    const known = before?.ifindex === entry.ifindex ? before : undefined;
    if (known?.up !== entry.up) this.#suspectRoutes(entry.name);
    if (known === undefined || known.alias !== entry.alias) this.listener.onLink(entry.name, known, entry);
  }

  /** A link's own objects, where it is ours. */
  #linkObjects(link: Link): ObservedObject[] {
    const mark = this.links.byIndex(link.ifindex)?.mark;
    if (mark === undefined || mark === null) return [];
    const objects = observedLink(link, this.#nameOf);
    return networkMarks.has(mark.kind) ? objects : objects.filter((object) => !isLink(object));
  }

  #putLinkObjects(link: Link): void {
    const objects = new Map(this.#linkObjects(link).map((object) => [keyOf(object), object]));
    for (const key of [`link ${link.ifname}`, `port ${link.ifname}`, `up ${link.ifname}`])
      this.#put(key, objects.get(key));
  }

  #forgetIndex(ifindex: number): void {
    const entry = this.links.byIndex(ifindex);
    if (entry !== undefined) this.#forgetLink(entry);
  }

  #forgetLink(entry: LinkEntry): void {
    this.links.delete(entry);
    const keys = this.#objects.keysOn(entry.name);
    for (const key of keys) {
      const object = this.#objects.get(key);
      if (object?.kind === 'fdb-port') this.#release(key, object);
    }
    for (const key of keys) this.#objects.delete(key);
    this.#routesSuspect.delete(entry.name);
    for (const key of keys) {
      this.#touched?.add(key);
      this.listener.onObject(key);
    }
    this.listener.onLink(entry.name, entry, undefined);
  }

  #put(key: string, object: ObservedObject | undefined): void {
    this.#touched?.add(key);
    const before = this.#objects.get(key);
    if (object === undefined) {
      if (before === undefined) return;
      if (before.kind === 'fdb-port') this.#release(key, before);
      this.#objects.delete(key);
    } else {
      this.#objects.set(key, object);
      if (object.kind === 'fdb-port') this.#hold(key, object);
    }
    this.listener.onObject(key);
  }

  /** Where in a bridge's table an entry stands; undefined while its port is none. */
  #placeOf(object: KernelFdbPort): string | undefined {
    const port = this.#objects.get(`port ${object.link}`);
    return port?.kind === 'port' ? `${port.master} ${object.mac}` : undefined;
  }

  #release(key: string, object: KernelFdbPort): void {
    const place = this.#placeOf(object);
    if (place !== undefined && this.#holders.get(place) === key) this.#holders.delete(place);
  }

  #hold(key: string, object: KernelFdbPort): void {
    const place = this.#placeOf(object);
    if (place === undefined) return;
    const former = this.#holders.get(place);
    this.#holders.set(place, key);
    if (former !== undefined && former !== key) this.#put(former, undefined);
  }

  /** The entry that a bridge has for the MAC of another of its ports' entries. */
  holderOf(object: KernelFdbPort): string | undefined {
    const place = this.#placeOf(object);
    const key = place === undefined ? undefined : this.#holders.get(place);
    return key !== undefined && this.#objects.get(key) !== undefined ? key : undefined;
  }

  async #dumpOnLinks(): Promise<ObservedObject[]> {
    const [addrs, routes, neighs, fdbs] = await Promise.all([
      addrList(this.connection),
      routeList(this.connection, { protocol: tsnetProtocol }),
      neighList(this.connection),
      fdbList(this.connection),
    ]);
    const on = <T>(
      values: readonly T[],
      ifindexOf: (value: T) => number,
      observe: (value: T, link: string) => ObservedObject | undefined,
    ) =>
      values.flatMap((value) => {
        const link = this.#oursByIndex(ifindexOf(value));
        const object = link === undefined ? undefined : observe(value, link);
        return object === undefined ? [] : [object];
      });
    return [
      ...on(addrs, ({ ifindex }) => ifindex, observedAddr),
      ...on(routes, ({ ifindex = 0 }) => ifindex, observedRoute),
      ...on(neighs, ({ ifindex }) => ifindex, observedNeigh),
      ...on(fdbs, ({ ifindex }) => ifindex, observedFdb),
    ];
  }

  /** Brings what was read into the view, except where a notification has said something since. */
  #merge(
    fresh: ReadonlyMap<string, ObservedObject>,
    known: readonly string[],
    touched: ReadonlySet<string>,
  ): ReadonlySet<string> {
    const newer = new Set(touched);
    const wrong = new Set<string>();
    for (const key of known) {
      if (newer.has(key) || fresh.has(key) || !this.#objects.map.has(key)) continue;
      wrong.add(key);
      this.#put(key, undefined);
    }
    for (const [key, object] of fresh) {
      if (newer.has(key)) continue;
      const before = this.#objects.get(key);
      if (before !== undefined && isAsDesired(before, object) && before.deviation === object.deviation) continue;
      wrong.add(key);
      this.#put(key, object);
    }
    return wrong;
  }
}
