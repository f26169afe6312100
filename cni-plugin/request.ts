import { isUnspecified, parseAddr } from '../core/addr.js';
import type { PortRequest } from '../core/api/port.js';
import type { AddressRange, AttacherRequest, ReserveRequest } from '../core/attacher.js';
import { checkLabels, nameLimits, parseEndpointName } from '../core/name.js';
import type { Bandwidth, Labels, PortProtocol } from '../core/model.js';
import { parseArgs, type Environment } from './environment.js';
import { cniCode, CniError } from './error.js';
import type { NetConfig } from './config.js';
import {
  asObject,
  countOf,
  fieldOf,
  filledOf,
  isObject,
  listOf,
  objectOf,
  objectsOf,
  textsOf,
  type JsonObject,
} from './json.js';

/** Labels by which attachments of one configuration are known. */
export const labelKeys = { name: 'cni.name', runtime: 'cni.runtime' } as const;

/** The labels that all attachments of a configuration have. */
export function configLabels({ name, runtime }: NetConfig): Labels {
  return { [labelKeys.name]: name, [labelKeys.runtime]: runtime };
}

/**
 * What an ADD asks for, from `runtimeConfig`, `args`, CNI_ARGS and the configuration, in that order of precedence.
 * Errors: 4, 7.
 */
export function attachRequest(config: NetConfig, environment: Environment): AttacherRequest {
  const runtime = objectOf(config.document, 'runtimeConfig') ?? {};
  const ports = portsOf(runtime);
  const bandwidth = bandwidthOf(runtime);
  return {
    ...reserveRequest(config, environment),
    target: `netns:${environment.netns}`,
    ...(ports.length === 0 ? {} : { ports }),
    ...(bandwidth === null ? {} : { bandwidth }),
  };
}

/** The same, as far as it is about addresses and names. Errors: 4, 7. */
export function reserveRequest(config: NetConfig, environment: Environment): ReserveRequest {
  const { document } = config;
  const runtime = objectOf(document, 'runtimeConfig') ?? {};
  const args = objectOf(objectOf(document, 'args') ?? {}, 'cni', 'args.cni') ?? {};
  const variables = parseArgs(environment.args);
  const pod = variables.get('K8S_POD_NAME') ?? '';
  const namespace = variables.get('K8S_POD_NAMESPACE') ?? '';
  const name = endpointName(pod);
  const aliases = aliasesOf(runtime, config.name);
  if (name !== null && namespace !== '') aliases.push(`${pod}.${namespace}`);
  const mac =
    filledOf(runtime, 'mac', 'runtimeConfig.mac') ??
    filledOf(args, 'mac', 'args.cni.mac') ??
    filled(variables.get('MAC')) ??
    filledOf(document, 'mac');
  const ranges = rangesOf(runtime);
  return {
    network: config.network,
    id: environment.containerId,
    ifname: environment.ifname,
    ...(name === null ? {} : { name }),
    aliases: [...new Set(aliases.flatMap((alias) => endpointName(alias) ?? []))].slice(0, nameLimits.aliases),
    addresses: addressesOf(runtime, args, variables),
    ...(ranges.length === 0 ? {} : { ranges }),
    ...(mac === undefined ? {} : { mac: mac.toLowerCase() }),
    labels: labelsOf(config, args, variables),
  };
}

