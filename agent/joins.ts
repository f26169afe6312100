import { drivers } from '../core/desired/drivers.js';
import type { SandboxRoute } from '../core/desired/driver.js';
import { toTsnetError } from '../core/errors.js';
import { joinedMetric, joinedNetworks } from '../core/join.js';
import type { Network } from '../core/model.js';
import type { Logger } from '../lib/log.js';
import { NetlinkConnection } from '../lib/netlink/connection.js';
import { isNetlinkError } from '../lib/netlink/errors.js';
import { routeDelete, routeList, routeReplace, type Route } from '../lib/netlink/route.js';
import type { NativeApi } from '../native/api.js';
import type { Carry } from './attach/carry.js';
import { kernelHasIpv6 } from './attach/sandbox-config.js';
import { getSandboxLink } from './attach/sandbox-link.js';
import type { OwnIndex } from './attach/own-index.js';
import { openTarget, parseTarget } from './attach/target.js';
import type { Datapath } from './datapath/datapath.js';
import type { OwnEndpoint } from './journal/entries.js';
import type { ClusterState } from './state/cluster-state.js';

export interface JoinsOptions {
  readonly native: NativeApi;
  readonly state: ClusterState;
  readonly own: OwnIndex;
  readonly datapath: Datapath;
  readonly carry: Pick<Carry, 'ensure' | 'release'>;
  readonly log: Logger;
}

const againMs = 5000;

/** Reports whether a network is carried here for the sake of one that it is joined to, which has endpoints here. */
export function isTransit(parts: Pick<JoinsOptions, 'state' | 'own'>, id: string): boolean {
  const network = parts.state.network(id);
  if (network?.joined === undefined) return false;
  return joinedNetworks(network, (other) => parts.state.network(other)).some(
    (other) => parts.own.countOf(other.id) > 0,
  );
}

/**
 * Joined networks on this host: where one of them has an endpoint, the host carries the others too, since it is the
 * router from that endpoint to them. Sandboxes whose default route leads elsewhere get routes, and lose them.
 */
export class Joins {
  readonly #options: JoinsOptions;
  readonly #stops: (() => void)[];
  /** Why a network is not carried, by its id. */
  readonly #failures = new Map<string, { readonly code: string; readonly message: string }>();
  /** Subnets that the sandboxes of a network were told of. */
  readonly #told = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;
  #isDue = false;
  #isClosed = false;
  #telling: Promise<void> = Promise.resolve();

  constructor(options: JoinsOptions) {
    this.#options = options;
    const { state, own, datapath } = options;
    for (const network of state.networks()) this.#told.set(network.id, this.#subnetsOf(network));
    this.#stops = [
      state.onChange((change) => {
        if (change.kind !== 'network') return;
        const isJoined = change.value?.joined !== undefined || change.previous?.joined !== undefined;
        if (isJoined) this.#schedule();
      }),
      own.onChange((id) => {
        const network = own.get(id)?.record.network;
        // A removed endpoint's network is not told: any of them may be it.
        const networks = network === undefined ? [...datapath.realised()] : [network];
        if (networks.some((each) => state.network(each)?.joined !== undefined)) this.#schedule();
      }),
    ];
    this.#schedule();
  }

  get warnings(): readonly { readonly code: string; readonly message: string }[] {
    return [...this.#failures.values()];
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const stop of this.#stops) stop();
    await this.#telling;
  }

  #schedule(): void {
    if (this.#isDue || this.#isClosed) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      if (!this.#isClosed) this.#review();
    });
  }

  #review(): void {
    const { state, own, datapath, carry } = this.#options;
    const wanted = new Set<string>();
    for (const network of state.networks()) {
      if (own.countOf(network.id) === 0) continue;
      for (const other of joinedNetworks(network, (id) => state.network(id))) {
        wanted.add(other.id);
        if (!datapath.isRealised(other.id)) this.#carry(network, other);
      }
      this.#tell(network);
    }
    for (const id of this.#failures.keys()) if (!wanted.has(id)) this.#failures.delete(id);
    // What is needed no more starts its rest; for what is needed this does nothing.
    for (const id of datapath.realised()) carry.release(id);
  }

  #carry(network: Network, other: Network): void {
    this.#options.carry.ensure(other).then(
      () => this.#failures.delete(other.id),
      (error: unknown) => {
        const { code, message } = toTsnetError(error);
        const text = `network "${other.name}", joined to "${network.name}", cannot be carried here: ${message}`;
        if (!this.#failures.has(other.id)) this.#options.log.warn({ code }, text);
        this.#failures.set(other.id, { code, message: text });
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#schedule(), againMs);
        this.#timer.unref();
      },
    );
  }

  #subnetsOf(network: Network): string {
    const others = joinedNetworks(network, (id) => this.#options.state.network(id));
    return others.flatMap(({ subnets }) => subnets.map(({ subnet }) => subnet)).join(' ');
  }

  /** Sandboxes attached from now on get the routes with everything else. */
  #tell(network: Network): void {
    const subnets = this.#subnetsOf(network);
    if ((this.#told.get(network.id) ?? '') === subnets) return;
    this.#told.set(network.id, subnets);
    this.#telling = this.#telling.then(async () => {
      for (const entry of this.#options.own.ofNetwork(network.id)) {
        if (this.#isClosed) return;
        await this.#setRoutes(network, entry).catch((error: unknown) => {
          const details = { endpoint: entry.record.id, error: toTsnetError(error).message };
          this.#options.log.warn(details, 'could not set the routes to joined networks in a sandbox');
        });
      }
    });
  }

  async #setRoutes(network: Network, { record, cookie, defaultRoutes }: OwnEndpoint): Promise<void> {
    if (record.state !== 'attached' || record.sandbox === null || network.driver === 'macvlan') return;
    const { native, datapath } = this.#options;
    const plan = drivers[network.driver].sandbox(datapath.context(network), record, {
      defaultRouteFamilies: defaultRoutes,
      kernelHasIpv6,
    });
    const netns = await openTarget(native, parseTarget(record.sandbox));
    try {
      if (String(netns.cookie) !== cookie) return;
      const link = await getSandboxLink(native, { fd: netns.fd }, record.ifname);
      if (link === undefined) return;
      const connection = await NetlinkConnection.open(native, { netns: { fd: netns.fd } });
      try {
        await replaceRoutes(
          connection,
          link.ifindex,
          plan.routes.filter(({ metric }) => metric === joinedMetric),
        );
      } finally {
        connection.close();
      }
    } finally {
      netns.close();
    }
  }
}

/** Makes the routes of a link that have our metric those wanted. */
async function replaceRoutes(
  connection: NetlinkConnection,
  ifindex: number,
  wanted: readonly SandboxRoute[],
): Promise<void> {
  const all = await routeList(connection);
  const isGone = ({ dst }: Route): boolean => !wanted.some((route) => route.dst === dst);
  for (const route of all.filter((each) => each.ifindex === ifindex && each.priority === joinedMetric).filter(isGone))
    await routeDelete(connection, { dst: route.dst, ifindex, priority: joinedMetric }).catch((error: unknown) => {
      if (!isNetlinkError(error, 'ESRCH')) throw error;
    });
  for (const { dst, gateway } of wanted)
    await routeReplace(connection, { dst, ifindex, priority: joinedMetric, ...(gateway === null ? {} : { gateway }) });
}
