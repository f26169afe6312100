import { backendState, isSelectedBy } from '../service/backend.js';
import { isListed } from '../found-endpoint.js';
import type { Endpoint, Service } from '../model.js';
import { canonicalName, endpointNames, reverseOf, servicePorts } from './names.js';

/**
 * Records in the layout that CoreDNS's etcd plugin serves.
 *
 * Source: SkyDNS message format as CoreDNS reads it (plugin/etcd/msg): a key is the prefix and the name's labels from
 * the right, and every key below a name is an answer for that name. So each address has a leaf of its own.
 */

/** Where the records are written. */
export interface SkyDnsPlace {
  /** Begins with a slash and does not end with one. */
  readonly prefix: string;
  readonly domain: string;
}

/** One network with what is to be found in it. */
export interface SkyDnsNetwork {
  readonly name: string;
  readonly endpoints: readonly Endpoint[];
  readonly services: readonly Service[];
}

/** Seconds; without it CoreDNS takes 300. */
const ttl = 5;
const priority = 10;
const weight = 100;

/** Marks a value as ours, as the field `tsnet`; CoreDNS passes it over. */
interface SkyDnsValue {
  readonly host: string;
  readonly port?: number;
  readonly priority: number;
  readonly weight: number;
  readonly ttl: number;
  readonly tsnet: string;
}

/** What every record of a place lies below: names of the domain, and reverse names, which others may share. */
export function skyDnsFolders({ prefix, domain }: SkyDnsPlace): string[] {
  return [`${pathOf(prefix, domain)}/`, `${pathOf(prefix, 'in-addr.arpa')}/`, `${pathOf(prefix, 'ip6.arpa')}/`];
}

/** Reports whether a record is one of ours: what others keep in the same folders is not touched. */
export function isOwnSkyDns(value: string): boolean {
  try {
    const parsed: unknown = JSON.parse(value);
    return typeof parsed === 'object' && parsed !== null && 'tsnet' in parsed;
  } catch {
    return false;
  }
}

/** The records of all networks, by key. Endpoints on `down` hosts have none. */
export function skyDnsRecords(
  place: SkyDnsPlace,
  networks: readonly SkyDnsNetwork[],
  down: ReadonlySet<string>,
): Map<string, string> {
  const records = new Map<string, string>();
  for (const { name, endpoints, services } of networks) {
    const zone = `${name.toLowerCase()}.${place.domain}`;
    const taken = new Set(services.map((service) => service.name.toLowerCase()));
    const live = endpoints.filter((each) => isListed(each) && !down.has(each.host));
    for (const endpoint of live) {
      const port = servicePorts(endpoint)[0]?.port;
      const put = (of: string): void =>
        putLeaves(records, pathOf(place.prefix, `${of}.${zone}`), { ...endpoint, port });
      for (const each of endpointNames(endpoint)) if (!taken.has(each)) put(each);
      for (const address of endpoint.addresses)
        records.set(
          pathOf(place.prefix, reverseOf(address)),
          valueOf({ host: `${canonicalName(endpoint)}.${zone}.`, tsnet: endpoint.id }),
        );
    }
    for (const service of services) {
      const folder = pathOf(place.prefix, `${service.name.toLowerCase()}.${zone}`);
      const port = service.ports[0]?.port;
      if (service.mode === 'vip') putLeaves(records, folder, { id: 'vip', addresses: service.addresses, port });
      else
        for (const endpoint of live)
          if (isSelectedBy(service, endpoint) && backendState(service, endpoint, down) === 'ready')
            putLeaves(records, folder, { ...endpoint, port });
    }
  }
  return records;
}

interface Leaves {
  readonly id: string;
  readonly addresses: readonly string[];
  readonly port: number | undefined;
}

/** The first address has the id for its leaf, so that the target of an SRV answer is a name that we answer as well. */
function putLeaves(records: Map<string, string>, folder: string, { id, addresses, port }: Leaves): void {
  addresses.forEach((host, index) => {
    const leaf = index === 0 ? id : `${id}-${index + 1}`;
    records.set(`${folder}/${leaf}`, valueOf({ host, ...(port === undefined ? {} : { port }), tsnet: id }));
  });
}

function valueOf(value: Pick<SkyDnsValue, 'host' | 'port' | 'tsnet'>): string {
  const { host, port, tsnet } = value;
  const whole: SkyDnsValue = { host, ...(port === undefined ? {} : { port }), priority, weight, ttl, tsnet };
  return JSON.stringify(whole);
}

function pathOf(prefix: string, name: string): string {
  return `${prefix}/${name.split('.').reverse().join('/')}`;
}