function filled(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

/** Containers may have names that are no DNS names: those go without. */
function endpointName(text: string): string | null {
  if (text === '') return null;
  try {
    return parseEndpointName(text);
  } catch {
    return null;
  }
}

/** A list, or, from podman, a map by the network's name. */
function aliasesOf(runtime: JsonObject, name: string): string[] {
  const value = fieldOf(runtime, 'aliases');
  if (!isObject(value)) return textsOf(runtime, 'aliases', 'runtimeConfig.aliases') ?? [];
  return textsOf(value, name, `runtimeConfig.aliases.${name}`) ?? [];
}

function addressesOf(runtime: JsonObject, args: JsonObject, variables: ReadonlyMap<string, string>): string[] {
  const variable = filled(variables.get('IP'));
  const texts =
    textsOf(runtime, 'ips', 'runtimeConfig.ips') ??
    textsOf(args, 'ips', 'args.cni.ips') ??
    (variable === undefined ? [] : variable.split(','));
  // The prefix length is the subnet's: what callers write there is often the whole address's.
  return texts.map((text) => text.trim().replace(/\/\d{1,3}$/, ''));
}

function rangesOf(runtime: JsonObject): AddressRange[][] {
  const sets = listOf(runtime, 'ipRanges', 'runtimeConfig.ipRanges') ?? [];
  return sets.map((set, index) => {
    const what = `runtimeConfig.ipRanges[${index}]`;
    if (!Array.isArray(set)) throw new CniError(cniCode.invalidConfig, `${what}: is not a list of ranges`);
    return set.map((each: unknown, at) => rangeOf(asObject(each, `${what}[${at}]`), `${what}[${at}]`));
  });
}

function rangeOf(range: JsonObject, what: string): AddressRange {
  const subnet = filledOf(range, 'subnet', `${what}.subnet`);
  if (subnet === undefined) throw new CniError(cniCode.invalidConfig, `${what}.subnet: is missing`);
  const start = filledOf(range, 'rangeStart', `${what}.rangeStart`);
  const end = filledOf(range, 'rangeEnd', `${what}.rangeEnd`);
  return { subnet, ...(start === undefined ? {} : { start }), ...(end === undefined ? {} : { end }) };
}

/** One that is asked for twice is one: by 0.0.0.0 and by :: some mean the same twice. */
function portsOf(runtime: JsonObject): PortRequest[] {
  const mappings = objectsOf(runtime, 'portMappings', 'runtimeConfig.portMappings') ?? [];
  const ports = mappings.map((mapping, index): PortRequest => {
    const what = `runtimeConfig.portMappings[${index}]`;
    const protocol = (filledOf(mapping, 'protocol', `${what}.protocol`) ?? 'tcp').toLowerCase();
    if (!isProtocol(protocol))
      throw new CniError(
        cniCode.invalidConfig,
        `${what}.protocol: ${JSON.stringify(protocol)} is none of tcp, udp, sctp`,
      );
    return {
      hostAddress: hostAddressOf(filledOf(mapping, 'hostIP', `${what}.hostIP`)),
      hostPort: portOf(mapping, 'hostPort', what),
      port: portOf(mapping, 'containerPort', what),
      protocol,
    };
  });
  return ports.length < 2 ? ports : [...new Map(ports.map((port) => [JSON.stringify(port), port])).values()];
}

/** Several runtimes write 0.0.0.0 where nobody has named an address; null is all of them. */
function hostAddressOf(text: string | undefined): string | null {
  if (text === undefined) return null;
  try {
    return isUnspecified(parseAddr(text)) ? null : text;
  } catch {
    // Refused where all ports are looked at.
    return text;
  }
}

function isProtocol(text: string): text is PortProtocol {
  return text === 'tcp' || text === 'udp' || text === 'sctp';
}

function portOf(mapping: JsonObject, name: string, what: string): number {
  const port = countOf(mapping, name, `${what}.${name}`) ?? 0;
  if (port > 0 && port <= 65_535) return port;
  throw new CniError(cniCode.invalidConfig, `${what}.${name}: ${port} is no port from 1 to 65535`);
}

/** Rates and bursts are in bits; zero is no limit. */
function bandwidthOf(runtime: JsonObject): Bandwidth | null {
  const limits = objectOf(runtime, 'bandwidth', 'runtimeConfig.bandwidth');
  if (limits === undefined) return null;
  const direction = (name: 'ingress' | 'egress'): [rate: number, burstBytes: number] => {
    const what = 'runtimeConfig.bandwidth';
    const rate = countOf(limits, `${name}Rate`, `${what}.${name}Rate`) ?? 0;
    const burst = countOf(limits, `${name}Burst`, `${what}.${name}Burst`) ?? 0;
    if ((rate === 0) !== (burst === 0))
      throw new CniError(
        cniCode.invalidConfig,
        `${what}: ${name}Rate ${rate} and ${name}Burst ${burst} need each other`,
      );
    if (burst / 8 >= 2 ** 32) throw new CniError(cniCode.invalidConfig, `${what}.${name}Burst: ${burst} is too large`);
    return [rate, Math.ceil(burst / 8)];
  };
  const [ingressRateBps, ingressBurstBytes] = direction('ingress');
  const [egressRateBps, egressBurstBytes] = direction('egress');
  if (ingressRateBps === 0 && egressRateBps === 0) return null;
  return {
    ...(ingressRateBps === 0 ? {} : { ingressRateBps, ingressBurstBytes }),
    ...(egressRateBps === 0 ? {} : { egressRateBps, egressBurstBytes }),
  };
}

/** Who the container is, as far as the runtime says; what is no label is left out. */
function labelsOf(config: NetConfig, args: JsonObject, variables: ReadonlyMap<string, string>): Labels {
  const labels: Record<string, string> = {};
  const given = (objectsOf(args, 'labels', 'args.cni.labels') ?? []).map((label) => [
    filledOf(label, 'key', 'args.cni.labels.key') ?? '',
    filledOf(label, 'value', 'args.cni.labels.value') ?? '',
  ]);
  const pod = [
    ['k8s.namespace', variables.get('K8S_POD_NAMESPACE') ?? ''],
    ['k8s.pod', variables.get('K8S_POD_NAME') ?? ''],
    ['k8s.uid', variables.get('K8S_POD_UID') ?? ''],
  ].filter(([, value]) => value !== '');
  for (const [key = '', value = ''] of [...given, ...pod]) {
    if (Object.keys(labels).length < nameLimits.labels - 2 && isLabel(key, value)) labels[key] = value;
  }
  return { ...labels, ...configLabels(config) };
}

function isLabel(key: string, value: string): boolean {
  try {
    checkLabels({ [key]: value });
    return true;
  } catch {
    return false;
  }
}
