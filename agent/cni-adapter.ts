import {
  addrAt,
  baseAddr,
  containsAddr,
  formatAddr,
  lastAddr,
  offsetOf,
  parseAddr,
  parsePrefix,
  type Prefix,
} from '../core/addr.js';
import type { NetworkCreate } from '../core/api/network.js';
import type { PortRequest } from '../core/api/port.js';
import type {
  AddressRange,
  Attached,
  Attacher,
  AttacherRequest,
  AttachmentFound,
  AttachmentKey,
  AttachmentListed,
  Readiness,
  ReserveRequest,
  SandboxState,
} from '../core/attacher.js';
import { subnetsOf } from '../core/desired/subnet.js';
import { TsnetError, toTsnetError } from '../core/errors.js';
import { bridgeName } from '../core/ids.js';
import { macForBridge } from '../core/mac.js';
import type { Labels, Network, PortMapping } from '../core/model.js';
import { checkPort } from '../core/ports.js';
import { addrFromDump, addrListMessage } from '../lib/netlink/addr.js';
import type { NetlinkConnection } from '../lib/netlink/connection.js';
import { isNetlinkError } from '../lib/netlink/errors.js';
import { exchangeDump } from '../lib/netlink/exchange.js';
import { linkGet } from '../lib/netlink/link.js';
import { routeFromDump, routeListMessage } from '../lib/netlink/route.js';
import type { NativeApi } from '../native/api.js';
import type { Attachments } from './attach/attachments.js';
import { getSandboxLink } from './attach/sandbox-link.js';
import type { OwnIndex } from './attach/own-index.js';
import type { Steps } from './attach/steps.js';
import { openTarget, parseTarget } from './attach/target.js';
import type { OwnEndpoint } from './journal/entries.js';
import type { Journal } from './journal/journal.js';
import type { Networks } from './networks.js';
import type { ControllerClient } from './sync/controller-client.js';

export interface LocalAttacherOptions {
  readonly native: NativeApi;
  readonly connection: NetlinkConnection;
  readonly networks: Networks;
  readonly journal: Journal;
  readonly own: OwnIndex;
  readonly attachments: Attachments;
  readonly steps: Steps;
  readonly client: ControllerClient;
  readonly host: string;
  readonly bootId: string;
  /** Whether a controller is connected now. */
  readonly isConnected: () => boolean;
  /** Whether this host has addresses of a network to give without asking anyone. */
  readonly hasAddresses: (network: Network) => boolean;
  /** What sandboxes of a network are told about name servers; null: nothing. */
  readonly dnsOf?: (network: Network) => Attached['dns'];
}

/** How many addresses of a range are tried: each costs an allocation that fails. */
const rangeTries = 64;
const mainTable = 254;

/** The agent's verbs as front ends for runtimes' protocols need them. */
export class LocalAttacher implements Attacher {
  readonly #options: LocalAttacherOptions;

  constructor(options: LocalAttacherOptions) {
    this.#options = options;
  }

  async attach(request: AttacherRequest): Promise<Attached> {
    const { ranges, ports = [], ...attach } = request;
    const { attachments } = this.#options;
    const wanted = ports.length === 0 ? [] : await this.#wantedPorts(request, ports);
    const more = wanted.length === 0 ? {} : { ports: wanted };
    return this.#make(request, ranges, (addresses) => attachments.attach({ ...attach, ...more, addresses }));
  }

  async reserve(request: ReserveRequest): Promise<Attached> {
    const { ranges, ...reserve } = request;
    const { attachments } = this.#options;
    return this.#make(request, ranges, (addresses) => attachments.reserve({ ...reserve, addresses }));
  }

  async detach(key: AttachmentKey): Promise<void> {
    await this.#options.attachments.detach(key, { inBackground: true });
  }

