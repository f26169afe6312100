import type { NativeApi, NetnsRef } from '../../native/api.js';
import { eachAttr } from '../netlink/attr.js';
import { eachMessage, type MessageHeader } from '../netlink/message.js';
import type { Reader } from '../bytes/reader.js';

/** linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h */
const NETLINK_NETFILTER = 12;
const NFNLGRP_NFTABLES = 7;
const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_NEWCHAIN = 3;
const NFT_MSG_NEWGEN = 15;
/** The table's name has this number in every kind of object (NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, …). */
const NFTA_ANY_TABLE = 1;
const NFTA_CHAIN_NAME = 3;
const nfgenmsgBytes = 4;

/** Notifications of one transaction can be many; what does not fit is lost. */
const receiveBufferBytes = 16 * 1024 * 1024;

/** Who changed what. */
export type NftEvent =
  /** Port id of the socket that asked for it. */
  | { readonly kind: 'object'; readonly portid: number; readonly table: string; readonly chain: string | null }
  /** The end of a transaction. */
  | { readonly kind: 'generation'; readonly portid: number }
  /** Notifications were lost, or could not be read. */
  | { readonly kind: 'lost'; readonly cause: unknown };

export interface NftMonitorOptions {
  readonly netns?: NetnsRef;
  /** Whose changes are left out before anything of them is read; asked with the port id. */
  readonly isOwn?: (portid: number) => boolean;
}

function decode(header: MessageHeader, reader: Reader): NftEvent | undefined {
  const portid = header.portid;
  if (header.type >> 8 !== NFNL_SUBSYS_NFTABLES) return undefined;
  const message = header.type & 0xff;
  if (message === NFT_MSG_NEWGEN) return { kind: 'generation', portid };
  reader.skip(nfgenmsgBytes);
  let table = '';
  let chain: string | null = null;
  eachAttr(reader, (type) => {
    if (type === NFTA_ANY_TABLE) table = reader.text(reader.remaining);
    else if (type === NFTA_CHAIN_NAME && message === NFT_MSG_NEWCHAIN) chain = reader.text(reader.remaining);
  });
  return { kind: 'object', portid, table, chain };
}

/**
 * Tells of every change of the rule set of a namespace, from the moment the promise resolves.
 *
 * Equivalent to: `nft monitor`
 * Source: linux/netfilter/nf_tables.h
 * Errors: NativeError ENOENT when there is no such namespace, EPERM without the right to enter it.
 */
export async function watchNft(
  native: NativeApi,
  options: NftMonitorOptions,
  listener: (event: NftEvent) => void,
): Promise<{ close(): void }> {
  const { netns, isOwn = () => false } = options;
  return native.netlinkOpen({
    protocol: NETLINK_NETFILTER,
    groups: [NFNLGRP_NFTABLES],
    receiveBufferBytes,
    ...(netns === undefined ? {} : { netns }),
    onMessage: (datagram) => {
      try {
        eachMessage(datagram, (header, reader) => {
          if (isOwn(header.portid)) return;
          const event = decode(header, reader);
          if (event !== undefined) listener(event);
        });
      } catch (cause) {
        listener({ kind: 'lost', cause });
      }
    },
    onError: (cause) => listener({ kind: 'lost', cause }),
  });
}
