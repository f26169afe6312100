/**
 * Every key of the store, built and parsed. Parts are names and ids that hold no `/`, except CIDRs,
 * whose `/` is written `_`.
 */

const root = '/tsnet/v1/';

/** What all keys of tsnet begin with. */
export const keyPrefix = root;

/** Random text made with the store. */
export const epochKey = `${root}epoch`;
export const settingsKey = `${root}settings`;
/** Where records for CoreDNS were written; read by those who write or remove them. */
export const skyDnsKey = `${root}skydns`;
/** Read and written by whatever adds or removes subnets, of any network. */
export const subnetsGuardKey = `${root}guards/subnets`;
/** Read and written by whatever publishes a port of hosts for a service. */
export const publishedGuardKey = `${root}guards/published`;
/** Read and written by whatever says which places controllers and their store have. */
export const placesGuardKey = `${root}guards/places`;

export const networkKey = (id: string): string => `${root}networks/${id}`;
/** Lookups of names do not see case (RFC 4343), and so no two networks may have names that differ in it only. */
export const nameKey = (name: string): string => `${root}names/${name.toLowerCase()}`;
export const vniKey = (vni: number): string => `${root}vnis/${vni}`;
/** Read and written by whatever gives or takes blocks of one network. */
export const blocksGuardKey = (network: string): string => `${root}guards/blocks/${network}`;
export const blockKey = (network: string, cidr: string): string => `${root}blocks/${network}/${cidr.replace('/', '_')}`;
export const hostKey = (host: string): string => `${root}hosts/${host}`;
/** Places of a controller and its store, bound to a lease; or such that no controller of today names. */
export const controllerKey = (id: string): string => `${root}controllers/${id}`;
export const policyKey = (name: string): string => `${root}policies/${name}`;
export const serviceKey = (network: string, name: string): string => `${root}services/${network}/${name}`;
/** The only key bound to a host's lease. */
export const livenessKey = (host: string): string => `${root}liveness/${host}`;
export const carrierKey = (network: string, host: string): string => `${root}carriers/${network}/${host}`;
export const endpointKey = (network: string, id: string): string => `${root}endpoints/${network}/${id}`;
/** Who holds an address in a network. */
export const addressKey = (network: string, address: string): string => `${root}addresses/${network}/${address}`;
/** Which endpoint holds a MAC in a network. */
export const macKey = (network: string, mac: string): string => `${root}macs/${network}/${mac}`;
export const carveKey = (owner: string, id: string): string => `${root}carves/${owner}/${id}`;
/** The answer to a carve; short-lived. */
export const carveAnswerKey = (owner: string, id: string): string => `${root}carve-answers/${owner}/${id}`;
/** That a network was removed: no journal brings it back. */
export const removedKey = (network: string): string => `${root}removed/${network}`;
/** That a bearer token with this SHA-256 is good for a role: `admin`, `host` (any), or `host:NAME`. */
export const tokenKey = (role: string, hash: string): string => `${root}tokens/${role}/${hash}`;
export const tokenPrefix = (role: string): string => `${root}tokens/${role}/`;

export const networksPrefix = `${root}networks/`;
export const controllersPrefix = `${root}controllers/`;
export const blocksPrefix = (network: string): string => `${root}blocks/${network}/`;
export const carriersPrefix = (network: string): string => `${root}carriers/${network}/`;
export const endpointsPrefix = (network: string): string => `${root}endpoints/${network}/`;
export const servicesPrefix = (network: string): string => `${root}services/${network}/`;
export const addressesPrefix = (network: string): string => `${root}addresses/${network}/`;
export const macsPrefix = (network: string): string => `${root}macs/${network}/`;

/** A key taken apart. */
export type Key =
  | { readonly kind: 'epoch' | 'settings' | 'subnets-guard' | 'published-guard' | 'places-guard' }
  | { readonly kind: 'network' | 'controller'; readonly id: string }
  | { readonly kind: 'name' | 'policy'; readonly name: string }
  | { readonly kind: 'vni'; readonly vni: number }
  | { readonly kind: 'blocks-guard'; readonly network: string }
  | { readonly kind: 'block'; readonly network: string; readonly cidr: string }
  | { readonly kind: 'host' | 'liveness'; readonly host: string }
  | { readonly kind: 'carrier'; readonly network: string; readonly host: string }
  | { readonly kind: 'endpoint'; readonly network: string; readonly id: string }
  | { readonly kind: 'service'; readonly network: string; readonly name: string }
  | { readonly kind: 'address'; readonly network: string; readonly address: string }
  | { readonly kind: 'mac'; readonly network: string; readonly mac: string }
  | { readonly kind: 'carve' | 'carve-answer'; readonly owner: string; readonly id: string }
  | { readonly kind: 'removed'; readonly network: string }
  | { readonly kind: 'token'; readonly role: string; readonly hash: string };

/** Takes a key apart; undefined for one that is not tsnet's. */
export function parseKey(text: string): Key | undefined {
  if (!text.startsWith(root)) return undefined;
  const parts = text.slice(root.length).split('/');
  if (parts.some((part) => part === '')) return undefined;
  const [table, a, b, ...more] = parts;
  if (table === undefined || more.length > 0) return undefined;
  if (a === undefined) return table === 'epoch' || table === 'settings' ? { kind: table } : undefined;
  return b === undefined ? parseShort(table, a) : parseLong(table, a, b);
}

function parseShort(table: string, a: string): Key | undefined {
  switch (table) {
    case 'networks':
      return { kind: 'network', id: a };
    case 'names':
      return { kind: 'name', name: a };
    case 'policies':
      return { kind: 'policy', name: a };
    case 'vnis':
      return /^\d{1,8}$/.test(a) ? { kind: 'vni', vni: Number(a) } : undefined;
    case 'hosts':
      return { kind: 'host', host: a };
    case 'liveness':
      return { kind: 'liveness', host: a };
    case 'removed':
      return { kind: 'removed', network: a };
    case 'controllers':
      return { kind: 'controller', id: a };
    case 'guards':
      return a === 'subnets' || a === 'published' || a === 'places' ? { kind: `${a}-guard` } : undefined;
    default:
      return undefined;
  }
}

function parseLong(table: string, a: string, b: string): Key | undefined {
  switch (table) {
    case 'guards':
      return a === 'blocks' ? { kind: 'blocks-guard', network: b } : undefined;
    case 'blocks':
      return { kind: 'block', network: a, cidr: b.replace('_', '/') };
    case 'carriers':
      return { kind: 'carrier', network: a, host: b };
    case 'endpoints':
      return { kind: 'endpoint', network: a, id: b };
    case 'services':
      return { kind: 'service', network: a, name: b };
    case 'addresses':
      return { kind: 'address', network: a, address: b };
    case 'macs':
      return { kind: 'mac', network: a, mac: b };
    case 'carves':
      return { kind: 'carve', owner: a, id: b };
    case 'carve-answers':
      return { kind: 'carve-answer', owner: a, id: b };
    case 'tokens':
      return { kind: 'token', role: a, hash: b };
    default:
      return undefined;
  }
}
