import type { DnsQueryView } from '../../core/api/dns.js';
import type { ResolverSettings } from '../../core/dns/resolver.js';
import type { ZoneEndpoint, ZoneNetwork } from '../../core/dns/zone-endpoint.js';

/**
 * What agent and name server say to each other over RUN-DIR/dns.sock: JSON, one message a line. The agent begins with
 * all that it knows, between `begin` and `end`, and goes on with changes.
 */

export interface DnsNetwork extends ZoneNetwork {
  readonly internal: boolean;
  /** Where to forward for this network's sandboxes; empty: as the host does. */
  readonly servers: readonly string[];
  /** Addresses of this host to listen on; empty while it does not carry the network. */
  readonly listen: readonly string[];
}

/** An endpoint of this host. */
export interface DnsOwn {
  readonly endpoint: string;
  /** Cookie of the sandbox: its endpoints share what they see. Null: in none. */
  readonly sandbox: string | null;
  /** Target to open a socket in, where the sandbox cannot reach the host. */
  readonly inside: string | null;
}

export interface DnsSettings {
  readonly domain: string;
  /** Instead of those of the host's resolv.conf. */
  readonly upstreams: readonly string[];
}

export interface DnsQuestion {
  readonly id: number;
  readonly name: string;
  readonly type: string;
  /** Endpoint that asks; null: all networks are seen. */
  readonly from: string | null;
}

export type ToServer =
  | { readonly do: 'begin'; readonly settings: DnsSettings }
  | { readonly do: 'network'; readonly value: DnsNetwork }
  | { readonly do: 'endpoint'; readonly value: ZoneEndpoint }
  | { readonly do: 'own'; readonly value: DnsOwn }
  | { readonly do: 'gone'; readonly kind: 'network' | 'endpoint' | 'own'; readonly id: string }
  | { readonly do: 'down'; readonly hosts: readonly string[] }
  | { readonly do: 'end' }
  | { readonly do: 'ask'; readonly question: DnsQuestion }
  /** Starts a name server of another version, and leaves its sockets to it. */
  | { readonly do: 'replace'; readonly program: readonly string[] }
  | { readonly do: 'stop' };

/** Where something is really listened on, since port 53 may be taken. */
export interface DnsPlace {
  readonly address: string;
  readonly protocol: 'udp' | 'tcp';
  readonly port: number;
}

/** An open socket of the name server: its descriptor there, and its inode, for descriptors are used again. */
export interface DnsSocket {
  readonly fd: number;
  readonly inode: number;
}

export type ToAgent =
  | { readonly say: 'hello'; readonly version: string; readonly pid: number }
  | { readonly say: 'places'; readonly places: readonly DnsPlace[]; readonly failed: readonly string[] }
  /** Sockets of a place: an address, or the cookie of the sandbox that they are inside of. */
  | { readonly say: 'open'; readonly place: string; readonly udp: DnsSocket; readonly tcp: DnsSocket }
  | { readonly say: 'closed'; readonly place: string }
  | { readonly say: 'answer'; readonly id: number; readonly answer: DnsExplained };

/** An answer with its reasons, for people. */
export type DnsExplained = Omit<DnsQueryView, 'name'>;

export type { ResolverSettings };

const longestLineChars = 4 * 1024 * 1024;

/** Cuts a stream into messages. Errors: RangeError for a line that never ends, SyntaxError for what is no JSON. */
export function newLineReader<Message>(onMessage: (message: Message) => void): (part: string) => void {
  let pending = '';
  return (part) => {
    const lines = (pending + part).split('\n');
    pending = lines.pop() ?? '';
    if (pending.length > longestLineChars) throw new RangeError('a line of the DNS socket is too long');
    for (const line of lines) if (line !== '') onMessage(JSON.parse(line) as Message);
  };
}
