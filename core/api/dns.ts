/**
 * Names, at the agent.
 *
 *   GET    /v1/agent/dns                                DnsNameView[]   the names this host answers
 *   POST   /v1/agent/dns/query       DnsQueryRequest    DnsQueryView
 *   GET    /v1/agent/resolver?target=                   ResolverView    of a sandbox of this host
 */

export interface DnsQueryRequest {
  readonly name: string;
  /** Default: A and AAAA, or PTR for a reverse name. */
  readonly type?: string;
  /** Whoever asks: target, endpoint id, caller's id or name of an endpoint of this host. Default: all networks are seen. */
  readonly from?: string;
}

export interface DnsRecordView {
  readonly name: string;
  readonly type: string;
  readonly ttl: number;
  readonly value: string;
  /** Endpoint id. */
  readonly endpoint: string | null;
  readonly network: string | null;
  /** The endpoint's host. */
  readonly host: string | null;
  readonly generation: number | null;
}

export interface DnsQueryView {
  readonly name: string;
  /** `NOERROR`, `NODATA`, `NXDOMAIN`, `FORWARDED` or `REFUSED`. */
  readonly status: string;
  readonly reason: string;
  /** Where there is no record, the endpoints that have the name. */
  readonly records: readonly DnsRecordView[];
}

/** One name of one endpoint. */
export interface DnsNameView {
  readonly name: string;
  readonly network: string;
  readonly addresses: readonly string[];
  readonly host: string;
  readonly endpoint: string;
  readonly generation: number;
}

/** The settings of a resolver. Source: resolv.conf(5). */
export interface ResolverSettings {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** What a sandbox is told about name servers. */
export interface ResolverView extends ResolverSettings {
  /** As a resolv.conf. */
  readonly text: string;
}
