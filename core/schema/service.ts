import { Type } from 'typebox';
import type { ServiceCreate, ServiceUpdate, ServiceView } from '../api/service.js';
import * as part from './part.js';
import { closed, orNull, shapeOf } from './part.js';
import * as record from './record.js';
import * as serviceRecord from './service-record.js';

const serviceFields = serviceRecord.serviceFieldsSchema.properties;

const servicePortRequests = Type.Array(
  Type.Object(
    { port: part.port, target: Type.Optional(part.port), protocol: Type.Optional(part.portProtocol) },
    closed,
  ),
  { maxItems: 64 },
);

const servicePublishRequests = Type.Array(
  Type.Object({ hostPort: part.port, port: Type.Optional(part.port) }, closed),
  {
    maxItems: 64,
  },
);

export const serviceCreateSchema = shapeOf<ServiceCreate>()(
  Type.Object(
    {
      name: serviceFields.name,
      network: part.networkRef,
      mode: Type.Optional(serviceFields.mode),
      addresses: Type.Optional(part.addresses),
      ports: servicePortRequests,
      selector: serviceFields.selector,
      backends: serviceFields.backends,
      affinity: Type.Optional(serviceFields.affinity),
      health: serviceFields.health,
      publish: Type.Optional(servicePublishRequests),
      drainMs: Type.Optional(serviceFields.drainMs),
    },
    {
      ...closed,
      description: 'A service',
      examples: [{ name: 'web', network: 'frontend', ports: [{ port: 80, target: 8080 }], selector: { app: 'web' } }],
    },
  ),
);

export const serviceUpdateSchema = shapeOf<ServiceUpdate>()(
  Type.Object(
    {
      ports: Type.Optional(servicePortRequests),
      selector: serviceFields.selector,
      backends: serviceFields.backends,
      affinity: Type.Optional(serviceFields.affinity),
      health: Type.Optional(orNull(serviceRecord.serviceHealthSchema)),
      publish: Type.Optional(servicePublishRequests),
      drainMs: Type.Optional(serviceFields.drainMs),
      drain: Type.Optional(Type.Array(part.callerId, { maxItems: 1024 })),
      undrain: Type.Optional(Type.Array(part.callerId, { maxItems: 1024 })),
      generation: Type.Optional(part.generation),
    },
    {
      ...closed,
      description: 'A change of a service; what is not given stays',
      examples: [{ ports: [{ port: 80, target: 8081 }], generation: 3 }],
    },
  ),
);

const serviceBackendSchema = Type.Object(
  {
    endpoint: part.endpointId,
    name: orNull(part.endpointName),
    host: part.hostName,
    addresses: part.addresses,
    state: Type.Enum(['ready', 'failing', 'draining', 'down'], { description: 'Whether it gets new connections' }),
  },
  closed,
);

export const serviceViewSchema = shapeOf<ServiceView>()(
  Type.Object(
    {
      ...serviceFields,
      network: part.networkName,
      addresses: part.addresses,
      endpoints: Type.Array(serviceBackendSchema),
      held: Type.Optional(Type.Array(record.heldPortViewSchema)),
      createdAt: part.timeText,
      generation: part.generation,
    },
    { ...closed, description: 'Service' },
  ),
);
