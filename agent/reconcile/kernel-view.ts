import type { NativeApi, NetnsRef } from '../../native/api.js';
import type { KernelFdbPort } from '../../core/kernel.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { isNetlinkError } from '../../lib/netlink/errors.js';
import type { Link } from '../../lib/netlink/link-value.js';
import { linkGet, linkList } from '../../lib/netlink/link.js';
import type { NetlinkEvent } from '../../lib/netlink/monitor.js';
import { byKey, dumpOnLinks, dumpRoutes } from './dump.js';
import { Feed } from './feed.js';
import { linkEntry, LinkTable, type LinkEntry } from './link-table.js';
import { isAsDesired, isLink, keyOf, type ObservedObject } from './object.js';
import { observedAddr, observedFdb, observedLink, observedNeigh, observedPort, observedRoute } from './observe.js';
import { ObservedState, type Reading } from './observed-state.js';

/** Links of ours that are the reconciler's to make and remove; those of endpoints belong to attach. */
const networkMarks = new Set(['bridge', 'vxlan', 'shim']);

/** What the view tells of. */
export interface KernelViewListener {
  /** An object of ours is another now, or gone. */
  onObject(key: string): void;
  /** A link came under this name, went, or changed hands. `before` and `after` are undefined while there is none. */
  onLink(name: string, before: LinkEntry | undefined, after: LinkEntry | undefined): void;
  /** Notifications were lost, so that everything must be read again. */
  onLoss(cause: unknown): void;
}

/**
 * What the kernel has of ours in one namespace: read in full by `load`, then kept current by its
 * notifications. Objects are ours by their mark, forwarding entries by the mark of their link.
 */
export class KernelView {
  readonly links = new LinkTable();
  readonly #observed: ObservedState;
  /** Links whose IPv4 routes may be gone: the kernel drops them, with their source or with a link's fall, unannounced. */
  readonly #routesSuspect = new Set<string>();
  #feed: Feed | undefined;
  #isDoubted = false;

