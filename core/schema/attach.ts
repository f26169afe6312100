import { Type } from 'typebox';
import type {
  AttachRequest,
  ConnectRequest,
  DetachRequest,
  DetachResult,
  EndpointUpdate,
  StepRequest,
} from '../api/attach.js';
import * as part from './part.js';
import { closed, shapeOf } from './part.js';
import { portRequestSchema } from './port.js';
import * as record from './record.js';
import * as serviceRecord from './service-record.js';

const attachFields = {
  network: part.networkRef,
  ifname: Type.Optional(part.ifname),
  name: Type.Optional(part.endpointName),
  aliases: Type.Optional(part.aliases),
  addresses: Type.Optional(part.addresses),
  mac: Type.Optional(part.macText),
  labels: Type.Optional(part.labels),
  defaultRoute: Type.Optional(Type.Boolean({ description: 'Whether the default route goes this way' })),
  ports: Type.Optional(Type.Array(portRequestSchema, { maxItems: part.maxPortMappings })),
  bandwidth: Type.Optional(record.bandwidthSchema),
};

export const attachRequestSchema = shapeOf<ConnectRequest>()(
  Type.Object(
    {
      ...attachFields,
      target: part.target,
      id: Type.Optional(part.callerId),
      setDns: Type.Optional(Type.Boolean({ description: 'Whether to write /etc/resolv.conf of the container' })),
    },
    {
      ...closed,
      description: 'A sandbox to attach to a network',
      examples: [{ network: 'frontend', target: 'netns:/run/netns/web', name: 'web' }],
    },
  ),
);

/** Step 1 of an attach: no sandbox yet, so the caller's id must be given. */
export const reserveRequestSchema = shapeOf<Omit<AttachRequest, 'target'>>()(
  Type.Object(
    { ...attachFields, id: part.callerId },
    { ...closed, description: 'Addresses to reserve', examples: [{ network: 'frontend', id: 'web-1' }] },
  ),
);

export const detachRequestSchema = shapeOf<DetachRequest>()(
  Type.Object(
    {
      network: part.networkRef,
      target: Type.Optional(part.target),
      id: Type.Optional(part.callerId),
      ifname: Type.Optional(part.ifname),
      drainMs: Type.Optional(serviceRecord.serviceFieldsSchema.properties.drainMs),
    },
    { ...closed, description: 'What to detach: by target or by the id of the attach' },
  ),
);

export const detachResultSchema = shapeOf<DetachResult>()(
  Type.Object(
    {
      detached: Type.Array(part.endpointId, { maxItems: 4096 }),
      left: Type.Optional(Type.Array(Type.String({ maxLength: 4096 }), { maxItems: 4096 })),
    },
    { ...closed, description: 'Endpoints removed' },
  ),
);

export const stepRequestSchema = shapeOf<StepRequest>()(
  Type.Object(
    { endpoint: part.endpointId, target: Type.Optional(part.target), defaultRoute: attachFields.defaultRoute },
    { ...closed, description: 'The next step of an attach' },
  ),
);

export const endpointUpdateSchema = shapeOf<EndpointUpdate>()(
  Type.Object(
    {
      labels: Type.Optional(part.labelChange),
      aliases: Type.Optional(part.aliases),
      ports: Type.Optional(Type.Array(portRequestSchema, { maxItems: part.maxPortMappings })),
      draining: Type.Optional(Type.Boolean()),
    },
    { ...closed, description: 'A change of an endpoint' },
  ),
);
