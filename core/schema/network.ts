/**
 * In this folder: JSON Schemas of every request, answer and stream line in `core/api/`, a file for each of its files;
 * `record.ts` and its neighbours have those of the records. Both HTTP servers check with them and `/openapi.json` is made of
 * them.
 *
 * Source: JSON Schema draft 7, the draft of fastify's default validator.
 */
import { Type } from 'typebox';
import type { NetworkCreate, NetworkUpdate, NetworkView, SubnetRequest } from '../api/network.js';
import * as part from './part.js';
import { closed, orNull, shapeOf } from './part.js';
import * as record from './record.js';

const subnetRequestSchema = shapeOf<SubnetRequest>()(
  Type.Object(
    {
      subnet: part.cidrText,
      gateway: Type.Optional(part.addrText),
      range: Type.Optional(part.cidrText),
    },
    { ...closed, description: 'A subnet asked for' },
  ),
);

const subnetRequests = Type.Array(subnetRequestSchema, { maxItems: 32, description: 'Subnets of either family' });

const joinList = Type.Array(part.networkRef, { maxItems: 64, description: 'Networks to route to and from' });

export const networkCreateSchema = shapeOf<NetworkCreate>()(
  Type.Object(
    {
      name: part.networkName,
      driver: Type.Optional(part.driver),
      subnets: Type.Optional(subnetRequests),
      ipv6: Type.Optional(Type.Boolean({ description: 'Adds an IPv6 subnet from the pool where none is given' })),
      internal: Type.Optional(Type.Boolean({ description: 'No way out of the network' })),
      mtu: Type.Optional(part.mtu),
      labels: Type.Optional(part.labels),
      options: Type.Optional(part.driverOptions),
      join: Type.Optional(joinList),
    },
    {
      ...closed,
      description: 'A network to make',
      examples: [{ name: 'frontend' }, { name: 'backend', subnets: [{ subnet: '10.1.0.0/24' }] }],
    },
  ),
);

export const networkUpdateSchema = shapeOf<NetworkUpdate>()(
  Type.Object(
    {
      labels: Type.Optional(part.labelChange),
      addSubnets: Type.Optional(subnetRequests),
      join: Type.Optional(joinList),
      unjoin: Type.Optional(joinList),
    },
    { ...closed, description: 'A change of a network', examples: [{ labels: { tier: 'front' } }] },
  ),
);

export const networkViewSchema = shapeOf<NetworkView>()(
  Type.Object(
    {
      id: part.networkId,
      name: part.networkName,
      driver: part.driver,
      subnets: Type.Array(record.subnetSchema, { maxItems: 64 }),
      vni: orNull(part.count('VXLAN network identifier', 2 ** 24 - 1)),
      mtu: part.mtu,
      internal: Type.Boolean(),
      labels: part.labels,
      options: part.driverOptions,
      joined: Type.Optional(Type.Array(part.networkName, { maxItems: 64 })),
      createdAt: part.timeText,
      generation: part.generation,
    },
    { ...closed, description: 'Network' },
  ),
);
