import type { Bandwidth } from '../../core/model.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { exchange } from '../../lib/netlink/exchange.js';
import { tbfReplaceMessage, type Tbf } from '../../lib/netlink/qdisc.js';
import type { NativeApi, NetnsRef } from '../../native/api.js';
import { kernelError } from '../kernel-error.js';

/** Segments of this size cross a veth pair in one piece: a smaller bucket would cut each. */
const leastBurstBytes = 64 * 1024;
const defaultBurstSec = 0.02;
/** How long a packet waits at most before others are dropped. */
const queueSec = 0.025;

/** The bucket for a rate in bits per second. */
export function bucketFor(rateBps: number, burstBytes: number | undefined): Omit<Tbf, 'ifindex'> {
  const rateBytesPerSec = Math.max(1, Math.round(rateBps / 8));
  const burst = burstBytes ?? Math.max(leastBurstBytes, Math.round(rateBytesPerSec * defaultBurstSec));
  return {
    rateBytesPerSec,
    burstBytes: burst,
    limitBytes: burst + Math.max(leastBurstBytes, Math.round(rateBytesPerSec * queueSec)),
  };
}

/** An endpoint's link with where its ends are. */
export interface LimitedLink {
  /** The host's end. */
  readonly hostIfindex: number;
  readonly sandboxIfindex: number;
  readonly netns: NetnsRef;
}

/**
 * Limits what goes through an endpoint's veth pair, each direction where it leaves: what comes into the sandbox at the
 * host's end, what goes out at the sandbox's. A sandbox with CAP_NET_ADMIN can lift the second.
 *
 * Equivalent to: `tc qdisc replace dev tsv-… root tbf …`, `tc -n $ns qdisc replace dev eth0 root tbf …`
 * Errors: ERR_KERNEL.
 */
export async function limitLink(
  kernel: { readonly native: NativeApi; readonly connection: NetlinkConnection },
  link: LimitedLink,
  bandwidth: Bandwidth,
): Promise<void> {
  const { ingressRateBps, ingressBurstBytes, egressRateBps, egressBurstBytes } = bandwidth;
  const failed: unknown[] = [];
  if (ingressRateBps !== undefined) {
    const bucket = tbfReplaceMessage({ ifindex: link.hostIfindex, ...bucketFor(ingressRateBps, ingressBurstBytes) });
    failed.push(...(await kernel.connection.batch([bucket])));
  }
  if (egressRateBps !== undefined) {
    const bucket = tbfReplaceMessage({ ifindex: link.sandboxIfindex, ...bucketFor(egressRateBps, egressBurstBytes) });
    failed.push(...(await exchange(kernel.native, link.netns, [bucket])));
  }
  const first = failed.find((result) => result !== undefined);
  if (first !== undefined) throw kernelError(first);
}