  constructor(
    private readonly connection: NetlinkConnection,
    private readonly listener: KernelViewListener,
  ) {
    this.#observed = new ObservedState((key) => listener.onObject(key));
  }

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
    return this.#observed.map;
  }

  close(): void {
    this.#feed?.close();
  }

  /** Resolves when all that the kernel has said up to now is taken in. See Feed.barrier. */
  async barrier(isHurried = true): Promise<void> {
    await this.#feed?.barrier(isHurried);
  }

  /** Says that what comes next is of our own making: see Feed.gather. */
  gather(): void {
    this.#feed?.gather();
  }

  /** Takes note of what an acknowledged request made, where no notification has said it. */
  assume(key: string, object: ObservedObject | undefined): void {
    this.#observed.put(key, object);
  }

  /** Reads everything again. */
  async load(): Promise<void> {
    this.#isDoubted = false;
    try {
      await this.#observed.take((touched) => this.#readAll(touched));
    } catch (error) {
      this.doubt();
      throw error;
    }
  }

  /** What is thought to be there may not be what is there: everything is to be read again. */
  doubt(): void {
    this.#isDoubted = true;
  }

  get isDoubted(): boolean {
    return this.#isDoubted;
  }

  /** Reads the routes of links again that may have lost some without a notification. */
  async reloadSuspectRoutes(): Promise<void> {
    for (const name of [...this.#routesSuspect]) {
      this.#routesSuspect.delete(name);
      const known = this.#routesOn(name);
      const entry = this.links.byName(name);
      if (known.length === 0 || entry === undefined) continue;
      await this.#observed.take(async () => ({ fresh: byKey(await dumpRoutes(this.connection, entry)), known }));
    }
  }

  /** The entry that a bridge has for the MAC of another of its ports' entries. */
  holderOf(object: KernelFdbPort): string | undefined {
    return this.#observed.holderOf(object);
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

  async #readAll(touched: ReadonlySet<string>): Promise<Reading> {
    const links = await linkList(this.connection);
    const listed = new Set(links.map(({ ifindex }) => ifindex));
    // Parents and masters first need their names in the table; a link's own objects refer to them.
    for (const link of links) if (!touched.has(`ifindex ${link.ifindex}`)) this.#learnEntry(link);
    for (const entry of [...this.links.values()]) {
      if (!listed.has(entry.ifindex) && !touched.has(`ifindex ${entry.ifindex}`)) this.#forgetLink(entry);
    }
    const objects = links.flatMap((link) => this.#linkObjects(link));
    const onLinks = await dumpOnLinks(this.connection, this.#ourNameOf);
    return { fresh: byKey([...objects, ...onLinks]), known: [...this.objects.keys()] };
  }

  #take(event: NetlinkEvent): void {
    switch (event.kind) {
      case 'link':
        this.#observed.touch(`ifindex ${event.link.ifindex}`);
        if (event.change === 'new') return this.learnLink(event.link);
        return this.#forgetIndex(event.link.ifindex);
      case 'bridgePort': {
        const name = this.#ourNameOf(event.link.ifindex);
        if (name === undefined) return;
        const port = event.change === 'new' ? observedPort(event.link, this.#nameOf) : undefined;
        return this.#observed.put(`port ${name}`, port);
      }
      case 'addr': {
        const link = this.#ourNameOf(event.addr.ifindex);
        if (link === undefined) return;
        const object = event.change === 'new' ? observedAddr(event.addr, link) : undefined;
        if (event.change === 'delete') this.#suspectRoutes(link);
        return this.#observed.put(
          keyOf({ kind: 'addr', link, address: event.addr.address, deprecated: false }),
          object,
        );
      }
      case 'route': {
        const { route } = event;
        const link = this.#ourNameOf(route.ifindex ?? 0);
        if (link === undefined) return;
        const object = observedRoute(route, link);
        if (object !== undefined) this.#observed.put(keyOf(object), event.change === 'new' ? object : undefined);
        return;
      }
      case 'neigh': {
        const { neigh } = event;
        const link = this.#ourNameOf(neigh.ifindex);
        if (link === undefined) return;
        const object = event.change === 'new' ? observedNeigh(neigh, link) : undefined;
        return this.#observed.put(keyOf({ kind: 'neigh', link, address: neigh.dst, mac: '' }), object);
      }
      case 'fdb': {
        const link = this.#ourNameOf(event.fdb.ifindex);
        const object = link === undefined ? undefined : observedFdb(event.fdb, link);
        if (object === undefined) return;
        const key = keyOf(object);
        if (event.change === 'new') return this.#observed.put(key, object);
        const known = this.#observed.get(key);
        // The destination that was replaced is reported gone after the new one is reported.
        if (known !== undefined && !isAsDesired(known, object)) return;
        return this.#observed.put(key, undefined);
      }
      case 'resync':
        return this.listener.onLoss(event.cause);
      case 'closed':
        return this.listener.onLoss(event.cause);
    }
  }

  readonly #nameOf = (ifindex: number): string | undefined => this.links.byIndex(ifindex)?.name;

  /** The name of a link of ours. */
  readonly #ourNameOf = (ifindex: number): string | undefined => {
    const entry = this.links.byIndex(ifindex);
    return entry === undefined || entry.mark === null ? undefined : entry.name;
  };

  #routesOn(link: string): string[] {
    return this.#observed.keysOn(link).filter((key) => this.#observed.get(key)?.kind === 'route');
  }

  #suspectRoutes(link: string): void {
    if (this.#routesOn(link).length > 0) this.#routesSuspect.add(link);
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
    const objects = byKey(this.#linkObjects(link));
    for (const key of [`link ${link.ifname}`, `port ${link.ifname}`, `up ${link.ifname}`])
      this.#observed.put(key, objects.get(key));
  }

  #forgetIndex(ifindex: number): void {
    const entry = this.links.byIndex(ifindex);
    if (entry !== undefined) this.#forgetLink(entry);
  }

  #forgetLink(entry: LinkEntry): void {
    this.links.delete(entry);
    this.#routesSuspect.delete(entry.name);
    this.#observed.dropLink(entry.name);
    this.listener.onLink(entry.name, entry, undefined);
  }
}
