import { Type } from 'typebox';
import type {
  BlockGrant,
  BlockRelease,
  BlockRequest,
  CarveAnswer,
  Publication,
  PublicationResult,
} from '../api/publication.js';
import * as part from './part.js';
import { closed, orNull, shapeOf, text } from './part.js';
import * as record from './record.js';
import * as serviceRecord from './service-record.js';

/** A batch of a host's records; more go into the next one. */
const BATCH = 100;

export const blockRequestSchema = shapeOf<BlockRequest>()(
  Type.Object(
    {
      network: part.networkId,
      subnet: part.cidrText,
      address: Type.Optional(part.addrText),
      ahead: Type.Optional(Type.Boolean()),
    },
    {
      ...closed,
      description: 'A host asking for addresses',
      examples: [{ network: '0123abcd', subnet: '10.1.0.0/24' }],
    },
  ),
);

export const blockGrantSchema = shapeOf<BlockGrant>()(
  Type.Object({ block: record.blockSchema }, { ...closed, description: 'A block granted' }),
);

export const blockReleaseSchema = shapeOf<BlockRelease>()(
  Type.Object(
    { network: part.networkId, cidr: part.cidrText, generation: part.generation },
    { ...closed, description: 'A block returned' },
  ),
);

export const carveAnswerSchema = shapeOf<CarveAnswer>()(
  Type.Object(
    {
      address: orNull(part.addrText),
      holder: Type.Optional(text('Who holds the address', 'endpoint web (0123456789abcdef)')),
    },
    { ...closed, description: "The owner's answer to a carve" },
  ),
);

const carrierGone = Type.Object({ network: part.networkId, generation: part.generation }, closed);

const endpointGone = Type.Object({ network: part.networkId, id: part.endpointId, generation: part.generation }, closed);

export const publicationSchema = shapeOf<Publication>()(
  Type.Object(
    {
      carriers: Type.Optional(Type.Array(record.carrierSchema, { maxItems: BATCH })),
      carriersGone: Type.Optional(Type.Array(carrierGone, { maxItems: BATCH })),
      endpoints: Type.Optional(Type.Array(record.endpointSchema, { maxItems: BATCH })),
      endpointsGone: Type.Optional(Type.Array(endpointGone, { maxItems: BATCH })),
      blocks: Type.Optional(Type.Array(record.blockSchema, { maxItems: BATCH })),
      networks: Type.Optional(Type.Array(record.networkSchema, { maxItems: BATCH })),
      services: Type.Optional(Type.Array(serviceRecord.serviceSchema, { maxItems: BATCH })),
    },
    { ...closed, description: 'What a host says of itself, 100 records at most in all' },
  ),
);

const refusal = Type.Object(
  {
    key: text('kind/network/id', 'endpoint/0123abcd/0123456789abcdef', 512),
    code: text('Error code', 'ERR_STALE_GENERATION', 64),
    message: Type.String({ maxLength: 4096 }),
  },
  closed,
);

export const publicationResultSchema = shapeOf<PublicationResult>()(
  Type.Object(
    { refused: Type.Array(refusal, { maxItems: 7 * BATCH }) },
    { ...closed, description: 'The records refused' },
  ),
);