  async find(key: AttachmentKey, target?: string): Promise<AttachmentFound | null> {
    const network = await this.#options.networks.find(key.network);
    const entry = this.#entry(network, key);
    if (entry === undefined) return null;
    const isInTarget = target !== undefined && entry.cookie !== null && (await this.#isSandbox(entry, target));
    return { ...this.#describe(network, entry), isNew: false, isInTarget };
  }

  async list(labels: Labels): Promise<AttachmentListed[]> {
    const { journal, native, networks, bootId } = this.#options;
    const entries = [...journal.endpoints()].filter(({ record }) =>
      Object.entries(labels).every(([key, value]) => record.labels[key] === value),
    );
    const refs = entries.map(({ record }) =>
      record.sandbox === null ? { path: '/nonexistent' } : parseTarget(record.sandbox).ref,
    );
    const cookies = await native.netnsCookies(refs);
    return entries.map(({ record, cookie, bootId: boot }, index) => ({
      key: {
        network: networks.known(record.network)?.name ?? record.network,
        id: record.callerId,
        ifname: record.ifname,
      },
      labels: record.labels,
      isSandboxAlive: boot === bootId && cookie !== null && String(cookies[index]) === cookie,
    }));
  }

  async inspect(at: { target: string; ifname: string; hostLinks: readonly string[] }): Promise<SandboxState> {
    const { native, connection } = this.#options;
    const netns = await openTarget(native, parseTarget(at.target));
    try {
      const ref = { fd: netns.fd };
      const link = await getSandboxLink(native, ref, at.ifname);
      const message = addrListMessage(link === undefined ? {} : { ifindex: link.ifindex });
      const addrs = await exchangeDump(native, ref, { message, decode: (_header, reader) => addrFromDump(reader) });
      const routes = await exchangeDump(native, ref, {
        message: routeListMessage({ table: mainTable }),
        decode: (_header, reader) => routeFromDump(reader),
      });
      const hostLinks = await Promise.all(at.hostLinks.map((name) => this.#hostLink(name)));
      const masters = await Promise.all(
        hostLinks.map((each) =>
          each?.master === undefined || each.master === 0 ? undefined : linkGet(connection, each.master),
        ),
      );
      return {
        link:
          link === undefined
            ? null
            : { name: link.ifname, mac: link.address ?? '', mtu: link.mtu ?? 0, isUp: link.up === true },
        addresses:
          link === undefined
            ? []
            : addrs.filter(({ ifindex }) => ifindex === link.ifindex).map(({ address }) => address),
        routes: routes.map(({ dst, gateway, via }) => ({ dst, gateway: gateway ?? via ?? null })),
        hostLinks: hostLinks.flatMap((each, index) =>
          each === undefined
            ? []
            : [{ name: each.ifname, mac: each.address ?? '', master: masters[index]?.ifname ?? null }],
        ),
      };
    } finally {
      netns.close();
    }
  }

  async ensureNetwork(network: NetworkCreate): Promise<void> {
    try {
      await this.#options.client.call('POST', '/v1/networks', { body: network, timeoutMs: 3000 });
    } catch (error) {
      if (toTsnetError(error).code !== 'ERR_NETWORK_NAME_IN_USE') throw error;
    }
  }

  async readiness(ref: string): Promise<Readiness> {
    const { networks, isConnected, hasAddresses } = this.#options;
    let network: Network;
    try {
      network = await networks.find(ref);
    } catch (error) {
      return { isReady: false, isImpaired: false, reason: toTsnetError(error).message };
    }
    if (isConnected() || hasAddresses(network)) return { isReady: true };
    const reason = `no controller can be reached, and this host holds no free address of network ${network.name}`;
    // Peers that come and go meanwhile are not heard of either.
    return { isReady: false, isImpaired: true, reason };
  }

  /**
   * Runtimes hand the ports of a container to each of its networks: one network leads there, and one that is internal
   * leaves them to others.
   */
  async #wantedPorts(request: AttacherRequest, ports: readonly PortRequest[]): Promise<PortRequest[]> {
    const { own, networks } = this.#options;
    const network = await networks.find(request.network);
    if (network.internal) return [];
    const held = own.ofCallerAnywhere(request.id).flatMap(({ record }) => {
      const isOther = record.sandbox === request.target && record.network !== network.id;
      return isOther ? (record.ports ?? []) : [];
    });
    return held.length === 0 ? [...ports] : ports.filter((port) => !held.some((mapping) => leadsTo(mapping, port)));
  }

  async #make(
    request: ReserveRequest,
    ranges: readonly (readonly AddressRange[])[] | undefined,
    make: (addresses: readonly string[]) => Promise<OwnEndpoint>,
  ): Promise<Attached> {
    const network = await this.#options.networks.find(request.network);
    const before = this.#entry(network, request);
    const fixed = request.addresses ?? [];
    const pick = ranges === undefined || fixed.length > 0 ? null : rangePicker(network, ranges, request.id);
    for (let attempt = 0; ; attempt++) {
      const picked = before === undefined || before.record.state === 'detaching' ? pick?.(attempt) : undefined;
      try {
        const entry = await make(picked ?? fixed);
        const isNew = before?.record.id !== entry.record.id;
        return { ...this.#describe(network, entry), isNew };
      } catch (error) {
        const { code } = toTsnetError(error);
        const isTaken =
          code === 'ERR_ADDRESS_IN_USE' || code === 'ERR_ADDRESS_RESERVED' || code === 'ERR_ADDRESS_HELD_ELSEWHERE';
        if (picked === undefined || !isTaken || attempt >= rangeTries || pick?.(attempt + 1) === undefined) throw error;
      }
    }
  }

  #entry(network: Network, key: { readonly id: string; readonly ifname?: string }): OwnEndpoint | undefined {
    return this.#options.own
      .ofCaller(network.id, key.id)
      .find(({ record }) => record.ifname === key.ifname && record.state !== 'detaching');
  }

  async #isSandbox(entry: OwnEndpoint, target: string): Promise<boolean> {
    const { native, bootId } = this.#options;
    const [cookie] = await native.netnsCookies([parseTarget(target).ref]);
    return entry.bootId === bootId && typeof cookie === 'bigint' && String(cookie) === entry.cookie;
  }

  async #hostLink(name: string) {
    return linkGet(this.#options.connection, name).catch((error: unknown) => {
      if (isNetlinkError(error, 'ENODEV')) return undefined;
      throw error;
    });
  }

  #describe(network: Network, entry: OwnEndpoint): Omit<Attached, 'isNew'> {
    const { record } = entry;
    const isReserved = record.state === 'reserved';
    const plan = this.#options.steps.plan(network, entry);
    const hostLink = isReserved || plan.link.kind !== 'veth' ? undefined : plan.link;
    const bridge = { name: bridgeName(network.id), mac: macForBridge(network.id, this.#options.host) };
    return {
      endpoint: record.id,
      link: { name: record.ifname, mac: record.mac, mtu: network.mtu },
      hostLink:
        hostLink === undefined || entry.ifindexHint === null
          ? null
          : { name: hostLink.name, mac: hostLink.mac, ifindex: entry.ifindexHint },
      bridge: hostLink === undefined ? null : bridge,
      addresses: plan.addrs.map(({ address }) => {
        const own = parseAddr(address.slice(0, address.lastIndexOf('/')));
        const subnet = subnetsOf(network).find(({ prefix }) => containsAddr(prefix, own));
        return { address, gateway: network.internal ? null : (subnet?.gateway ?? null) };
      }),
      routes: isReserved ? defaultRoutesOf(network) : plan.routes,
      dns: this.#options.dnsOf?.(network) ?? null,
      labels: record.labels,
    };
  }
}

