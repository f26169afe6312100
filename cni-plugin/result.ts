import type { Attached } from '../core/attacher.js';
import { dnsOf, type Dns } from './config.js';
import { cniCode, CniError } from './error.js';
import { asObject, countOf, fieldOf, filledOf, isObject, objectOf, objectsOf, type JsonObject } from './json.js';
import { isAtLeast, isSupported, type CniVersion } from './version.js';

/** A result in the shape of 1.1.0; what is written in another version is converted on its way in and out. */
export interface Result {
  readonly interfaces: readonly Interface[];
  readonly ips: readonly Ip[];
  readonly routes: readonly Route[];
  readonly dns: Dns;
}

export interface Interface {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** Absent: an interface of the host. */
  readonly sandbox?: string;
  readonly socketPath?: string;
  readonly pciID?: string;
}

export interface Ip {
  /** With prefix length. */
  readonly address: string;
  readonly gateway?: string;
  /** Index into the interfaces. */
  readonly interface?: number;
}

export interface Route {
  readonly dst: string;
  readonly gw?: string;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: number;
}

export const emptyResult: Result = { interfaces: [], ips: [], routes: [], dns: {} };

const isV6 = (address: string): boolean => address.includes(':');

/** The value without absent fields. */
function compact<T extends object>(value: { readonly [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}

/**
 * Reads a result in its own version, or the configuration's where it does not say.
 * Errors: 7 for what is none, 1 for a version that is not spoken.
 */
export function parseResult(value: unknown, what: string, configVersion: CniVersion): Result {
  const document = asObject(value, what);
  const version = filledOf(document, 'cniVersion', `${what}.cniVersion`) ?? configVersion;
  if (!isSupported(version))
    throw new CniError(cniCode.incompatibleVersion, `unsupported CNI result version ${JSON.stringify(version)}`, what);
  const dns = dnsOf(objectOf(document, 'dns', `${what}.dns`), `${what}.dns`) ?? {};
  if (!isAtLeast(version, '0.3.0')) return { ...parseOld(document, what), dns };
  return {
    interfaces: (objectsOf(document, 'interfaces', `${what}.interfaces`) ?? []).map((each) =>
      parseInterface(each, what),
    ),
    ips: (objectsOf(document, 'ips', `${what}.ips`) ?? []).map((each) => parseIp(each, `${what}.ips`)),
    routes: parseRoutes(document, what),
    dns,
  };
}

/** 0.1.0 and 0.2.0: one address of each family, each with its routes. */
function parseOld(document: JsonObject, what: string): Omit<Result, 'dns'> {
  const families = ['ip4', 'ip6']
    .map((name) => objectOf(document, name, `${what}.${name}`))
    .filter((family) => family !== undefined);
  return {
    interfaces: [],
    ips: families.map((family) => {
      const address = filledOf(family, 'ip', `${what}.ip`);
      if (address === undefined) throw new CniError(cniCode.invalidConfig, `${what}: an address is missing`);
      return compact<Ip>({ address, gateway: filledOf(family, 'gateway', `${what}.gateway`) });
    }),
    routes: families.flatMap((family) => parseRoutes(family, what)),
  };
}

function parseInterface(each: JsonObject, what: string): Interface {
  return compact<Interface>({
    name: filledOf(each, 'name', `${what}.interfaces.name`) ?? '',
    mac: filledOf(each, 'mac', `${what}.interfaces.mac`),
    mtu: countOf(each, 'mtu', `${what}.interfaces.mtu`),
    sandbox: filledOf(each, 'sandbox', `${what}.interfaces.sandbox`),
    socketPath: filledOf(each, 'socketPath', `${what}.interfaces.socketPath`),
    pciID: filledOf(each, 'pciID', `${what}.interfaces.pciID`),
  });
}

function parseIp(each: JsonObject, what: string): Ip {
  const address = filledOf(each, 'address', `${what}.address`);
  if (address === undefined) throw new CniError(cniCode.invalidConfig, `${what}.address: is missing`);
  const index = fieldOf(each, 'interface');
  // Others write -1 where they mean none.
  const isIndex = typeof index === 'number' && Number.isSafeInteger(index) && index >= 0;
  return compact<Ip>({
    address,
    gateway: filledOf(each, 'gateway', `${what}.gateway`),
    interface: isIndex ? index : undefined,
  });
}

function parseRoutes(document: JsonObject, what: string): Route[] {
  return (objectsOf(document, 'routes', `${what}.routes`) ?? []).map((each) => {
    const number = (name: string): number | undefined => countOf(each, name, `${what}.routes.${name}`);
    const dst = filledOf(each, 'dst', `${what}.routes.dst`);
    if (dst === undefined) throw new CniError(cniCode.invalidConfig, `${what}.routes.dst: is missing`);
    return compact<Route>({
      dst,
      gw: filledOf(each, 'gw', `${what}.routes.gw`),
      mtu: number('mtu'),
      advmss: number('advmss'),
      priority: number('priority'),
      table: number('table'),
      scope: number('scope'),
    });
  });
}

/** Writes a result in a version. Errors: 999 where an old version has no place for a result without addresses. */
export function formatResult(result: Result, version: CniVersion): JsonObject {
  if (!isAtLeast(version, '0.3.0')) return formatOld(result, version);
  const isNew = isAtLeast(version, '1.0.0');
  const { interfaces, ips, routes, dns } = result;
  return {
    cniVersion: version,
    ...(interfaces.length === 0 ? {} : { interfaces: interfaces.map((each) => (isNew ? each : oldInterface(each))) }),
    ...(ips.length === 0
      ? {}
      : { ips: ips.map((ip) => (isNew ? ip : { version: isV6(ip.address) ? '6' : '4', ...ip })) }),
    ...(routes.length === 0 ? {} : { routes }),
    // Before 1.0.0 the library writes it also where it is empty.
    ...(isNew && Object.keys(dns).length === 0 ? {} : { dns }),
  };
}

function oldInterface({ name, mac, sandbox }: Interface): Interface {
  return compact<Interface>({ name, mac, sandbox });
}

function formatOld({ ips, routes, dns }: Result, version: CniVersion): JsonObject {
  const family = (v6: boolean): JsonObject | undefined => {
    const first = ips.find(({ address }) => isV6(address) === v6);
    if (first === undefined) return undefined;
    const own = routes.filter(({ dst }) => isV6(dst) === v6).map(({ dst, gw }) => compact<Route>({ dst, gw }));
    return compact({ ip: first.address, gateway: first.gateway, routes: own.length === 0 ? undefined : own });
  };
  const [ip4, ip6] = [family(false), family(true)];
  if (ip4 === undefined && ip6 === undefined)
    throw new CniError(cniCode.internal, 'cannot convert: no valid IP addresses');
  return { cniVersion: version, ...(ip4 === undefined ? {} : { ip4 }), ...(ip6 === undefined ? {} : { ip6 }), dns };
}

/** The result of an attach: bridge, host's end, sandbox's interface, as the reference bridge plugin orders them. */
export function resultOf(attached: Attached, sandbox: string): Result {
  const { bridge, hostLink, link } = attached;
  const interfaces: Interface[] = [
    ...(bridge === null ? [] : [{ name: bridge.name, mac: bridge.mac, mtu: link.mtu }]),
    ...(hostLink === null ? [] : [{ name: hostLink.name, mac: hostLink.mac, mtu: link.mtu }]),
    { name: link.name, mac: link.mac, mtu: link.mtu, sandbox },
  ];
  return { ...addressesOf(attached, interfaces.length - 1), interfaces };
}

/** The result of a reservation: addresses without an interface, for whoever makes that. */
export function addressesOf(attached: Attached, index?: number): Result {
  return {
    interfaces: [],
    ips: attached.addresses.map(({ address, gateway }) =>
      compact<Ip>({ address, gateway: gateway ?? undefined, interface: index }),
    ),
    routes: attached.routes.map(({ dst, gateway }) => compact<Route>({ dst, gw: gateway ?? undefined })),
    dns: attached.dns ?? {},
  };
}

/** Puts a result behind that of the plugins before in the chain. */
export function appendResult(before: Result, own: Result): Result {
  const shift = before.interfaces.length;
  return {
    interfaces: [...before.interfaces, ...own.interfaces],
    ips: [
      ...before.ips,
      ...own.ips.map((ip) => (ip.interface === undefined ? ip : { ...ip, interface: ip.interface + shift })),
    ],
    routes: [...before.routes, ...own.routes],
    dns: Object.keys(own.dns).length === 0 ? before.dns : own.dns,
  };
}

/** Name servers: those the runtime hands over, else the configuration's as a whole, else what is there. */
export function dnsFor(document: JsonObject, fallback: Dns): Dns {
  const runtime = objectOf(objectOf(document, 'runtimeConfig') ?? {}, 'dns', 'runtimeConfig.dns');
  return runtimeDns(runtime) ?? dnsOf(objectOf(document, 'dns')) ?? fallback;
}

function runtimeDns(runtime: JsonObject | undefined): Dns | undefined {
  if (runtime === undefined || !isObject(runtime)) return undefined;
  const renamed = {
    nameservers: fieldOf(runtime, 'servers'),
    search: fieldOf(runtime, 'searches'),
    options: fieldOf(runtime, 'options'),
  };
  const dns = dnsOf(renamed, 'runtimeConfig.dns');
  const isEmpty =
    dns === undefined || [dns.nameservers, dns.search, dns.options].every((list) => (list ?? []).length === 0);
  return isEmpty ? undefined : dns;
}
