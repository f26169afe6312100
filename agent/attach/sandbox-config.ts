import { existsSync } from 'node:fs';
import type { SandboxPlan } from '../../core/desired/driver.js';
import { addrReplaceMessage } from '../../lib/netlink/addr.js';
import type { BatchResult } from '../../lib/netlink/batch.js';
import { IFA_F_NODAD, IN6_ADDR_GEN_MODE_NONE } from '../../lib/netlink/constants.js';
import { isNetlinkError } from '../../lib/netlink/errors.js';
import { exchange } from '../../lib/netlink/exchange.js';
import { linkSetMessage } from '../../lib/netlink/link.js';
import type { NetlinkMessage } from '../../lib/netlink/message.js';
import { routeAddMessage, routeReplaceMessage } from '../../lib/netlink/route.js';
import type { NativeApi, NetnsRef } from '../../native/api.js';
import { kernelError } from '../kernel-error.js';

/** Whether this kernel has IPv6 at all; without it there is nothing to set in a sandbox. */
export const kernelHasIpv6 = existsSync('/proc/sys/net/ipv6');

/** Where and how a sandbox is configured. */
export interface ConfigureAt {
  readonly netns: NetnsRef;
  /** Of the interface inside the sandbox. */
  readonly ifindex: number;
  /** Takes a default route over from whoever has it; else one that is there stays. */
  readonly takeOver: boolean;
}

/** The interface's name and mark inside the sandbox. */
function sandboxEnd(plan: SandboxPlan): { readonly ifname: string; readonly alias: string } {
  return plan.link.kind === 'veth' ? plan.link.peer : plan.link;
}

function routeMessage(planned: SandboxPlan['routes'][number], at: Omit<ConfigureAt, 'netns'>): NetlinkMessage {
  const { dst, gateway, metric } = planned;
  const route = {
    dst,
    ifindex: at.ifindex,
    ...(gateway === null ? {} : { gateway }),
    ...(metric === undefined ? {} : { priority: metric }),
  };
  return at.takeOver || gateway === null ? routeReplaceMessage(route) : routeAddMessage(route);
}

/**
 * Addresses, routes, mark and up, inside the sandbox, in one batch. Repeating it changes nothing.
 *
 * Equivalent to: `ip -n $ns link set lo up`, `ip -n $ns addr replace … dev $ifname`,
 * `ip -n $ns link set $ifname addrgenmode none` where no address is IPv6, `ip -n $ns link set $ifname up`,
 * `ip -n $ns route replace …`
 * Errors: ERR_SANDBOX_MISSING, ERR_KERNEL.
 */
export async function configureSandbox(native: NativeApi, plan: SandboxPlan, at: ConfigureAt): Promise<void> {
  assertConfigured(plan, await exchange(native, at.netns, configureMessages(plan, at), { sysctls: plan.sysctls }));
}

/** What configureSandbox sends; routes come last. */
export function configureMessages(plan: SandboxPlan, at: Omit<ConfigureAt, 'netns'>): NetlinkMessage[] {
  const { ifindex } = at;
  const { alias } = sandboxEnd(plan);
  // Without an IPv6 subnet, a link-local address only costs: its probes and reports go to every port of the network.
  const quiet = plan.hasIpv6 || !kernelHasIpv6 ? {} : { afSpec: { inet6: { addrGenMode: IN6_ADDR_GEN_MODE_NONE } } };
  return [
    linkSetMessage('lo', { up: true }),
    ...plan.addrs.map((addr) =>
      addrReplaceMessage({ ifindex, address: addr.address, flags: addr.nodad ? IFA_F_NODAD : 0 }),
    ),
    linkSetMessage(ifindex, { alias, ...quiet }),
    linkSetMessage(ifindex, { up: true }),
    ...plan.routes.map((route) => routeMessage(route, at)),
  ];
}

/** Errors: ERR_KERNEL. A route that somebody else has there stays, and is none. */
export function assertConfigured(plan: SandboxPlan, results: BatchResult): void {
  const firstRoute = results.length - plan.routes.length;
  const failed = results.find(
    (result, index) => result !== undefined && !(index >= firstRoute && isNetlinkError(result, 'EEXIST')),
  );
  if (failed !== undefined) throw kernelError(failed);
}
