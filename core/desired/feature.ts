import { TsnetError, type ErrorCode } from '../errors.js';
import type { DriverName } from '../model.js';

/** What a driver may or may not do; the texts are those of the table in docs/drivers.md. */
export const featureTexts = {
  ipv4: 'IPv4 subnets',
  ipv6: 'IPv6 subnets',
  'several-subnets': 'several subnets, also of one family',
  'several-networks': 'a sandbox in several networks',
  'fixed-address': 'fixed address (`--ip`)',
  'fixed-mac': 'fixed MAC (`--mac`)',
  ifname: 'chosen interface name (`--ifname`)',
  stepwise: 'reserve, link and attach as separate steps',
  'cross-host': 'endpoints on different hosts reach each other',
  multicast: 'multicast and broadcast within the network',
  'default-route': 'default route (without `--internal`)',
  'no-gateway': 'subnet without a gateway',
  internal: '`--internal`',
  'host-access': 'the host reaches its own endpoints',
  mtu: '`--mtu`',
  vni: 'a VNI of its own',
  ports: 'published ports (`--publish`)',
  bandwidth: 'limits of bandwidth',
  names: 'names of the sandboxes of its networks (`tsnet dns`)',
  antispoof: 'endpoints send only from their own MAC and addresses',
  policy: 'policies (`tsnet policy create`)',
  'service-vip': 'services with a virtual address, `--publish` of services',
  'service-dnsrr': 'services by name alone (`--mode dnsrr`)',
  'service-health': 'health checks of services (`--health`)',
  join: 'joined to another network (`--join`)',
} as const;

export type Feature = keyof typeof featureTexts;

/**
 * `supported`: by kernel objects in the host namespace; `in-sandbox`: served by what is set up inside
 * the sandbox; `option`: when the network is created with the option named; `refused`: with this error;
 * `absent`: means nothing to this driver, so there is nothing to ask for and nothing to refuse.
 */
export type FeatureState =
  | { readonly state: 'supported' | 'in-sandbox' | 'absent'; readonly note?: string }
  | { readonly state: 'option'; readonly option: string; readonly note?: string }
  | { readonly state: 'refused'; readonly error: ErrorCode; readonly note?: string };

export type FeatureTable = Readonly<Record<Feature, FeatureState>>;

const supported = { state: 'supported' } as const;
const inSandbox = { state: 'in-sandbox' } as const;

/** What holds for every driver, because it is done in the sandbox or by the allocation. */
const common = {
  ipv4: supported,
  ipv6: supported,
  'several-subnets': supported,
  'several-networks': inSandbox,
  'fixed-address': inSandbox,
  'fixed-mac': inSandbox,
  ifname: inSandbox,
  stepwise: supported,
  multicast: supported,
} as const satisfies Partial<FeatureTable>;

