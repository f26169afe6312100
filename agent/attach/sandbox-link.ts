import type { BatchResult, OnReply } from '../../lib/netlink/batch.js';
import { isNetlinkError } from '../../lib/netlink/errors.js';
import { exchange } from '../../lib/netlink/exchange.js';
import { linkDeleteMessage, linkFromDump, linkGetMessage, linkSetMessage } from '../../lib/netlink/link.js';
import type { Link } from '../../lib/netlink/link-value.js';
import type { NetlinkMessage } from '../../lib/netlink/message.js';
import type { NativeApi, NetnsRef } from '../../native/api.js';
import { kernelError } from '../kernel-error.js';

/** Sends messages of which the last gets a link; the first refusal, or the link. */
export async function batchWithLink(
  messages: readonly NetlinkMessage[],
  send: (messages: readonly NetlinkMessage[], onReply: OnReply) => Promise<BatchResult>,
): Promise<{ readonly link: Link } | { readonly error: unknown }> {
  let link: Link | undefined;
  const results = await send(messages, (index, _header, reader) => {
    if (index === messages.length - 1) link = linkFromDump(reader);
  });
  const refused = results.find((result) => result !== undefined);
  if (refused !== undefined || link === undefined)
    return { error: refused ?? new Error('the kernel did not describe the link') };
  return { link };
}

/**
 * Describes an interface inside a sandbox; undefined when it has none of that name.
 *
 * Equivalent to: `ip -n $ns -d link show dev $ifname`
 */
export async function getSandboxLink(native: NativeApi, netns: NetnsRef, ifname: string): Promise<Link | undefined> {
  const got = await batchWithLink([linkGetMessage(ifname)], (messages, onReply) =>
    exchange(native, netns, messages, { onReply }),
  );
  if ('link' in got) return got.link;
  if (isNetlinkError(got.error, 'ENODEV')) return undefined;
  throw kernelError(got.error);
}

/**
 * Removes an interface inside a sandbox, when it is ours: by its mark, or, where a crash came between the making of
 * a macvlan link and its mark, by the MAC that only the journal knew. A missing one is no error.
 *
 * Equivalent to: `ip -n $ns link delete $ifname`
 */
export async function removeSandboxLink(
  native: NativeApi,
  netns: NetnsRef,
  link: { ifname: string; alias: string; mac: string },
): Promise<void> {
  const found = await getSandboxLink(native, netns, link.ifname);
  const isOurs = found?.alias === undefined ? found?.address === link.mac : found.alias === link.alias;
  if (found === undefined || !isOurs) return;
  const [failed] = await exchange(native, netns, [linkDeleteMessage(found.ifindex)]);
  if (failed !== undefined && !isNetlinkError(failed, 'ENODEV')) throw kernelError(failed);
}

/**
 * Takes an interface inside a sandbox down and gives it another name, so that its own is free at once. Reports whether
 * the name is free: not where an interface of that name is not ours.
 *
 * @param link.ifindex where it should be; another interface cannot have the number, since it was chosen at random.
 *
 * Equivalent to: `ip -n $ns link set $ifname down`, `ip -n $ns link set $ifname name $aside`
 * Errors: ERR_KERNEL.
 */
export async function setAsideSandboxLink(
  native: NativeApi,
  netns: NetnsRef,
  link: { ifindex: number; ifname: string; alias: string; mac: string; aside: string },
): Promise<boolean> {
  const { ifname, aside } = link;
  const messages = [...asideMessages(link.ifindex, aside), linkGetMessage(ifname)];
  const [, , remaining] = await exchange(native, netns, messages);
  if (isNetlinkError(remaining, 'ENODEV')) return true;
  const found = await getSandboxLink(native, netns, ifname);
  if (found === undefined) return true;
  const isOurs = found.alias === undefined ? found.address === link.mac : found.alias === link.alias;
  if (!isOurs) return false;
  const failed = (await exchange(native, netns, asideMessages(found.ifindex, aside))).find(
    (result) => result !== undefined && !isNetlinkError(result, 'ENODEV'),
  );
  if (failed !== undefined) throw kernelError(failed);
  return true;
}

function asideMessages(ifindex: number, aside: string): NetlinkMessage[] {
  return [linkSetMessage(ifindex, { up: false }), linkSetMessage(ifindex, { ifname: aside })];
}
