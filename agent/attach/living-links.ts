import type { Family } from '../../core/addr.js';
import { asideName, parseMark, vethName, waitingName, type LinkMark } from '../../core/ids.js';
import type { Endpoint } from '../../core/model.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { exchangeDump } from '../../lib/netlink/exchange.js';
import { linkFromDump, linkList, linkListMessage } from '../../lib/netlink/link.js';
import type { Link } from '../../lib/netlink/link-value.js';
import { routeFromDump, routeListMessage } from '../../lib/netlink/route.js';
import type { NativeApi, NetnsRef } from '../../native/api.js';
import { parseTarget } from './target.js';

/** Where an endpoint's link was found. */
export interface SandboxEnd {
  /** Null for one that waits in the host namespace. */
  readonly cookie: string | null;
  /** The host's end; null where there is none. */
  readonly ifindex: number | null;
  /** Families whose default route in the sandbox leaves by the link. */
  readonly defaultRoutes: readonly Family[];
}

/** Sandboxes that are looked into at one time, each by a thread of its own. */
const parallel = 16;

/** What of the kernel says that an endpoint's record still holds. Read once: made and used before anything changes. */
export class LivingLinks {
  readonly #native: NativeApi;
  readonly #links: readonly Link[];

  private constructor(native: NativeApi, links: readonly Link[]) {
    this.#native = native;
    this.#links = links;
  }

  /** Reads the links of the host namespace. */
  static async read(native: NativeApi, connection: NetlinkConnection): Promise<LivingLinks> {
    return new LivingLinks(native, await linkList(connection));
  }

  /** The marks of our links in the host namespace. */
  get marks(): readonly LinkMark[] {
    return this.#links.flatMap(({ alias }) => parseMark(alias) ?? []);
  }

  /** Where the links of these endpoints are, by the endpoint's id; one without a link is left out. */
  async find(endpoints: readonly Endpoint[]): Promise<ReadonlyMap<string, SandboxEnd>> {
    const found = new Map<string, SandboxEnd>();
    for (let from = 0; from < endpoints.length; from += parallel) {
      const some = endpoints.slice(from, from + parallel);
      const ends = await Promise.all(some.map((endpoint) => this.#end(endpoint)));
      for (const [index, { id }] of some.entries()) {
        const end = ends[index];
        if (end !== undefined) found.set(id, end);
      }
    }
    return found;
  }

  async #end({ id, sandbox }: Endpoint): Promise<SandboxEnd | undefined> {
    const host = this.#links.find(({ ifname, alias }) => ifname === vethName(id) && isMarked(alias, 'veth', id));
    if (sandbox === null) {
      const waits = host !== undefined || this.#links.some(({ ifname }) => ifname === waitingName(id));
      return waits ? { cookie: null, ifindex: host?.ifindex ?? null, defaultRoutes: [] } : undefined;
    }
    try {
      const { ref } = parseTarget(sandbox);
      const [cookie] = await this.#native.netnsCookies([ref]);
      if (typeof cookie !== 'bigint' || cookie === this.#native.netnsOwnCookie()) return undefined;
      const ifindex = await this.#sandboxIfindex(ref, id, host);
      if (ifindex === undefined) return undefined;
      const defaultRoutes = await this.#defaultRoutes(ref, ifindex);
      return { cookie: String(cookie), ifindex: host?.ifindex ?? null, defaultRoutes };
    } catch {
      // A target that is none, or that went a moment ago.
      return undefined;
    }
  }

  /** By what only the right link has: the pairing with the host's end, or for a macvlan link the mark. */
  async #sandboxIfindex(ref: NetnsRef, id: string, host: Link | undefined): Promise<number | undefined> {
    const links = await exchangeDump(this.#native, ref, {
      message: linkListMessage(),
      decode: (_header, reader) => linkFromDump(reader),
    });
    const found = links.find((link) => {
      if (host === undefined) return isMarked(link.alias, 'macvlan', id);
      return link.kind === 'veth' && link.ifindex === host.link && link.link === host.ifindex;
    });
    // Renamed by a detach that had freed the name already.
    return found?.ifname === asideName(id) ? undefined : found?.ifindex;
  }

  async #defaultRoutes(ref: NetnsRef, ifindex: number): Promise<Family[]> {
    const routes = await exchangeDump(this.#native, ref, {
      message: routeListMessage(),
      decode: (_header, reader) => routeFromDump(reader),
    });
    const ours = routes.filter((route) => route.ifindex === ifindex).map(({ dst }) => dst);
    return ([4, 6] as const).filter((family) => ours.includes(family === 4 ? '0.0.0.0/0' : '::/0'));
  }
}

function isMarked(alias: string | undefined, kind: LinkMark['kind'], id: string): boolean {
  const mark = parseMark(alias);
  return mark?.kind === kind && mark.id === id;
}
