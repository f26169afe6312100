import type { NetworkCreate, SubnetRequest } from '../core/api/network.js';
import { namePattern } from './environment.js';
import { cniCode, CniError } from './error.js';
import { booleanOf, countOf, fieldOf, filledOf, isObject, objectOf, textOf, textsOf, type JsonObject } from './json.js';
import { checkVersion, defaultVersion, type CniVersion } from './version.js';

/** What the plugin is called as: for an interface, or for the addresses of another plugin's. */
export type Role = 'main' | 'ipam';

/** A configuration, as far as every verb needs it. */
export interface NetConfig {
  readonly cniVersion: CniVersion;
  /** Of the runtime's network. */
  readonly name: string;
  readonly role: Role;
  /** The tsnet network. */
  readonly network: string;
  /** The private key that `tsnet cni install` writes: which runtime's configuration it is; empty where there is none. */
  readonly runtime: string;
  /** How to make the network where there is none; null where the configuration does not say. */
  readonly create: NetworkCreate | null;
  /** Another IPAM plugin that gives the addresses; null: tsnet does. */
  readonly delegate: string | null;
  /** The document, for what only some verbs read. */
  readonly document: JsonObject;
  /** The same as text, for delegates. */
  readonly text: string;
}

export const pluginType = 'tsnet';

/** Reads the document and the network's name, which come before all else. Errors: 6, 7. */
export function parseDocument(text: string): { readonly document: JsonObject; readonly name: string } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw undecodable(error instanceof Error ? error.message : String(error));
  }
  if (value !== null && !isObject(value)) throw undecodable('the document is no object');
  const document = value ?? {};
  const name = fieldOf(document, 'name') ?? '';
  if (typeof name !== 'string') throw undecodable('"name" is not a string');
  if (name === '') throw new CniError(cniCode.invalidConfig, 'missing network name');
  if (!namePattern.test(name))
    throw new CniError(cniCode.invalidConfig, 'invalid characters found in network name', name);
  return { document, name };
}

/** Reads what every verb needs. Errors: 1, 6, 7. */
export function parseConfig(parsed: ReturnType<typeof parseDocument>, text: string, command: string): NetConfig {
  const { document, name } = parsed;
  const cniVersion = checkVersion(versionOf(document), command);
  const ipam = objectOf(document, 'ipam');
  const ipamType = ipam === undefined ? undefined : filledOf(ipam, 'type', 'ipam.type');
  const type = filledOf(document, 'type');
  const role: Role = ipamType === pluginType && type !== undefined && type !== pluginType ? 'ipam' : 'main';
  const own = role === 'ipam' && ipam !== undefined ? ipam : document;
  if (ipamType?.includes('/') === true)
    throw new CniError(cniCode.invalidConfig, `ipam.type: ${JSON.stringify(ipamType)} is no name of a plugin`);
  const network = filledOf(own, 'network') ?? name;
  return {
    cniVersion,
    name,
    role,
    network,
    runtime: filledOf(own, 'runtime') ?? '',
    create: createOf(own, network),
    delegate: ipamType === undefined || ipamType === pluginType ? null : ipamType,
    document,
    text,
  };
}

function undecodable(why: string): CniError {
  return new CniError(cniCode.decode, `error unmarshall network config: ${why}`);
}

function versionOf(document: JsonObject): string {
  const version = fieldOf(document, 'cniVersion') ?? '';
  if (typeof version === 'string') return version === '' ? defaultVersion : version;
  throw new CniError(cniCode.decode, 'decoding version from network config: "cniVersion" is not a string');
}

/** Any of `subnets`, `driver` and `options` says that the network may be made. */
function createOf(own: JsonObject, name: string): NetworkCreate | null {
  const [subnets, driver, options] = ['subnets', 'driver', 'options'].map((key) => fieldOf(own, key));
  if (subnets === undefined && driver === undefined && options === undefined) return null;
  const more = {
    driver: driverOf(own),
    subnets: subnets === undefined ? undefined : subnetsOf(subnets),
    options: options === undefined ? undefined : optionsOf(options),
    ipv6: booleanOf(own, 'ipv6'),
    internal: booleanOf(own, 'internal'),
    mtu: countOf(own, 'mtu'),
  };
  const given = Object.entries(more).filter(([, value]) => value !== undefined);
  return { name, ...(Object.fromEntries(given) as Omit<NetworkCreate, 'name'>) };
}

function driverOf(own: JsonObject): NetworkCreate['driver'] {
  const driver = filledOf(own, 'driver');
  if (driver === undefined || driver === 'overlay' || driver === 'bridge' || driver === 'macvlan') return driver;
  throw new CniError(cniCode.invalidConfig, `driver: ${JSON.stringify(driver)} is none of overlay, bridge, macvlan`);
}

/** Each a CIDR, or an object of `subnet`, `gateway` and `range`. */
function subnetsOf(value: unknown): SubnetRequest[] {
  if (!Array.isArray(value)) throw new CniError(cniCode.invalidConfig, 'subnets: is not a list');
  return value.map((each: unknown, index) => {
    if (typeof each === 'string') return { subnet: each };
    const what = `subnets[${index}]`;
    const subnet = isObject(each) ? filledOf(each, 'subnet', `${what}.subnet`) : undefined;
    if (!isObject(each) || subnet === undefined)
      throw new CniError(cniCode.invalidConfig, `${what}: is neither a CIDR nor an object with "subnet"`);
    const gateway = filledOf(each, 'gateway', `${what}.gateway`);
    const range = filledOf(each, 'range', `${what}.range`);
    return { subnet, ...(gateway === undefined ? {} : { gateway }), ...(range === undefined ? {} : { range }) };
  });
}

function optionsOf(value: unknown): Record<string, string> {
  if (!isObject(value)) throw new CniError(cniCode.invalidConfig, 'options: is not an object');
  return Object.fromEntries(
    Object.entries(value).map(([key, option]) => {
      if (typeof option === 'string') return [key, option];
      throw new CniError(cniCode.invalidConfig, `options.${key}: is not a string`);
    }),
  );
}

/** Name servers as configurations and results write them. */
export interface Dns {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}

/** Reads a `dns` object; undefined where it says nothing at all, also not with an empty list. Errors: 7. */
export function dnsOf(object: JsonObject | undefined, what = 'dns'): Dns | undefined {
  if (object === undefined) return undefined;
  const nameservers = textsOf(object, 'nameservers', `${what}.nameservers`);
  const domain = textOf(object, 'domain', `${what}.domain`);
  const search = textsOf(object, 'search', `${what}.search`);
  const options = textsOf(object, 'options', `${what}.options`);
  const dns: Dns = {
    ...(nameservers === undefined ? {} : { nameservers }),
    ...(domain === undefined || domain === '' ? {} : { domain }),
    ...(search === undefined ? {} : { search }),
    ...(options === undefined ? {} : { options }),
  };
  return Object.keys(dns).length === 0 ? undefined : dns;
}
