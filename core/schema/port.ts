import { Type } from 'typebox';
import type { PortRequest, PortView } from '../api/port.js';
import * as part from './part.js';
import { closed, orNull, shapeOf } from './part.js';
import * as record from './record.js';

export const portRequestSchema = shapeOf<PortRequest>()(
  Type.Object(
    {
      hostAddress: Type.Optional(orNull(part.addrText)),
      hostPort: part.count('Port of the host; 0: the agent chooses', 65_535),
      hostPortEnd: Type.Optional(part.count('Last port of the host', 65_535)),
      port: part.port,
      portEnd: Type.Optional(part.port),
      protocol: Type.Optional(part.portProtocol),
    },
    { ...closed, description: 'A port or range to publish', examples: [{ hostPort: 8080, port: 80 }] },
  ),
);

export const portViewSchema = shapeOf<PortView>()(
  Type.Object(
    {
      ...record.portMappingSchema.properties,
      endpoint: part.endpointId,
      name: orNull(part.endpointName),
      network: part.networkName,
      addresses: part.addresses,
    },
    { ...closed, description: 'A published port of this host' },
  ),
);
