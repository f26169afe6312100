import type { DnsRecordView } from '../../core/api/dns.js';
import type { DnsRecord } from '../../core/dns/record.js';
import type { ZoneEndpoint } from '../../core/dns/zone-endpoint.js';
import type { DnsExplained, DnsQuestion } from './protocol.js';
import type { DnsTables } from './tables.js';

/** Answers a question as a sandbox would have it answered, and says why. */
export function explain(tables: DnsTables, question: DnsQuestion): DnsExplained {
  const { zone } = tables;
  const scope = question.from === null ? null : tables.scopeOf(question.from);
  if (question.from !== null && scope === null)
    return { status: 'REFUSED', reason: 'no endpoint of this host asks', records: [] };
  const networks = scope?.networks ?? zone.networks().map(({ id }) => id);
  const name = question.name.toLowerCase().replace(/\.$/, '');
  const answer = zone.resolve(name, question.type.toUpperCase(), networks);
  if (answer === null) {
    const isForwarded = scope?.forwards ?? true;
    return isForwarded
      ? { status: 'FORWARDED', reason: 'no name of these networks: upstreams are asked', records: [] }
      : { status: 'NXDOMAIN', reason: 'no name of these networks, and internal networks do not forward', records: [] };
  }
  const names = new Map(zone.networks().map((network) => [network.id, network.name]));
  const isEmpty = answer.answers.length === 0;
  return {
    status: answer.exists ? (isEmpty ? 'NODATA' : 'NOERROR') : 'NXDOMAIN',
    reason: answer.reason,
    records: isEmpty
      ? answer.endpoints.map((endpoint) => explained(null, endpoint, names))
      : answer.answers.map((record) => explained(record, ownerOf(record, answer.endpoints), names)),
  };
}

function ownerOf(record: DnsRecord, endpoints: readonly ZoneEndpoint[]): ZoneEndpoint | undefined {
  return endpoints.find((endpoint) => {
    if (record.type === 'A' || record.type === 'AAAA') return endpoint.addresses.includes(record.address);
    if (record.type === 'SRV') return record.target.startsWith(`${endpoint.service?.target ?? endpoint.id}.`);
    if (record.type !== 'TXT') return true;
    return Object.entries(endpoint.labels).some(([key, value]) => record.text === `${key}=${value}`);
  });
}

function explained(
  record: DnsRecord | null,
  endpoint: ZoneEndpoint | undefined,
  names: ReadonlyMap<string, string>,
): DnsRecordView {
  return {
    name: record?.name ?? endpoint?.name ?? '',
    type: record?.type ?? '',
    ttl: record?.ttl ?? 0,
    value: record === null ? '' : valueOf(record),
    endpoint: endpoint?.id ?? null,
    network: endpoint === undefined ? null : (names.get(endpoint.network) ?? endpoint.network),
    host: endpoint?.host ?? null,
    generation: endpoint?.generation ?? null,
  };
}

/** A record's data as a zone file has it. */
function valueOf(record: DnsRecord): string {
  switch (record.type) {
    case 'A':
    case 'AAAA':
      return record.address;
    case 'PTR':
    case 'NS':
      return `${record.target}.`;
    case 'SRV':
      return `${record.priority} ${record.weight} ${record.port} ${record.target}.`;
    case 'TXT':
      return record.text;
    case 'SOA':
      return `${record.primary}. ${record.mailbox}. ${record.serial}`;
  }
}