/** Reports whether a mapping does for the same port of the host what is asked for. */
function leadsTo(mapping: PortMapping, port: PortRequest): boolean {
  const wanted = checkPort(port);
  return (
    mapping.protocol === wanted.protocol &&
    mapping.hostAddress === wanted.hostAddress &&
    mapping.hostPort <= wanted.hostPort &&
    mapping.hostPortEnd >= wanted.hostPortEnd &&
    mapping.port - mapping.hostPort === wanted.port - wanted.hostPort
  );
}

/** What a sandbox with an interface of somebody else's making should have. */
function defaultRoutesOf(network: Network): { dst: string; gateway: string }[] {
  if (network.internal) return [];
  const byFamily = new Map<string, string>();
  for (const { gateway } of network.subnets) {
    if (gateway === null) continue;
    const dst = parseAddr(gateway).family === 4 ? '0.0.0.0/0' : '::/0';
    if (!byFamily.has(dst)) byFamily.set(dst, gateway);
  }
  return [...byFamily].map(([dst, gateway]) => ({ dst, gateway }));
}

/**
 * Picks addresses from sets of ranges: for each attempt the next ones, beginning at a place that depends on the caller,
 * so that callers do not all begin at one. Undefined once the largest set has been gone through.
 * Errors: ERR_ADDRESS_OUTSIDE_SUBNET, ERR_INVALID_CIDR, ERR_INVALID_ADDRESS.
 */
