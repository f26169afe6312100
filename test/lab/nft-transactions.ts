import { loadNative } from '../../native/index.js';
import type { Reader } from '../../lib/bytes/reader.js';
import { eachAttr } from '../../lib/netlink/attr.js';
import { NETLINK_NETFILTER } from '../../lib/netlink/constants.js';
import { eachMessage } from '../../lib/netlink/message.js';

/** linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h */
const NFNLGRP_NFTABLES = 7;
const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_NEWGEN = 15;
const kinds: Readonly<Record<number, { readonly verb: string; readonly name?: number }>> = {
  0: { verb: 'add table' },
  2: { verb: 'delete table' },
  3: { verb: 'add chain', name: 3 },
  5: { verb: 'delete chain', name: 3 },
  6: { verb: 'add rule', name: 2 },
  8: { verb: 'delete rule', name: 2 },
};
const families: Readonly<Record<number, string>> = { 1: 'inet', 2: 'ip', 5: 'netdev', 7: 'bridge', 10: 'ip6' };

function formatChange(type: number, reader: Reader): string | undefined {
  const kind = kinds[type];
  if (kind === undefined) return undefined;
  const family = families[reader.u8()] ?? 'unknown';
  reader.skip(3);
  let [table, name] = ['', ''];
  eachAttr(reader, (attr) => {
    if (attr === 1) table = reader.text(reader.remaining);
    else if (attr === kind.name) name = ` ${reader.text(reader.remaining)}`;
  });
  return `${kind.verb} ${family} ${table}${name}`;
}

/**
 * What becomes of tables, chains and rules in a namespace, transaction by transaction, as `delete table inet tsnet` and
 * `add chain inet tsnet forward`. `nft monitor` 1.0.6 will not do: the ends of ranges in elements of several parts it
 * takes from memory of something else, prints megabytes, or dies of them.
 */
export class NftTransactions {
  /** The changes of each. */
  readonly all: (readonly string[])[] = [];
  /** Whether the kernel could not tell everything. */
  hasLost = false;
  #open: string[] = [];
  #socket: { close(): void } | undefined;

  static async watch(netns: string): Promise<NftTransactions> {
    const transactions = new NftTransactions();
    transactions.#socket = await loadNative().netlinkOpen({
      protocol: NETLINK_NETFILTER,
      groups: [NFNLGRP_NFTABLES],
      receiveBufferBytes: 16 * 1024 * 1024,
      netns: { path: netns },
      onMessage: (datagram) => transactions.#hear(datagram),
      onError: () => (transactions.hasLost = true),
    });
    return transactions;
  }

  #hear(datagram: Buffer): void {
    eachMessage(datagram, (header, reader) => {
      if (header.type >> 8 !== NFNL_SUBSYS_NFTABLES) return;
      const type = header.type & 0xff;
      if (type === NFT_MSG_NEWGEN) {
        this.all.push(this.#open);
        this.#open = [];
        return;
      }
      const change = formatChange(type, reader);
      if (change !== undefined) this.#open.push(change);
    });
  }

  close(): void {
    this.#socket?.close();
  }
}
