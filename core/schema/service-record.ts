import { Type } from 'typebox';
import type { Service, ServiceHealth, ServicePort, ServicePublish } from '../model.js';
import * as part from './part.js';
import { closed, shapeOf, text } from './part.js';

const servicePortSchema = shapeOf<ServicePort>()(
  Type.Object(
    { port: part.port, target: part.port, protocol: part.portProtocol },
    { ...closed, description: 'A port of a service and that of its backends' },
  ),
);

const servicePublishSchema = shapeOf<ServicePublish>()(
  Type.Object(
    { hostPort: part.port, port: part.port, protocol: part.portProtocol },
    { ...closed, description: 'A port of every host of the network' },
  ),
);

export const serviceHealthSchema = shapeOf<ServiceHealth>()(
  Type.Object(
    {
      type: Type.Enum(['tcp', 'http'], { description: 'What is asked of a backend' }),
      path: Type.Optional(text('Path of the request', '/healthz', 1024)),
    },
    { ...closed, description: 'How backends are checked' },
  ),
);

/** What a service's author says of it, but for its network. */
export const serviceFieldsSchema = Type.Object(
  {
    name: part.endpointName,
    mode: Type.Enum(['vip', 'dnsrr'], { description: 'One address, or the addresses of all backends' }),
    ports: Type.Array(servicePortSchema, { maxItems: 64 }),
    selector: Type.Optional(part.labels),
    backends: Type.Optional(Type.Array(part.callerId, { maxItems: 1024, description: 'Endpoints by name or id' })),
    affinity: Type.Enum(['none', 'client-ip'], { description: 'Whether a client keeps its backend' }),
    health: Type.Optional(serviceHealthSchema),
    publish: Type.Optional(Type.Array(servicePublishSchema, { maxItems: 64 })),
    drainMs: part.count('How long connections to a draining backend may go on, in milliseconds', 86_400_000),
  },
  { ...closed, description: 'What a service is' },
);

export const serviceSchema = shapeOf<Service>()(
  Type.Object(
    {
      ...part.recordBase,
      ...serviceFieldsSchema.properties,
      network: part.networkId,
      addresses: part.addresses,
      draining: Type.Array(part.endpointId, { maxItems: 1024 }),
      createdAt: part.timeText,
    },
    { ...closed, description: 'Service record' },
  ),
);