function rangePicker(
  network: Network,
  ranges: readonly (readonly AddressRange[])[],
  seed: string,
): ((attempt: number) => readonly string[] | undefined) | null {
  const subnets = network.subnets.map(({ subnet }) => parsePrefix(subnet));
  const sets = ranges
    .map((set) => set.map((range) => spanOf(network, subnets, range)))
    .filter((set) => set.length > 0 && !set.some(({ isWhole }) => isWhole));
  if (sets.length === 0) return null;
  const sizes = sets.map((set) => set.reduce((sum, { count }) => sum + count, 0n));
  const start = BigInt([...seed].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 1_000_003, 7));
  return (attempt) => {
    if (sizes.every((size) => BigInt(attempt) >= size)) return undefined;
    return sets.map((set, index) => addressAt(set, (start + BigInt(attempt)) % (sizes[index] ?? 1n)));
  };
}

interface Span {
  readonly prefix: Prefix;
  readonly first: bigint;
  readonly count: bigint;
  readonly isWhole: boolean;
}

function spanOf(network: Network, subnets: readonly Prefix[], range: AddressRange): Span {
  const asked = parsePrefix(range.subnet, 'ipRanges.subnet');
  const prefix = subnets.find(
    (subnet) => containsAddr(subnet, baseAddr(asked)) && containsAddr(subnet, lastAddr(asked)),
  );
  const [start, end] = [range.start, range.end].map((text) =>
    text === undefined ? undefined : parseAddr(text, 'ipRanges'),
  );
  const bounds = [start ?? baseAddr(asked), end ?? lastAddr(asked)] as const;
  if (prefix === undefined || !bounds.every((bound) => containsAddr(asked, bound))) {
    const text = `${range.subnet}${start === undefined ? '' : ` from ${formatAddr(start)}`}${end === undefined ? '' : ` to ${formatAddr(end)}`}`;
    throw new TsnetError('ERR_ADDRESS_OUTSIDE_SUBNET', `ipRanges: ${text} is outside the subnets of ${network.name}`, {
      details: { field: 'ipRanges', value: text, network: network.name },
    });
  }
  const [first, last] = [offsetOf(prefix, bounds[0]), offsetOf(prefix, bounds[1])];
  const isWhole = start === undefined && end === undefined && asked.length === prefix.length;
  return { prefix, first, count: last >= first ? last - first + 1n : 1n, isWhole };
}

function addressAt(set: readonly Span[], offset: bigint): string {
  let rest = offset;
  for (const { prefix, first, count } of set) {
    if (rest < count) return formatAddr(addrAt(prefix, first + rest));
    rest -= count;
  }
  throw new RangeError('an offset outside all ranges');
}
