import { Type } from 'typebox';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { Family } from '../../core/addr.js';
import type { Block, Carrier, Carve, Endpoint } from '../../core/model.js';
import { blockSchema, carrierSchema, carveSchema, endpointSchema } from '../../core/schema/record.js';

/** What is under way with an endpoint, so that a restart can finish or undo it; null: nothing is. */
export type EndpointStep = 'reserve' | 'link' | 'configure' | 'detach' | null;

/** An endpoint of this host: its record and what only this host needs to know. */
export interface OwnEndpoint {
  readonly record: Endpoint;
  /** Cookie of the sandbox's namespace, decimal; null while it is in none. */
  readonly cookie: string | null;
  /** Boot that the cookie and ifindex belong to. */
  readonly bootId: string;
  /** Where the link was last seen; an ifindex may have been reused since. */
  readonly ifindexHint: number | null;
  /** Generation of the record that a controller has acknowledged; 0: none yet. */
  readonly publishedGeneration: number;
  /** Families whose default route in the sandbox is ours. */
  readonly defaultRoutes: readonly Family[];
  readonly step: EndpointStep;
}

/** That this host carries a network. */
export interface OwnCarrier {
  readonly record: Carrier;
  readonly publishedGeneration: number;
}

/** A record of this host that is gone but not yet withdrawn. */
export interface Tombstone {
  readonly network: string;
  /** Endpoint id; null for the network's carrier record. */
  readonly id: string | null;
  readonly generation: number;
}

/** The host's own address in one subnet of a network. */
export interface HostAddress {
  readonly network: string;
  readonly subnet: string;
  readonly address: string;
}

/** What was decided about a carve: the same answer is given again after a restart. */
export interface CarveDecision {
  readonly carve: Carve;
  /** The address given up; null when it is used here. */
  readonly address: string | null;
  readonly holder: string | null;
}

/** A block that goes back to the pool: no longer used here, but the controller may not know yet. */
export interface BlockReturn {
  readonly network: string;
  readonly cidr: string;
  readonly generation: number;
}

/** The `/etc/resolv.conf` of a running container that was written for its endpoints. */
export interface WrittenResolvConf {
  readonly pid: number;
  /** Of the process, in clock ticks since boot. */
  readonly startTime: string;
  /** Its mount namespace, `mnt:[INODE]`. */
  readonly mount: string;
  /** Of the sandbox. */
  readonly cookie: string;
  readonly bootId: string;
  /** Device and inode; null while there was no file. */
  readonly file: string | null;
  /** Endpoints that asked for it. */
  readonly endpoints: readonly string[];
  /** What was there, base64; null: no file. */
  readonly before: string | null;
  /** What may be there of ours: the last that was written, and one that is being written. */
  readonly written: readonly string[];
}

/** An address that rests after use. */
export interface Resting {
  readonly network: string;
  readonly address: string;
  /** End of the rest, ms since the start of the machine: a clock that nobody sets. */
  readonly untilMs: number;
}

/** What the journal holds of the agent itself. */
export interface JournalMeta {
  readonly instance: string;
  /** Epoch of the store that the published generations refer to. */
  readonly epoch: string | null;
  /** Every generation issued lies below. */
  readonly generationLimit: number;
  /** What was in the file may be missing here: it was not there (`new`), or could not be read as a whole. */
  readonly incomplete?: 'new' | 'damaged';
}

/** What is taken up again after a loss. */
export interface RestoredEntries {
  /** Of the host's record, where the kernel shows that this is that host. */
  readonly instance: string | null;
  /** Above all that this host is known to have given. */
  readonly generation: number;
  readonly endpoints: readonly OwnEndpoint[];
  readonly carriers: readonly Carrier[];
  readonly hostAddresses: readonly HostAddress[];
  readonly blocks: readonly Block[];
}

export type JournalValue =
  | OwnEndpoint
  | OwnCarrier
  | Tombstone
  | HostAddress
  | CarveDecision
  | BlockReturn
  | Resting
  | WrittenResolvConf
  | JournalMeta
  | Block;

const generation = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const short = Type.String({ maxLength: 64 });

