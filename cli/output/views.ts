import type { DnsNameView, DnsRecordView } from '../../core/api/dns.js';
import type { EndpointDetails, EndpointView } from '../../core/api/endpoint.js';
import type { HostView } from '../../core/api/host.js';
import type { NetworkView } from '../../core/api/network.js';
import type { PortView } from '../../core/api/port.js';
import { formatPort } from '../../core/ports.js';
import type { View } from './format.js';

const pairs = (record: Readonly<Record<string, string>>): string =>
  Object.entries(record)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');

export const networkView: View<NetworkView> = {
  fields: [
    'id',
    'name',
    'driver',
    'subnets',
    'vni',
    'mtu',
    'internal',
    'labels',
    'options',
    'joined',
    'createdAt',
    'generation',
  ],
  name: (network) => network.name,
  columns: [
    { title: 'NAME', cell: (network) => network.name },
    { title: 'ID', cell: (network) => network.id },
    { title: 'DRIVER', cell: (network) => network.driver },
    { title: 'SUBNETS', cell: (network) => network.subnets.map((subnet) => subnet.subnet).join(',') },
    {
      title: 'GATEWAYS',
      wide: true,
      cell: (network) => network.subnets.map((subnet) => subnet.gateway ?? '-').join(','),
    },
    {
      title: 'RANGES',
      wide: true,
      cell: (network) => network.subnets.flatMap((subnet) => subnet.range ?? []).join(','),
    },
    { title: 'VNI', wide: true, cell: (network) => network.vni?.toString() ?? '' },
    { title: 'MTU', cell: (network) => network.mtu.toString() },
    { title: 'INTERNAL', wide: true, cell: (network) => (network.internal ? 'yes' : 'no') },
    { title: 'LABELS', wide: true, cell: (network) => pairs(network.labels) },
    { title: 'OPTIONS', wide: true, cell: (network) => pairs(network.options) },
    { title: 'JOINED', wide: true, cell: (network) => (network.joined ?? []).join(',') },
    { title: 'CREATED', wide: true, cell: (network) => network.createdAt },
    { title: 'GENERATION', wide: true, cell: (network) => network.generation.toString() },
  ],
};

export const endpointView: View<EndpointView> = {
  fields: [
    'id',
    'name',
    'aliases',
    'network',
    'host',
    'addresses',
    'mac',
    'ifname',
    'sandbox',
    'generation',
    'state',
    'labels',
    'callerId',
    'ports',
    'bandwidth',
    'createdAt',
  ],
  name: (endpoint) => endpoint.id,
  columns: [
    { title: 'ID', cell: (endpoint) => endpoint.id },
    { title: 'NAME', cell: (endpoint) => endpoint.name ?? '' },
    { title: 'ALIASES', wide: true, cell: (endpoint) => endpoint.aliases.join(',') },
    { title: 'NETWORK', cell: (endpoint) => endpoint.network },
    { title: 'HOST', cell: (endpoint) => endpoint.host },
    { title: 'ADDRESSES', cell: (endpoint) => endpoint.addresses.join(',') },
    { title: 'MAC', wide: true, cell: (endpoint) => endpoint.mac },
    { title: 'IFNAME', cell: (endpoint) => endpoint.ifname },
    { title: 'STATE', cell: (endpoint) => endpoint.state },
    { title: 'PORTS', wide: true, cell: (endpoint) => (endpoint.ports ?? []).map(formatPort).join(',') },
    { title: 'SANDBOX', wide: true, cell: (endpoint) => endpoint.sandbox ?? '' },
    { title: 'LABELS', wide: true, cell: (endpoint) => pairs(endpoint.labels) },
    { title: 'CALLER-ID', wide: true, cell: (endpoint) => endpoint.callerId },
    { title: 'CREATED', wide: true, cell: (endpoint) => endpoint.createdAt },
    { title: 'GENERATION', wide: true, cell: (endpoint) => endpoint.generation.toString() },
  ],
};

