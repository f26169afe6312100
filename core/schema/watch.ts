import { Type } from 'typebox';
import type { Entry, InterestChange, WatchLine, WatchRequest } from '../api/watch.js';
import * as part from './part.js';
import { closed, shapeOf, text } from './part.js';
import * as policyRecord from './policy-record.js';
import * as record from './record.js';
import * as serviceRecord from './service-record.js';

const interest = Type.Array(part.networkId, { maxItems: 10_000, description: 'Network ids' });

const streamId = part.idText('stream', 'Stream id');

export const watchRequestSchema = shapeOf<WatchRequest>()(
  Type.Object(
    { instance: record.hostSchema.properties.instance, cursor: Type.Optional(record.cursorSchema), interest },
    { ...closed, description: 'A host asking for changes' },
  ),
);

export const interestChangeSchema = shapeOf<InterestChange>()(
  Type.Object(
    { stream: streamId, add: Type.Optional(interest), remove: Type.Optional(interest) },
    { ...closed, description: 'Networks a host takes up or drops' },
  ),
);

const entryValues = {
  network: record.networkSchema,
  carrier: record.carrierSchema,
  endpoint: record.endpointSchema,
  block: record.blockSchema,
  carve: record.carveSchema,
  settings: record.clusterSettingsSchema,
  policy: policyRecord.policySchema,
  service: serviceRecord.serviceSchema,
} as const;

const entryOf = <K extends keyof typeof entryValues>(kind: K) => ({
  kind: Type.Literal(kind),
  value: entryValues[kind],
});

const putOf = <K extends keyof typeof entryValues>(kind: K) =>
  Type.Object({ type: Type.Literal('put'), revision: part.revision, ...entryOf(kind) }, closed);

export const entrySchema = shapeOf<Entry>()(
  Type.Union([
    Type.Object(entryOf('network'), closed),
    Type.Object(entryOf('carrier'), closed),
    Type.Object(entryOf('endpoint'), closed),
    Type.Object(entryOf('block'), closed),
    Type.Object(entryOf('carve'), closed),
    Type.Object(entryOf('settings'), closed),
    Type.Object(entryOf('policy'), closed),
    Type.Object(entryOf('service'), closed),
  ]),
);

const scope = Type.String({ pattern: '^([*]|[0-9a-f]{8})$', maxLength: 8, description: '"*" or a network id' });

export const watchLineSchema = shapeOf<WatchLine>()(
  Type.Union(
    [
      Type.Object(
        {
          type: Type.Literal('hello'),
          stream: streamId,
          epoch: record.cursorSchema.properties.epoch,
          revision: part.revision,
          beatMs: part.count('Longest pause between two lines, in milliseconds', 3_600_000, 1),
          resumed: Type.Boolean({ description: 'Whether the stream goes on at the cursor' }),
        },
        closed,
      ),
      Type.Object({ type: Type.Literal('begin'), scope, revision: part.revision }, closed),
      putOf('network'),
      putOf('carrier'),
      putOf('endpoint'),
      putOf('block'),
      putOf('carve'),
      putOf('settings'),
      putOf('policy'),
      putOf('service'),
      Type.Object(
        {
          type: Type.Literal('gone'),
          revision: part.revision,
          kind: Type.Enum(['network', 'carrier', 'endpoint', 'block', 'carve', 'settings', 'policy', 'service']),
          network: Type.String({ maxLength: 8 }),
          id: Type.String({ maxLength: 256 }),
          generation: part.generation,
        },
        closed,
      ),
      Type.Object({ type: Type.Literal('end'), scope, revision: part.revision }, closed),
      Type.Object(
        {
          type: Type.Literal('beat'),
          revision: part.revision,
          down: Type.Optional(Type.Array(Type.String({ maxLength: 253 }), { maxItems: 10_000 })),
        },
        closed,
      ),
      Type.Object(
        {
          type: Type.Literal('bye'),
          code: text('Error code', 'ERR_STOPPING', 64),
          message: Type.String({ maxLength: 4096 }),
        },
        closed,
      ),
    ],
    { description: 'One line of the stream' },
  ),
);