const schemas: Readonly<Record<string, TSchema>> = {
  endpoint: Type.Object({
    record: endpointSchema,
    cookie: Type.Union([short, Type.Null()]),
    bootId: short,
    ifindexHint: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
    publishedGeneration: generation,
    defaultRoutes: Type.Array(Type.Union([Type.Literal(4), Type.Literal(6)]), { maxItems: 2 }),
    step: Type.Union([
      Type.Literal('reserve'),
      Type.Literal('link'),
      Type.Literal('configure'),
      Type.Literal('detach'),
      Type.Null(),
    ]),
  }),
  carrier: Type.Object({ record: carrierSchema, publishedGeneration: generation }),
  gone: Type.Object({ network: short, id: Type.Union([short, Type.Null()]), generation }),
  block: blockSchema,
  'host-address': Type.Object({ network: short, subnet: short, address: short }),
  carve: Type.Object({
    carve: carveSchema,
    address: Type.Union([short, Type.Null()]),
    holder: Type.Union([Type.String({ maxLength: 256 }), Type.Null()]),
  }),
  return: Type.Object({ network: short, cidr: short, generation }),
  'resolv-conf': Type.Object({
    pid: Type.Integer({ minimum: 1 }),
    startTime: short,
    mount: short,
    cookie: short,
    bootId: short,
    file: Type.Union([short, Type.Null()]),
    endpoints: Type.Array(short, { maxItems: 4096 }),
    before: Type.Union([Type.String({ maxLength: 65_536 }), Type.Null()]),
    written: Type.Array(Type.String({ maxLength: 65_536 }), { maxItems: 2 }),
  }),
  resting: Type.Object({ network: short, address: short, untilMs: Type.Number() }),
  meta: Type.Object({
    instance: short,
    epoch: Type.Union([short, Type.Null()]),
    generationLimit: generation,
    incomplete: Type.Optional(Type.Union([Type.Literal('new'), Type.Literal('damaged')])),
  }),
};

interface Checker {
  check(value: unknown): boolean;
}

function compile(schema: TSchema): Checker {
  const validator = Compile(schema);
  return { check: (value) => validator.Check(value) };
}

const checkers = new Map(Object.entries(schemas).map(([kind, schema]) => [kind, compile(schema)]));

/** The value of a journal entry when it is what its key says, else null. */
export function acceptJournalEntry(key: string, value: unknown): JournalValue | null {
  const kind = key.split('/', 1)[0] ?? '';
  if (checkers.get(kind)?.check(value) !== true) return null;
  const entry = value as JournalValue;
  return journalKeyOf(kind, entry) === key ? entry : null;
}

/** The key under which an entry of a kind stands. */
export const journalKeys = {
  meta: 'meta',
  endpoint: (id: string) => `endpoint/${id}`,
  carrier: (network: string) => `carrier/${network}`,
  gone: (network: string, id: string | null) => (id === null ? `gone/${network}` : `gone/${network}/${id}`),
  block: (network: string, cidr: string) => `block/${network}/${cidr}`,
  hostAddress: (network: string, subnet: string) => `host-address/${network}/${subnet}`,
  carve: (id: string) => `carve/${id}`,
  return: (network: string, cidr: string) => `return/${network}/${cidr}`,
  resting: (network: string, address: string) => `resting/${network}/${address}`,
  resolvConf: ({ pid, startTime }: Pick<WrittenResolvConf, 'pid' | 'startTime'>) => `resolv-conf/${pid}-${startTime}`,
} as const;

function journalKeyOf(kind: string, value: JournalValue): string {
  switch (kind) {
    case 'endpoint':
      return journalKeys.endpoint((value as OwnEndpoint).record.id);
    case 'carrier':
      return journalKeys.carrier((value as OwnCarrier).record.network);
    case 'gone':
      return journalKeys.gone((value as Tombstone).network, (value as Tombstone).id);
    case 'block':
      return journalKeys.block((value as Block).network, (value as Block).cidr);
    case 'host-address':
      return journalKeys.hostAddress((value as HostAddress).network, (value as HostAddress).subnet);
    case 'carve':
      return journalKeys.carve((value as CarveDecision).carve.id);
    case 'return':
      return journalKeys.return((value as BlockReturn).network, (value as BlockReturn).cidr);
    case 'resting':
      return journalKeys.resting((value as Resting).network, (value as Resting).address);
    case 'resolv-conf':
      return journalKeys.resolvConf(value as WrittenResolvConf);
    default:
      return kind;
  }
}