/** The one table of driver × feature. */
export const featureTable: Readonly<Record<DriverName, FeatureTable>> = {
  overlay: {
    ...common,
    'cross-host': supported,
    'default-route': { state: 'supported', note: "through the sandbox's own host" },
    'no-gateway': { state: 'refused', error: 'ERR_DRIVER_UNSUPPORTED', note: 'the host is the gateway' },
    internal: supported,
    'host-access': supported,
    mtu: { state: 'supported', note: 'underlay less 50 bytes, 70 over IPv6' },
    vni: supported,
    ports: supported,
    bandwidth: supported,
    names: { state: 'supported', note: "from the host's address in the network" },
    antispoof: supported,
    policy: { state: 'supported', note: 'also between sandboxes on one bridge' },
    'service-vip': supported,
    'service-dnsrr': supported,
    'service-health': supported,
    join: { state: 'supported', note: 'to overlays' },
  },
  bridge: {
    ...common,
    'cross-host': { state: 'absent', note: 'each host has a segment of its own' },
    'default-route': { state: 'supported', note: "through the sandbox's own host" },
    'no-gateway': { state: 'refused', error: 'ERR_DRIVER_UNSUPPORTED', note: 'the host is the gateway' },
    internal: supported,
    'host-access': supported,
    mtu: supported,
    vni: { state: 'absent' },
    ports: supported,
    bandwidth: supported,
    names: { state: 'supported', note: "from the host's address in the network" },
    antispoof: supported,
    policy: { state: 'supported', note: 'also between sandboxes on one bridge' },
    'service-vip': supported,
    'service-dnsrr': supported,
    'service-health': supported,
    join: { state: 'supported', note: 'to bridges, each host for itself' },
  },
  macvlan: {
    ...common,
    'cross-host': { state: 'supported', note: 'through the LAN' },
    'default-route': { state: 'in-sandbox', note: "through the LAN's router" },
    'no-gateway': supported,
    internal: { state: 'in-sandbox', note: 'no default route; the LAN itself stays in reach' },
    'host-access': {
      state: 'option',
      option: 'host-shim=true',
      note: 'the kernel keeps parent and macvlan links apart',
    },
    mtu: { state: 'supported', note: "at most the parent's" },
    vni: { state: 'absent' },
    ports: {
      state: 'refused',
      error: 'ERR_DRIVER_UNSUPPORTED',
      note: 'endpoints have addresses of the LAN; nothing of theirs passes the host',
    },
    bandwidth: { state: 'refused', error: 'ERR_DRIVER_UNSUPPORTED', note: 'there is no end of their link in the host' },
    names: { state: 'in-sandbox', note: 'by a socket inside, that the host answers' },
    antispoof: { state: 'absent', note: "what they send does not pass the host's tables" },
    policy: {
      state: 'refused',
      error: 'ERR_DRIVER_UNSUPPORTED',
      note: 'when limited to such a network, else with a warning: nothing of theirs passes the host',
    },
    'service-vip': { state: 'refused', error: 'ERR_DRIVER_UNSUPPORTED', note: 'nothing of theirs passes the host' },
    'service-dnsrr': supported,
    'service-health': {
      state: 'refused',
      error: 'ERR_DRIVER_UNSUPPORTED',
      note: 'the host reaches them by a shim only',
    },
    join: { state: 'refused', error: 'ERR_JOIN_UNSUPPORTED', note: 'what endpoints send does not pass the host' },
  },
};

/**
 * Checks that a driver can do something, before anything is made.
 *
 * Errors: the one that the table names.
 */
export function checkFeature(driver: DriverName, feature: Feature): void {
  const entry = featureTable[driver][feature];
  if (entry.state !== 'refused') return;
  const note = entry.note === undefined ? '' : ` (${entry.note})`;
  throw new TsnetError(entry.error, `driver ${driver} does not offer ${featureTexts[feature]}${note}`, {
    details: { driver, feature },
  });
}

function featureCell(entry: FeatureState): string {
  const note = entry.note === undefined ? '' : `: ${entry.note}`;
  switch (entry.state) {
    case 'supported':
      return `yes${note}`;
    case 'in-sandbox':
      return `in the sandbox${note}`;
    case 'option':
      return `with \`--opt ${entry.option}\`${note}`;
    case 'refused':
      return `refused, \`${entry.error}\`${note}`;
    case 'absent':
      return `—${note}`;
  }
}

const driverNames = ['overlay', 'bridge', 'macvlan'] as const satisfies readonly DriverName[];

/** Prints the table in Markdown, as docs/drivers.md has it. */
export function formatFeatureTable(): string {
  const rows = [`| feature | ${driverNames.join(' | ')} |`, `| --- |${' --- |'.repeat(driverNames.length)}`];
  for (const feature of Object.keys(featureTexts) as Feature[]) {
    const cells = driverNames.map((driver) => featureCell(featureTable[driver][feature]));
    rows.push(`| ${featureTexts[feature]} | ${cells.join(' | ')} |`);
  }
  return `${rows.join('\n')}\n`;
}
