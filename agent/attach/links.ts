import { randomInt } from 'node:crypto';
import { TsnetError } from '../../core/errors.js';
import type { SandboxPlan } from '../../core/desired/driver.js';
import type { KernelObject, KernelPort } from '../../core/kernel.js';
import type { BatchResult } from '../../lib/netlink/batch.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { IN6_ADDR_GEN_MODE_NONE } from '../../lib/netlink/constants.js';
import { isNetlinkError } from '../../lib/netlink/errors.js';
import { exchange, exchangeInTurn } from '../../lib/netlink/exchange.js';
import { linkAddMessage, linkGet, linkGetMessage, linkSetMessage } from '../../lib/netlink/link.js';
import type { NetlinkMessage } from '../../lib/netlink/message.js';
import type { NativeApi } from '../../native/api.js';
import { kernelError, parentUnknown, portsExhausted } from '../kernel-error.js';
import { macvlanModes, portSettings, requestsOf } from '../reconcile/request.js';
import { assertConfigured, configureMessages, configureSandbox } from './sandbox-config.js';
import { batchWithLink } from './sandbox-link.js';

/** What the steps need of the kernel: a connection in the host namespace and the addon. */
export interface KernelAccess {
  readonly native: NativeApi;
  readonly connection: NetlinkConnection;
  linkIndex(name: string): number | undefined;
}

type VethPlan = Extract<SandboxPlan['link'], { kind: 'veth' }>;
type MacvlanPlan = Extract<SandboxPlan['link'], { kind: 'macvlan' }>;

/** Where an endpoint's link is. */
export interface LinkMade {
  /** The host's end; null where there is none. */
  readonly ifindex: number | null;
  /** The sandbox's end. */
  readonly sandboxIfindex: number;
}

/**
 * Makes an endpoint's link with its far end inside the sandbox, where it never exists under another name; without a
 * sandbox (null) the far end stays in the host namespace, unnumbered, for its caller to move.
 *
 * Equivalent to: `ip link add $name master $bridge up type veth peer name $ifname address $mac netns $ns`, or
 * `ip link add link $parent name $ifname netns $ns type macvlan mode bridge`
 * Errors: ERR_IFNAME_IN_USE, ERR_LINK_CONFLICT, ERR_PARENT_UNKNOWN, ERR_PORTS_EXHAUSTED, ERR_KERNEL.
 */
export async function makeLink(
  kernel: KernelAccess,
  plan: SandboxPlan['link'],
  at: {
    readonly netnsFd: number | null;
    /** What the host needs for the endpoint besides: for a veth it goes in the same send. The reconciler keeps it. */
    readonly objects: readonly KernelObject[];
  },
): Promise<LinkMade> {
  return plan.kind === 'veth' ? makeVeth(kernel, plan, at) : makeMacvlan(kernel, plan, at.netnsFd);
}

/** Where a sandbox joins, and what goes with it. */
export interface JoinAt {
  readonly netnsFd: number;
  /** As in makeLink. */
  readonly objects: readonly KernelObject[];
  /** As in ConfigureAt. */
  readonly takeOver: boolean;
}

/**
 * Makes an endpoint's link into its sandbox and configures it there: makeLink and configureSandbox, in one trip where
 * nothing has to be known of the one for the other. What `objects` ask for is there when it resolves, but for a macvlan
 * link's.
 *
 * Errors: those of both. Whatever was made is left for the caller to take back.
 */
export async function joinSandbox(kernel: KernelAccess, plan: SandboxPlan, at: JoinAt): Promise<LinkMade> {
  if (plan.link.kind === 'veth') return joinByVeth(kernel, plan, plan.link, at);
  const made = await makeMacvlan(kernel, plan.link, at.netnsFd);
  const { netnsFd, takeOver } = at;
  await configureSandbox(kernel.native, plan, { netns: { fd: netnsFd }, ifindex: made.sandboxIfindex, takeOver });
  return made;
}

/**
 * The ifindex is chosen here, far above those that the kernel counts up itself, and is the same at both ends: so all
 * that refers to the new link goes in the send that makes it, and nothing need be asked for afterwards.
 */
const firstChosenIfindex = 1 << 20;
const ifindexTries = 5;

const newIfindex = (): number => randomInt(firstChosenIfindex, 2 ** 31 - 1);