/** With its ports, of which the agent may have chosen some, where it has any. */
export function changedEndpointView({ ports = [] }: EndpointView): View<EndpointView> {
  if (ports.length === 0) return endpointView;
  const columns = endpointView.columns.map((column) =>
    column.title === 'PORTS' ? { ...column, wide: false } : column,
  );
  return { ...endpointView, columns };
}

/** In full, with what its sandbox resolves by. */
export const endpointDetailsView: View<EndpointDetails> = {
  fields: [...endpointView.fields, 'resolver'],
  name: endpointView.name,
  columns: [
    ...endpointView.columns,
    { title: 'NAMESERVERS', cell: ({ resolver }) => (resolver?.nameservers ?? []).join(',') },
    { title: 'SEARCH', cell: ({ resolver }) => (resolver?.search ?? []).join(',') },
    { title: 'RESOLVER-OPTIONS', cell: ({ resolver }) => (resolver?.options ?? []).join(',') },
  ],
};

export const portView: View<PortView> = {
  fields: [
    'hostAddress',
    'hostPort',
    'hostPortEnd',
    'port',
    'portEnd',
    'protocol',
    'endpoint',
    'name',
    'network',
    'addresses',
  ],
  name: (port) => port.endpoint,
  columns: [
    { title: 'HOST-ADDRESS', cell: (port) => port.hostAddress ?? '*' },
    { title: 'HOST-PORT', cell: (port) => formatRange(port.hostPort, port.hostPortEnd) },
    { title: 'PROTOCOL', cell: (port) => port.protocol },
    { title: 'PORT', cell: (port) => formatRange(port.port, port.portEnd) },
    { title: 'ENDPOINT', cell: (port) => port.name ?? port.endpoint },
    { title: 'NETWORK', cell: (port) => port.network },
    { title: 'ADDRESSES', cell: (port) => port.addresses.join(',') },
  ],
};

function formatRange(first: number, last: number): string {
  return first === last ? String(first) : `${first}-${last}`;
}

export const hostView: View<HostView> = {
  fields: ['name', 'vtep', 'state', 'lastSeen', 'underlayMtu', 'version'],
  name: (host) => host.name,
  columns: [
    { title: 'NAME', cell: (host) => host.name },
    { title: 'VTEP', cell: (host) => host.vtep },
    { title: 'STATE', cell: (host) => host.state },
    { title: 'LAST-SEEN', cell: (host) => host.lastSeen },
    { title: 'UNDERLAY-MTU', wide: true, cell: (host) => host.underlayMtu.toString() },
    { title: 'VERSION', wide: true, cell: (host) => host.version },
  ],
};

export const dnsNameView: View<DnsNameView> = {
  fields: ['name', 'network', 'addresses', 'host', 'endpoint', 'generation'],
  name: (row) => row.name,
  columns: [
    { title: 'NAME', cell: (row) => row.name },
    { title: 'ADDRESSES', cell: (row) => row.addresses.join(',') },
    { title: 'HOST', cell: (row) => row.host },
    { title: 'ENDPOINT', cell: (row) => row.endpoint },
    { title: 'GENERATION', wide: true, cell: (row) => row.generation.toString() },
  ],
};

export const dnsRecordView: View<DnsRecordView> = {
  fields: ['name', 'type', 'ttl', 'value', 'endpoint', 'network', 'host', 'generation'],
  name: (row) => row.value,
  columns: [
    { title: 'NAME', cell: (row) => row.name },
    { title: 'TYPE', cell: (row) => row.type },
    { title: 'TTL', cell: (row) => row.ttl.toString() },
    { title: 'VALUE', cell: (row) => row.value },
    { title: 'NETWORK', cell: (row) => row.network ?? '' },
    { title: 'HOST', cell: (row) => row.host ?? '' },
    { title: 'ENDPOINT', cell: (row) => row.endpoint ?? '' },
    { title: 'GENERATION', cell: (row) => row.generation?.toString() ?? '' },
  ],
};
