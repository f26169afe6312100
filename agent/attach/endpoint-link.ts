import { TsnetError } from '../../core/errors.js';
import { asideName, markOf, vethName, waitingName } from '../../core/ids.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { isNetlinkError } from '../../lib/netlink/errors.js';
import { linkGet, linkList, linkSet } from '../../lib/netlink/link.js';
import type { NativeApi, NetnsHandle } from '../../native/api.js';
import type { OwnEndpoint } from '../journal/entries.js';
import { removeSandboxLink, setAsideSandboxLink } from './sandbox-link.js';
import { openTarget, parseTarget } from './target.js';

export interface EndpointLinksOptions {
  readonly native: NativeApi;
  readonly connection: NetlinkConnection;
  readonly linkIndex: (name: string) => number | undefined;
  /** Deletes a link; deletions that coincide share their waiting. */
  readonly deleteLink: (ifindex: number) => Promise<void>;
  readonly bootId: string;
}

/** The links of own endpoints, found by name and mark: an ifindex or a name alone may be another link's by now. */
export class EndpointLinks {
  readonly #options: EndpointLinksOptions;

  constructor(options: EndpointLinksOptions) {
    this.#options = options;
  }

  /**
   * The ifindex of the host's end of an endpoint's link; undefined where there is none.
   *
   * Equivalent to: `ip -d link show dev tsv-…`
   * Errors: NetlinkError.
   */
  async hostIfindex(id: string): Promise<number | undefined> {
    const marks = [markOf('veth', id), markOf('macvlan', id)];
    for (const name of [vethName(id), waitingName(id)]) {
      const link = await linkGet(this.#options.connection, name).catch((error: unknown) => {
        if (isNetlinkError(error, 'ENODEV')) return undefined;
        throw error;
      });
      if (link?.alias !== undefined && marks.includes(link.alias)) return link.ifindex;
    }
    return undefined;
  }

  /**
   * Gives the host's end of an endpoint's link its name back, where somebody has changed it. Reports whether that was so.
   *
   * Equivalent to: `ip link set dev $other name tsv-…`
   */
  async renameBack(id: string): Promise<boolean> {
    const { connection } = this.#options;
    const alias = markOf('veth', id);
    const link = (await linkList(connection, { kind: 'veth' })).find((each) => each.alias === alias);
    if (link === undefined) return false;
    await linkSet(connection, link.ifindex, { ifname: vethName(id) });
    return true;
  }

  /**
   * Deletes an endpoint's link by the end that is there. A missing one is no error.
   *
   * Equivalent to: `ip link delete dev tsv-…`, or `ip -n $ns link delete dev $ifname`
   * Errors: ERR_KERNEL.
   */
  async remove(entry: OwnEndpoint): Promise<void> {
    const ifindex = await this.hostIfindex(entry.record.id);
    if (ifindex !== undefined) {
      await this.#options.deleteLink(ifindex);
      return;
    }
    const { ifname, id, mac } = entry.record;
    const netns = await this.#open(entry);
    try {
      // A macvlan endpoint has no end in the host namespace; a veth's peer that is still there has lost its other end.
      const link = { ifname, alias: markOf('macvlan', id), mac };
      if (netns !== null) await removeSandboxLink(this.#options.native, { fd: netns.fd }, link);
    } finally {
      netns?.close();
    }
  }

  /**
   * Frees the interface's name in the sandbox. The ifindex of the host's end, which is still to be deleted; null where
   * the whole link is gone.
   * Errors: ERR_KERNEL.
   */
  async discard(entry: OwnEndpoint): Promise<number | null> {
    const known = this.#options.linkIndex(vethName(entry.record.id));
    const ifindex =
      known !== undefined && known === entry.ifindexHint ? known : await this.hostIfindex(entry.record.id);
    if (ifindex !== undefined && (await this.#freeName(entry, ifindex))) return ifindex;
    await this.remove(entry);
    return null;
  }

  async #freeName(entry: OwnEndpoint, ifindex: number): Promise<boolean> {
    const { ifname, id, mac } = entry.record;
    let netns: NetnsHandle | null = null;
    try {
      netns = await this.#open(entry);
      const link = { ifindex, ifname, alias: markOf('peer', id), mac, aside: asideName(id) };
      return netns === null || (await setAsideSandboxLink(this.#options.native, { fd: netns.fd }, link));
    } catch {
      // Its deletion frees the name as well, only later.
      return false;
    } finally {
      netns?.close();
    }
  }

  /**
   * The sandbox that an endpoint is in; null where that is gone. Opened once: the process's number may be another's by the
   * time that it is looked up again.
   */
  async #open({ record: { sandbox }, cookie, bootId }: OwnEndpoint): Promise<NetnsHandle | null> {
    if (sandbox === null || cookie === null || bootId !== this.#options.bootId) return null;
    const netns = await openTarget(this.#options.native, parseTarget(sandbox)).catch((error: unknown) => {
      if (error instanceof TsnetError && error.code !== 'ERR_KERNEL') return null;
      throw error;
    });
    if (netns === null || String(netns.cookie) === cookie) return netns;
    netns.close();
    return null;
  }
}
