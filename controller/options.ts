import type { SkyDnsPlace } from '../core/dns/skydns.js';
import type { LogLevel } from '../lib/log.js';

/** What `tsnet controller` is started with. */
export interface ControllerOptions {
  /** `http://ADDRESS:PORT` or `unix:PATH`; default `http://127.0.0.1:7420`. */
  readonly listen: readonly string[];
  readonly dataDir: string;
  /** Empty: start the system's etcd inside the data directory. */
  readonly etcd: readonly string[];
  /** Pools that subnets are taken from when none is given, `CIDR` or `CIDR:LENGTH` (length of each subnet). */
  readonly subnetPools: readonly string[];
  /** UDP port of VXLAN in a new store; an existing store keeps its own. */
  readonly vxlanPort: number;
  readonly livenessMs: number;
  readonly hostsManageNetworks: boolean;
  /** Requests over loopback need a token as well. */
  readonly requireLoopbackToken: boolean;
  /** Hosts need tokens of their own; the one in `host.token` is good for nothing. */
  readonly ownHostTokens: boolean;
  /** Where records for CoreDNS are written; null: nowhere, and what was written is removed. */
  readonly skyDns: SkyDnsPlace | null;
  readonly logLevel: LogLevel;
}

export const controllerDefaults: ControllerOptions = {
  listen: ['http://127.0.0.1:7420'],
  dataDir: '/var/lib/tsnet/controller',
  etcd: [],
  subnetPools: ['10.64.0.0/10:20', 'fd74:736e::/32:64'],
  vxlanPort: 4789,
  livenessMs: 10_000,
  hostsManageNetworks: true,
  requireLoopbackToken: false,
  ownHostTokens: false,
  skyDns: null,
  logLevel: 'info',
};
