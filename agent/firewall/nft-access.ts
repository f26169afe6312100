import { TsnetError } from '../../core/errors.js';
import { NetlinkConnection } from '../../lib/netlink/connection.js';
import { NETLINK_NETFILTER } from '../../lib/netlink/constants.js';
import { watchNft, type NftEvent } from '../../lib/nft/monitor.js';
import type { NativeApi, NetnsRef, NftContext } from '../../native/api.js';

/** What all rule sets of a namespace share: libnftables, a connection, and one ear for what others change. */
export class NftAccess {
  /** For whole tables, by text. */
  readonly context: NftContext;
  /** For elements, by messages. */
  readonly connection: NetlinkConnection;
  readonly #own: Set<number>;
  readonly #listeners = new Set<(event: NftEvent) => void>();
  #monitor: { close(): void } | undefined;
  #knowsContext = false;

  private constructor(context: NftContext, connection: NetlinkConnection) {
    this.context = context;
    this.connection = connection;
    this.#own = new Set([connection.portid]);
  }

  /** Begins to listen; changes nothing. Errors: ERR_KERNEL_FEATURE where the kernel has no nftables. */
  static async open(native: NativeApi, netns?: NetnsRef): Promise<NftAccess> {
    const place = netns === undefined ? {} : { netns };
    try {
      const context = await native.nftOpen(netns);
      const connection = await NetlinkConnection.open(native, { protocol: NETLINK_NETFILTER, ...place });
      const access = new NftAccess(context, connection);
      access.#monitor = await watchNft(native, { ...place, isOwn: (portid) => access.#own.has(portid) }, (event) => {
        for (const listener of access.#listeners) listener(event);
      });
      return access;
    } catch (error) {
      throw new TsnetError('ERR_KERNEL_FEATURE', `nftables cannot be used: ${String(error)}`, { cause: error });
    }
  }

  /** Whether changes by `context` can be told from those of others: from its first one on. */
  get knowsContext(): boolean {
    return this.#knowsContext;
  }

  /** Says by which port id the kernel knows `context`: libnftables does not tell. */
  learnContext(portid: number): void {
    this.#own.add(portid);
    this.#knowsContext = true;
  }

  /** Calls back with every change that is not made here. */
  listen(listener: (event: NftEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#monitor?.close();
    this.connection.close();
    await this.context.close();
  }
}
