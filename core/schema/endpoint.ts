import { Type } from 'typebox';
import type { EndpointView } from '../api/endpoint.js';
import * as part from './part.js';
import { closed, orNull, shapeOf } from './part.js';
import * as record from './record.js';

export const endpointQuerySchema = Type.Object(
  { network: Type.Optional(part.networkRef), host: Type.Optional(part.hostName) },
  { ...closed, description: 'Which endpoints to list' },
);

export const endpointViewSchema = shapeOf<EndpointView>()(
  Type.Object(
    {
      id: part.endpointId,
      name: orNull(part.endpointName),
      aliases: part.aliases,
      network: part.networkName,
      host: part.hostName,
      addresses: part.addresses,
      mac: part.macText,
      ifname: part.ifname,
      sandbox: orNull(part.target),
      generation: part.generation,
      state: part.endpointState,
      labels: part.labels,
      callerId: part.callerId,
      ports: Type.Optional(Type.Array(record.portMappingSchema, { maxItems: part.maxPortMappings })),
      bandwidth: Type.Optional(record.bandwidthSchema),
      draining: Type.Optional(Type.Boolean()),
      createdAt: part.timeText,
    },
    { ...closed, description: 'Endpoint' },
  ),
);
