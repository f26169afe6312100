import type { LogLevel } from '../lib/log.js';

/** What `tsnet agent` is started with. */
export interface AgentOptions {
  /** Controllers' URLs, tried in order. */
  readonly controllers: readonly string[];
  readonly hostName: string;
  /** Interface or address of the underlay; null: the interface of the default route. */
  readonly underlay: string | null;
  readonly dataDir: string;
  /** Holds agent.sock and cni.sock. */
  readonly runDir: string;
  /** Host token; null: none is sent (controllers over loopback). */
  readonly tokenFile: string | null;
  /** A released address rests this long before it is given again. */
  readonly quarantineMs: number;
  /** All kernel objects are compared with a full dump this often. */
  readonly auditMs: number;
  /** Whether the one rule may be put into Docker's DOCKER-USER chain. */
  readonly dockerUser: boolean;
  /** Absent or null: this host answers no names. */
  readonly dns?: DnsOptions | null;
  readonly logLevel: LogLevel;
}

/** How the host's name server is run, and what it is told. */
export interface DnsOptions {
  /** Program and arguments; it is a process of its own. */
  readonly program: readonly string[];
  /** Domain below which all names of tsnet are. */
  readonly domain: string;
  /** Who is asked for other names; empty: those of the host's resolv.conf. */
  readonly upstreams: readonly string[];
}

export const agentDefaults = {
  controllers: ['http://127.0.0.1:7420'],
  underlay: null,
  dataDir: '/var/lib/tsnet/agent',
  runDir: '/run/tsnet',
  tokenFile: null,
  quarantineMs: 60_000,
  auditMs: 30_000,
  dockerUser: true,
  logLevel: 'info',
} as const satisfies Omit<AgentOptions, 'hostName'>;

export const dnsDefaults = { domain: 'tsnet.internal' } as const;
