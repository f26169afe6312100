import { containsAddr, isAddrText, parseAddr, parsePrefix } from '../addr.js';
import type { Network } from '../model.js';

/** What a sandbox is told about name servers, and how hosts are told about theirs. */

/** The settings of a resolver. Source: resolv.conf(5). */
export interface ResolverSettings {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** Where the name server listens inside a sandbox that cannot reach its host. */
export const insideAddress = '127.0.0.153';

/** A lost packet costs two seconds rather than five. */
const resolverOptions = ['timeout:2', 'attempts:3'] as const;
/** As many as resolvers read (MAXNS). */
const mostServers = 3;
/** As many as old resolvers read (MAXDNSRCH). */
const mostSearched = 6;
const longestText = 65_536;

/**
 * The addresses of the host that sandboxes of a network ask: of each subnet the gateway, which is the same on every
 * host, or the host's own address where there is none.
 */
export function listenAddresses(network: Pick<Network, 'driver' | 'subnets'>, own: readonly string[]): string[] {
  if (network.driver === 'macvlan') return [];
  return network.subnets.flatMap(({ subnet, gateway }) => {
    if (gateway !== null) return [gateway];
    const prefix = parsePrefix(subnet);
    return own.find((text) => containsAddr(prefix, parseAddr(text))) ?? [];
  });
}

/** One network of a sandbox with what the host listens on there. */
export interface JoinedNetwork {
  readonly name: string;
  readonly isInternal: boolean;
  readonly listen: readonly string[];
}

/** What a sandbox on these networks is to be told. `ofHost` are the host's own search domains. */
export function resolverSettings(
  networks: readonly JoinedNetwork[],
  domain: string,
  ofHost: readonly string[] = [],
): ResolverSettings {
  const servers = networks.flatMap(({ listen }) => listen);
  const nameservers = servers.length > 0 ? [...new Set(servers)].slice(0, mostServers) : [insideAddress];
  const own = networks.map(({ name }) => `${name.toLowerCase()}.${domain}`);
  const others = networks.every(({ isInternal }) => isInternal) ? [] : ofHost;
  return { nameservers, search: [...new Set([...own, ...others])].slice(0, mostSearched), options: resolverOptions };
}

/** Writes a resolv.conf. */
export function formatResolvConf(settings: ResolverSettings): string {
  const lines = settings.nameservers.map((address) => `nameserver ${address}`);
  if (settings.search.length > 0) lines.push(`search ${settings.search.join(' ')}`);
  if (settings.options.length > 0) lines.push(`options ${settings.options.join(' ')}`);
  return `# Written by tsnet: the names of this container's networks.\n${lines.join('\n')}\n`;
}

/** Reads a resolv.conf; what is not understood is passed over, as resolvers do. Zone ids are left on addresses. */
export function parseResolvConf(text: string): ResolverSettings {
  const nameservers: string[] = [];
  let search: string[] = [];
  const options: string[] = [];
  for (const line of text.slice(0, longestText).split('\n')) {
    const [word, ...rest] = line.trim().split(/\s+/);
    const comment = rest.findIndex((part) => part.startsWith('#') || part.startsWith(';'));
    const values = comment < 0 ? rest : rest.slice(0, comment);
    if (word === 'nameserver' && values[0] !== undefined && isAddrText(values[0].split('%', 1)[0] ?? ''))
      nameservers.push(values[0]);
    else if (word === 'search' || word === 'domain') search = values.filter((value) => value !== '.');
    else if (word === 'options') options.push(...values);
  }
  return { nameservers, search, options };
}
