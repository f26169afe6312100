/** JSON Schemas of the records in `model.ts`, as they stand in the store and go over the wire. */
import { Type } from 'typebox';
import type {
  Bandwidth,
  Block,
  Carrier,
  Carve,
  ClusterSettings,
  Cursor,
  Endpoint,
  HeldPort,
  Host,
  Network,
  PortMapping,
  Subnet,
} from '../model.js';
import * as part from './part.js';
import { closed, orNull, shapeOf, text } from './part.js';

export const subnetSchema = shapeOf<Subnet>()(
  Type.Object(
    {
      subnet: part.cidrText,
      gateway: orNull(part.addrText),
      range: Type.Optional(part.cidrText),
    },
    { ...closed, description: 'One subnet of a network' },
  ),
);

export const networkSchema = shapeOf<Network>()(
  Type.Object(
    {
      ...part.recordBase,
      id: part.networkId,
      name: part.networkName,
      driver: part.driver,
      subnets: Type.Array(subnetSchema, { minItems: 1, maxItems: 32 }),
      vni: orNull(part.count('VXLAN network identifier', 2 ** 24 - 1)),
      mtu: part.mtu,
      internal: Type.Boolean({ description: 'Whether the network has no way out' }),
      labels: part.labels,
      options: part.driverOptions,
      joined: Type.Optional(Type.Array(part.networkId, { maxItems: 64, description: 'Networks joined to it' })),
      createdAt: part.timeText,
    },
    { ...closed, description: 'Network record' },
  ),
);

export const hostSchema = shapeOf<Host>()(
  Type.Object(
    {
      ...part.recordBase,
      name: part.hostName,
      vtep: part.addrText,
      underlayMtu: part.mtu,
      bootId: text('Boot id of the host', '5bc1c5a2-9a4c-4a53-a0b5-6b0e2f4d8f10', 64),
      instance: text('Random per data directory', '0123456789abcdef0123456789abcdef', 64),
      version: part.version,
      leaseId: text('etcd lease of the host, decimal', '7587869134522368001', 20),
      lastSeen: part.timeText,
    },
    { ...closed, description: 'Host record' },
  ),
);

export const blockSchema = shapeOf<Block>()(
  Type.Object(
    {
      ...part.recordBase,
      network: part.networkId,
      cidr: part.cidrText,
      host: orNull(part.hostName),
      carved: Type.Array(part.addrText, {
        maxItems: 65536,
        description: 'Addresses inside that belong to other hosts',
      }),
    },
    { ...closed, description: 'A part of a subnet that one host allocates from' },
  ),
);

export const carveSchema = shapeOf<Carve>()(
  Type.Object(
    {
      ...part.recordBase,
      id: part.idText('carve', 'Carve id'),
      network: part.networkId,
      cidr: part.cidrText,
      address: orNull(part.addrText),
      owner: part.hostName,
      requester: part.hostName,
    },
    { ...closed, description: 'A request that an owner gives up one address of a block' },
  ),
);

const heldPortFields = {
  hostPort: part.port,
  protocol: part.portProtocol,
  holder: text('What has the port', 'process nginx (pid 812), which listens on 0.0.0.0:80/tcp', 256),
};

const heldPortSchema = shapeOf<HeldPort>()(
  Type.Object(heldPortFields, { ...closed, description: 'A published port that something else on the host has' }),
);

/** A held port, with the host. */
export const heldPortViewSchema = Type.Object({ ...heldPortFields, host: part.hostName }, closed);

export const carrierSchema = shapeOf<Carrier>()(
  Type.Object(
    {
      ...part.recordBase,
      network: part.networkId,
      host: part.hostName,
      vtep: part.addrText,
      addresses: part.addresses,
      mac: part.macText,
      held: Type.Optional(Type.Array(heldPortSchema, { maxItems: 256 })),
    },
    { ...closed, description: 'That a host carries a network' },
  ),
);

export const portMappingSchema = shapeOf<PortMapping>()(
  Type.Object(
    {
      hostAddress: orNull(part.addrText),
      hostPort: part.port,
      hostPortEnd: part.port,
      port: part.port,
      portEnd: part.port,
      protocol: part.portProtocol,
    },
    { ...closed, description: 'A published port or range' },
  ),
);

export const bandwidthSchema = shapeOf<Bandwidth>()(
  Type.Object(
    {
      ingressRateBps: Type.Optional(part.count('Bits per second into the sandbox', part.maxRateBps, 1000)),
      ingressBurstBytes: Type.Optional(part.count('Burst into the sandbox, bytes', 2 ** 31 - 1, 1)),
      egressRateBps: Type.Optional(part.count('Bits per second out of the sandbox', part.maxRateBps, 1000)),
      egressBurstBytes: Type.Optional(part.count('Burst out of the sandbox, bytes', 2 ** 31 - 1, 1)),
    },
    { ...closed, description: 'Limits of the traffic of an endpoint' },
  ),
);

export const endpointSchema = shapeOf<Endpoint>()(
  Type.Object(
    {
      ...part.recordBase,
      id: part.endpointId,
      network: part.networkId,
      host: part.hostName,
      addresses: part.addresses,
      mac: part.macText,
      ifname: part.ifname,
      name: orNull(part.endpointName),
      aliases: part.aliases,
      labels: part.labels,
      state: part.endpointState,
      callerId: part.callerId,
      sandbox: orNull(part.target),
      ports: Type.Optional(Type.Array(portMappingSchema, { maxItems: part.maxPortMappings })),
      bandwidth: Type.Optional(bandwidthSchema),
      passing: Type.Optional(Type.Array(part.endpointName, { maxItems: 1024, description: 'Services' })),
      draining: Type.Optional(Type.Boolean()),
      createdAt: part.timeText,
    },
    { ...closed, description: 'Endpoint record' },
  ),
);

export const clusterSettingsSchema = shapeOf<ClusterSettings>()(
  Type.Object(
    {
      ...part.recordBase,
      vxlanPort: part.count('UDP port of every VXLAN device', 65535, 1),
      livenessMs: part.count('A host is down this long after its last sign of life, in milliseconds', 86_400_000, 1),
      hostsManageNetworks: Type.Boolean({ description: 'Whether hosts may manage networks' }),
      guarded: Type.Optional(
        Type.Array(Type.Object({ address: part.addrText, port: part.port }, closed), {
          maxItems: 256,
          description: 'Addresses and ports that no sandbox may reach',
        }),
      ),
    },
    { ...closed, description: 'Settings of the whole cluster' },
  ),
);

export const cursorSchema = shapeOf<Cursor>()(
  Type.Object(
    { epoch: text('Epoch of the store', '0123456789abcdef0123456789abcdef', 64), revision: part.revision },
    { ...closed, description: 'Where a watcher stands' },
  ),
);