/** The same in one trip with the configuration of the sandbox's end, which is in the sandbox from the start. */
async function joinByVeth(kernel: KernelAccess, plan: SandboxPlan, link: VethPlan, at: JoinAt): Promise<LinkMade> {
  return withNewIfindexes(kernel, link, { netnsFd: at.netnsFd, objects: at.objects }, async (requests, made) => {
    const inside = configureMessages(plan, { ifindex: made.sandboxIfindex, takeOver: at.takeOver });
    const [host = [], sandbox] = await exchangeInTurn(kernel.native, [
      { messages: requests },
      { netns: { fd: at.netnsFd }, messages: inside, sysctls: plan.sysctls },
    ]);
    if (sandbox !== undefined) assertConfigured(plan, sandbox);
    return host;
  });
}

function makeVeth(
  kernel: KernelAccess,
  plan: VethPlan,
  at: { netnsFd: number | null; objects: readonly KernelObject[] },
): Promise<LinkMade> {
  return withNewIfindexes(kernel, plan, at, (requests) => kernel.connection.batch(requests));
}

/** Chooses ifindexes until the kernel takes them. `send` returns what became of the requests. */
async function withNewIfindexes(
  kernel: KernelAccess,
  plan: VethPlan,
  at: { netnsFd: number | null; objects: readonly KernelObject[] },
  send: (requests: readonly NetlinkMessage[], made: LinkMade) => Promise<BatchResult>,
): Promise<LinkMade> {
  const master = kernel.linkIndex(plan.master);
  if (master === undefined)
    throw new TsnetError('ERR_KERNEL', `bridge ${plan.master} is not there`, { details: { link: plan.master } });
  const [port, others] = portAmong(plan, at.objects);
  for (let tries = 1; ; tries++) {
    const ifindex = newIfindex();
    const sandboxIfindex = at.netnsFd === null ? newIfindex() : ifindex;
    const indexOf = (name: string): number => (name === plan.name ? ifindex : (kernel.linkIndex(name) ?? 0));
    const requests = [
      ...vethRequests(plan, port, { ifindex, sandboxIfindex, master, netnsFd: at.netnsFd }),
      ...others.flatMap((object) => requestsOf({ verb: 'add', key: '', object }, indexOf)),
      linkSetMessage(ifindex, { up: true }),
    ];
    const results = await send(requests, { ifindex, sandboxIfindex });
    const [creation] = results;
    const failed = results.find((result) => result !== undefined);
    if (failed === undefined) return { ifindex, sandboxIfindex };
    if (!isNetlinkError(creation, 'EBUSY') || tries === ifindexTries)
      throw await linkError(kernel, plan, creation ?? failed);
  }
}

/** The settings of a link as a port of its bridge, and the other objects. */
function portAmong(plan: VethPlan, objects: readonly KernelObject[]): [KernelPort | undefined, KernelObject[]] {
  const isPort = (object: KernelObject): object is KernelPort => object.kind === 'port' && object.link === plan.name;
  return [objects.find(isPort), objects.filter((object) => !isPort(object))];
}

/**
 * The kernel gives each end of a veth a queue for each processor, with a folder in /sys and an event for udev of its own
 * (veth_get_num_queues). Without a queueing discipline and XDP nothing is in them.
 */
const oneQueue = { numTxQueues: 1, numRxQueues: 1 } as const;

/**
 * Creation and mark, in this order and one send with all the rest: no kill can come between them. Up comes after
 * everything: before, the host's end would give itself an IPv6 address and learn, and each change of a port that is up walks
 * all IPv6 routes of the host (addrconf_notify, NETDEV_CHANGE).
 */
function vethRequests(
  plan: VethPlan,
  port: KernelPort | undefined,
  at: {
    readonly ifindex: number;
    readonly sandboxIfindex: number;
    readonly master: number;
    readonly netnsFd: number | null;
  },
): NetlinkMessage[] {
  const { ifindex, sandboxIfindex, master, netnsFd } = at;
  const { ifname, mac } = plan.peer;
  const peer = { ifindex: sandboxIfindex, ifname, address: mac, mtu: plan.mtu, ...oneQueue };
  return [
    linkAddMessage({
      ifname: plan.name,
      ifindex,
      kind: 'veth',
      address: plan.mac,
      mtu: plan.mtu,
      ...oneQueue,
      master,
      veth: { peer: netnsFd === null ? peer : { ...peer, netnsFd } },
    }),
    linkSetMessage(ifindex, {
      alias: plan.alias,
      afSpec: { inet6: { addrGenMode: IN6_ADDR_GEN_MODE_NONE } },
      ...(port && portSettings(port)),
    }),
  ];
}

