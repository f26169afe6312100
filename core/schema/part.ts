import { Type } from 'typebox';
import type { Static, TSchema } from 'typebox';
import { idBytes, type IdKind } from '../ids.js';
import { nameLimits } from '../name.js';

/**
 * The pieces that schemas are made of. Schemas bound size and shape; what a text means is checked by
 * the parsers of `addr.ts`, `mac.ts` and `name.ts`, whose errors are more telling. Texts with a parser of
 * their own are therefore bounded generously here.
 */

const ANY_TEXT = 256;

/**
 * Compile-time check that a schema describes an interface: each value it admits is one, and no
 * property of the interface is missing from it.
 */
export function shapeOf<T>() {
  return <S extends TSchema>(schema: Static<S> extends T ? (keyof T extends keyof Static<S> ? S : never) : never): S =>
    schema;
}

/** Options of every object schema. */
export const closed = { additionalProperties: false } as const;

/** An id of one kind, as a path, a key and a record carry it. */
export const idText = (kind: IdKind, description: string) =>
  Type.String({
    pattern: `^[0-9a-f]{${idBytes[kind] * 2}}$`,
    minLength: idBytes[kind] * 2,
    maxLength: idBytes[kind] * 2,
    description,
    examples: ['0123456789abcdef0123456789abcdef'.slice(0, idBytes[kind] * 2)],
  });

/** A bounded text that is not empty. */
export const text = (description: string, example: string, maxLength = ANY_TEXT) =>
  Type.String({ minLength: 1, maxLength, description, examples: [example] });

/** Null, or what the schema says. */
export const orNull = <S extends TSchema>(schema: S) => Type.Union([schema, Type.Null()]);

/** A whole number between bounds. */
export const count = (description: string, maximum = Number.MAX_SAFE_INTEGER, minimum = 0) =>
  Type.Integer({ minimum, maximum, description });

export const port = count('Port number', 65_535, 1);
export const portProtocol = Type.Enum(['tcp', 'udp', 'sctp'], { description: 'Protocol', examples: ['tcp'] });
/** How many mappings one endpoint may have; a range is one. */
export const maxPortMappings = 10_000;
/** 1 Tbit/s. */
export const maxRateBps = 1e12;

export const addrText = Type.String({
  minLength: 2,
  maxLength: 45,
  description: 'IPv4 or IPv6 address',
  examples: ['10.1.0.5', 'fd00:1::5'],
});

export const cidrText = Type.String({
  minLength: 4,
  maxLength: 49,
  description: 'Subnet in CIDR notation, without host bits',
  examples: ['10.1.0.0/24', 'fd00:1::/64'],
});

export const macText = text('MAC address, unicast', '02:00:0a:01:00:05', 64);

export const timeText = Type.String({
  minLength: 20,
  maxLength: 32,
  description: 'Time, ISO 8601',
  examples: ['2026-01-31T12:00:00.000Z'],
});

export const networkId = idText('network', 'Network id');
export const endpointId = idText('endpoint', 'Endpoint id');
export const networkRef = text('Network name or id', 'frontend');
export const networkName = text('Network name', 'frontend');
export const hostName = text('Host name, lower case', 'node-1');
export const endpointName = text('Name of an endpoint', 'web');
export const callerId = text('Id by which the caller knows the attachment', 'web-1', nameLimits.callerId);
export const ifname = text('Interface name inside the sandbox', 'eth0', 64);
export const target = text('Where the sandbox is: pid:N or netns:PATH', 'netns:/run/netns/web', 4096);
export const version = text('Version of tsnet', '0.1.0', 64);
export const mtu = Type.Integer({ minimum: 68, maximum: 65535, description: 'MTU in bytes', examples: [1450] });
export const generation = count('Grows with every change of the record');
export const revision = count('etcd revision');
const recordVersion = Type.Literal(1, { description: 'Schema version of the record' });
export const driver = Type.Enum(['overlay', 'bridge', 'macvlan'], { description: 'Driver', examples: ['overlay'] });
export const endpointState = Type.Enum(['reserved', 'linked', 'attached', 'detaching'], {
  description: 'How far the attachment has come',
});
export const addresses = Type.Array(addrText, { maxItems: 32, description: 'Addresses, without prefix length' });
export const aliases = Type.Array(endpointName, { maxItems: nameLimits.aliases, description: 'Further names' });

/** Without surrogates that have no other half: no UTF-8 can carry them. */
const labelValue = Type.String({ maxLength: nameLimits.labelValue, pattern: '^\\P{Cs}*$' });
const mapOptions = { minProperties: 0, maxProperties: nameLimits.labels } as const;
const mapKey = Type.String({ minLength: 1, maxLength: nameLimits.labelKey });

export const labels = Type.Record(mapKey, labelValue, {
  ...mapOptions,
  description: 'Labels',
  examples: [{ tier: 'front' }],
});
export const labelChange = Type.Record(mapKey, orNull(labelValue), {
  ...mapOptions,
  description: 'Labels to set; null removes one',
  examples: [{ tier: 'front', old: null }],
});
export const driverOptions = Type.Record(mapKey, labelValue, {
  ...mapOptions,
  description: 'Options of the driver',
  examples: [{ parent: 'eth1' }],
});

/** What every record begins with. */
export const recordBase = { v: recordVersion, generation };
