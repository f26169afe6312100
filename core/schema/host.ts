import { Type } from 'typebox';
import type { HostRecords, HostRegister, HostRegistered, HostRemoval, HostToken, HostView } from '../api/host.js';
import * as part from './part.js';
import { closed, shapeOf, text } from './part.js';
import * as record from './record.js';

export const hostViewSchema = shapeOf<HostView>()(
  Type.Object(
    {
      name: part.hostName,
      vtep: part.addrText,
      state: Type.Enum(['up', 'down', 'unknown'], { description: 'Whether the host lives' }),
      lastSeen: part.timeText,
      underlayMtu: part.mtu,
      version: part.version,
    },
    { ...closed, description: 'Host' },
  ),
);

export const hostTokenRequestSchema = Type.Object({}, { ...closed, description: 'Nothing has to be said' });

export const hostTokenSchema = shapeOf<HostToken>()(
  Type.Object(
    { host: part.hostName, token: text('Bearer token, told only once', '0'.repeat(64)) },
    { ...closed, description: "A host's own token" },
  ),
);

export const hostRecordsSchema = shapeOf<HostRecords>()(
  Type.Object(
    {
      host: record.hostSchema,
      endpoints: Type.Array(record.endpointSchema),
      carriers: Type.Array(record.carrierSchema),
      blocks: Type.Array(record.blockSchema),
      networks: Type.Array(record.networkSchema, { description: 'Those that the others speak of' }),
    },
    { ...closed, description: 'All that the store has of a host' },
  ),
);

export const hostRemovalQuerySchema = Type.Object(
  { force: Type.Optional(Type.Boolean({ description: 'Remove a host that is not known to be down' })) },
  { ...closed, description: 'How to remove a host' },
);

export const hostRemovalSchema = shapeOf<HostRemoval>()(
  Type.Object(
    { name: part.hostName, blocks: part.count('Blocks returned'), endpoints: part.count('Endpoints removed') },
    { ...closed, description: 'What was removed with a host' },
  ),
);

export const hostRegisterSchema = shapeOf<HostRegister>()(
  Type.Object(
    {
      vtep: part.addrText,
      underlayMtu: part.mtu,
      bootId: record.hostSchema.properties.bootId,
      instance: record.hostSchema.properties.instance,
      version: part.version,
    },
    { ...closed, description: 'A host making itself known' },
  ),
);

export const hostRegisteredSchema = shapeOf<HostRegistered>()(
  Type.Object(
    { host: record.hostSchema, settings: record.clusterSettingsSchema, epoch: record.cursorSchema.properties.epoch },
    { ...closed, description: 'Answer to a host making itself known' },
  ),
);