async function makeMacvlan(kernel: KernelAccess, plan: MacvlanPlan, netnsFd: number | null): Promise<LinkMade> {
  const parent = await linkGet(kernel.connection, plan.parent).catch((error: unknown) => {
    if (isNetlinkError(error, 'ENODEV')) throw parentUnknown(plan.parent, plan.ifname);
    throw kernelError(error);
  });
  const create = linkAddMessage({
    ifname: plan.ifname,
    kind: 'macvlan',
    link: parent.ifindex,
    mtu: plan.mtu,
    address: plan.mac,
    ...(netnsFd === null ? {} : { netnsFd }),
    macvlan: { mode: macvlanModes[plan.mode] },
  });
  const [failed] = await kernel.connection.batch([create]);
  if (failed !== undefined) throw await linkError(kernel, plan, failed);
  const mark = linkSetMessage(plan.ifname, { alias: plan.alias });
  const made = await batchWithLink([mark, linkGetMessage(plan.ifname)], (messages, onReply) =>
    netnsFd === null
      ? kernel.connection.batch(messages, { onReply })
      : exchange(kernel.native, { fd: netnsFd }, messages, { onReply }),
  );
  if ('error' in made) throw kernelError(made.error);
  return { ifindex: null, sandboxIfindex: made.link.ifindex };
}

async function linkError(kernel: KernelAccess, plan: SandboxPlan['link'], error: unknown): Promise<TsnetError> {
  const ifname = plan.kind === 'veth' ? plan.peer.ifname : plan.ifname;
  if (isNetlinkError(error, 'EEXIST')) {
    // The kernel does not say which of the two names is taken.
    const hostSide =
      plan.kind === 'veth' &&
      (await linkGet(kernel.connection, plan.name).then(
        () => true,
        () => false,
      ));
    return hostSide
      ? new TsnetError('ERR_LINK_CONFLICT', `link ${plan.name} exists already`, {
          details: { link: plan.name },
          cause: error,
        })
      : new TsnetError('ERR_IFNAME_IN_USE', `the sandbox has an interface "${ifname}" already`, {
          details: { field: 'ifname', value: ifname },
          cause: error,
        });
  }
  if (plan.kind === 'veth' && isNetlinkError(error, 'EXFULL')) return portsExhausted(plan.master, plan.name, error);
  if (plan.kind === 'macvlan' && isNetlinkError(error, 'EINVAL')) {
    const message = `interface "${plan.parent}" cannot carry macvlan links: ${(error as Error).message}`;
    return new TsnetError('ERR_PARENT_UNKNOWN', message, { details: { parent: plan.parent }, cause: error });
  }
  return kernelError(error);
}

/**
 * Moves the far end of a link that waits in the host namespace into its sandbox. Reports whether there was one: its
 * caller may have moved it already.
 *
 * Equivalent to: `ip link set dev tsp-… netns $ns name $ifname`
 * Errors: ERR_IFNAME_IN_USE, ERR_KERNEL.
 */
export async function moveWaitingLink(
  kernel: KernelAccess,
  names: { waiting: string; ifname: string },
  netnsFd: number,
): Promise<boolean> {
  const link = await linkGet(kernel.connection, names.waiting).catch((error: unknown) => {
    if (isNetlinkError(error, 'ENODEV')) return undefined;
    throw kernelError(error);
  });
  if (link === undefined) return false;
  const [failed] = await kernel.connection.batch([linkSetMessage(link.ifindex, { netnsFd, ifname: names.ifname })]);
  if (isNetlinkError(failed, 'EEXIST')) {
    const details = { field: 'ifname', value: names.ifname };
    throw new TsnetError('ERR_IFNAME_IN_USE', `the sandbox has an interface "${names.ifname}" already`, {
      details,
      cause: failed,
    });
  }
  if (failed !== undefined) throw kernelError(failed);
  return true;
}
