import type { Reader } from '../bytes/reader.js';
import { EncodeError, type Writer } from '../bytes/writer.js';
import { AF_INET6, NLA_F_NESTED } from './constants.js';
import { inetFamily, readInet, readLladdr, writeInet, writeLladdr } from './inet.js';

/**
 *  <------- 4 -------> <---- padded to a multiple of 4 ---->
 * +---------+---------+------------------------- - -+- - - -+
 * | nla_len | nla_type|           payload           |  pad  |
 * +---------+---------+------------------------- - -+- - - -+
 *  <-------------------- nla_len ------------------->
 */
const attrHeaderBytes = 4;
const attrMaxBytes = 0xffff;

/** `~(NLA_F_NESTED | NLA_F_NET_BYTEORDER)` (linux/netlink.h). */
const NLA_TYPE_MASK = 0x3fff;

/** An attribute as it was received, its type with the flag bits: kept where a decoder does not know it. */
export interface RawAttr {
  readonly type: number;
  readonly bytes: Uint8Array;
}

/** A value that keeps the attributes nobody decoded, so that encoding it again loses nothing. */
export interface WithUnknown {
  readonly unknown?: readonly RawAttr[];
}

/** Opens an attribute and returns the mark that `attrEnd` closes it by. */
export function attrStart(writer: Writer, type: number): number {
  const mark = writer.reserve(attrHeaderBytes);
  writer.setU16le(mark + 2, type);
  return mark;
}

/**
 * Patches the length of the attribute opened at `mark` and pads it.
 *
 * Errors: EncodeError when the payload is longer than a 16-bit length can say.
 */
export function attrEnd(writer: Writer, mark: number): void {
  const length = writer.length - mark;
  if (length > attrMaxBytes) throw new EncodeError('nlattr', `${length} bytes`, 'is too long');
  writer.setU16le(mark, length);
  writer.zeros(-length & 3);
}

/** Writes an attribute whose payload is one native u32. */
export function attrU32(writer: Writer, type: number, value: number): void {
  const mark = writer.reserve(8);
  writer.setU16le(mark, 8);
  writer.setU16le(mark + 2, type);
  writer.setU32le(mark + 4, value);
}

/** Writes an attribute whose payload is an IP address. */
export function attrInet(writer: Writer, type: number, value: string): void {
  const mark = attrStart(writer, type);
  writeInet(writer, value);
  attrEnd(writer, mark);
}

/**
 * Writes an attribute whose payload is text with its terminating zero.
 *
 * Errors: EncodeError when the text has a zero in it, where the kernel would end it.
 */
export function attrText(writer: Writer, type: number, value: string): void {
  if (value.includes('\0')) throw new EncodeError(`nlattr ${type}`, value, 'has a zero byte in it');
  const mark = attrStart(writer, type);
  writer.text(value);
  writer.u8(0);
  attrEnd(writer, mark);
}

/** Writes attributes as they were received. */
export function attrsRaw(writer: Writer, attrs: readonly RawAttr[] | undefined): void {
  if (attrs === undefined) return;
  for (const attr of attrs) {
    const mark = attrStart(writer, attr.type);
    writer.bytes(attr.bytes);
    attrEnd(writer, mark);
  }
}

/**
 * Calls `visit` for each attribute up to the reader's end, with the reader confined to the payload.
 * What `visit` leaves unread is passed over. `type` carries no flag bits; `rawType` does.
 *
 * Errors: DecodeError when a length is shorter than its header or passes the end.
 */
export function eachAttr(reader: Reader, visit: (type: number, rawType: number) => void): void {
  const { end, what } = reader;
  const { buffer } = reader;
  while (reader.offset < end) {
    // A link has some sixty of them, and most are passed over: each call counts.
    const start = reader.skip(attrHeaderBytes);
    const length = (buffer[start] ?? 0) | ((buffer[start + 1] ?? 0) << 8);
    const rawType = (buffer[start + 2] ?? 0) | ((buffer[start + 3] ?? 0) << 8);
    if (length < attrHeaderBytes || length > end - start) {
      reader.offset = start;
      throw reader.error(`attribute ${rawType & NLA_TYPE_MASK} of impossible length ${length}`);
    }
    reader.end = start + length;
    visit(rawType & NLA_TYPE_MASK, rawType);
    reader.what = what;
    reader.end = end;
    reader.offset = Math.min(end, start + ((length + 3) & ~3));
  }
}

/** Copies the attribute under the reader: for what a decoder does not know. */
export function rawAttr(reader: Reader, rawType: number): RawAttr {
  return { type: rawType, bytes: reader.bytes(reader.remaining) };
}

/** How one property of a value stands in attributes: under which types, and how it is written and read. */
export interface AttrField<V> {
  readonly types: readonly number[];
  write(writer: Writer, value: V): void;
  /** The reader is confined to the payload. */
  read(reader: Reader, type: number): V;
}

function within(value: number, max: number, type: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= max) return value;
  throw new EncodeError(`nlattr ${type}`, String(value), `is no integer from 0 to ${max}`);
}

function payloadField<V>(
  type: number,
  write: (writer: Writer, value: V) => void,
  read: (reader: Reader) => V,
): AttrField<V> {
  return {
    types: [type & NLA_TYPE_MASK],
    write(writer, value) {
      const mark = attrStart(writer, type);
      write(writer, value);
      attrEnd(writer, mark);
    },
    read,
  };
}

/** One byte. */
export const u8Field = (type: number): AttrField<number> =>
  payloadField(
    type,
    (writer, value) => writer.u8(within(value, 0xff, type)),
    (reader) => reader.u8(),
  );

/** Two bytes in host order. */
export const u16Field = (type: number): AttrField<number> =>
  payloadField(
    type,
    (writer, value) => writer.u16le(within(value, 0xffff, type)),
    (reader) => reader.u16le(),
  );

/** Two bytes in network order: ports and EtherTypes. */
export const u16beField = (type: number): AttrField<number> =>
  payloadField(
    type,
    (writer, value) => writer.u16be(within(value, 0xffff, type)),
    (reader) => reader.u16be(),
  );

/** Four bytes in host order. */
export const u32Field = (type: number): AttrField<number> => ({
  types: [type],
  write: (writer, value) => attrU32(writer, type, within(value, 0xffffffff, type)),
  read: (reader) => reader.u32le(),
});

/** Four bytes in host order, signed. */
export const i32Field = (type: number): AttrField<number> => ({
  types: [type],
  write: (writer, value) => attrU32(writer, type, value),
  read: (reader) => reader.i32le(),
});

/** Four bytes in network order. */
export const u32beField = (type: number): AttrField<number> =>
  payloadField(
    type,
    (writer, value) => writer.u32be(within(value, 0xffffffff, type)),
    (reader) => reader.u32be(),
  );

/** A clock_t of four bytes (hundredths of a second) as milliseconds. */
export const clockField = (type: number): AttrField<number> => ({
  types: [type],
  write: (writer, value) => attrU32(writer, type, within(Math.round(value / 10), 0xffffffff, type)),
  read: (reader) => reader.u32le() * 10,
});

/** A byte that is 0 or 1. */
export const boolField = (type: number): AttrField<boolean> =>
  payloadField(
    type,
    (writer, value) => writer.u8(value ? 1 : 0),
    (reader) => reader.u8() !== 0,
  );

/** An attribute without payload, whose presence says true. */
export const presenceField = (type: number): AttrField<boolean> => ({
  types: [type],
  write(writer, value) {
    if (value) attrEnd(writer, attrStart(writer, type));
  },
  read: () => true,
});

/** Text with a terminating zero. */
export const textField = (type: number): AttrField<string> => ({
  types: [type],
  write: (writer, value) => attrText(writer, type, value),
  read: (reader) => reader.text(reader.remaining),
});

/** A link-layer address of any length. */
export const lladdrField = (type: number): AttrField<string> => payloadField(type, writeLladdr, readLladdr);

/** An IP address of either family under one type. */
export const inetField = (type: number): AttrField<string> => payloadField(type, writeInet, readInet);

/** An IP address whose family decides the type. */
export const inetPairField = (type4: number, type6: number): AttrField<string> => ({
  types: [type4, type6],
  write: (writer, value) => attrInet(writer, inetFamily(value) === AF_INET6 ? type6 : type4, value),
  read: readInet,
});

/** A payload as it is. */
export const bytesField = (type: number): AttrField<Uint8Array> =>
  payloadField(
    type,
    (writer, value) => writer.bytes(value),
    (reader) => reader.bytes(reader.remaining),
  );

/** A payload of attributes, by a table of its own. */
export const nestedField = <T extends WithUnknown>(type: number, table: AttrTable<T>): AttrField<T> =>
  payloadField(
    type | NLA_F_NESTED,
    (writer, value) => table.encode(writer, value),
    (reader) => table.decode(reader),
  );

type KeyedField = readonly [key: string, field: AttrField<unknown>] | undefined;

type AttrFields<T> = { readonly [K in Exclude<keyof T, 'unknown'>]-?: AttrField<Exclude<T[K], undefined>> };

/**
 * Both directions of one set of attributes: a field per property. Properties that the table lacks
 * are passed over when encoding, attributes that it lacks end up in `unknown` when decoding.
 *
 * Cost: encoding walks the properties that are there, not the table.
 */
export class AttrTable<T extends WithUnknown> {
  readonly #what: string;
  readonly #byKey = new Map<string, AttrField<unknown>>();
  readonly #byType: KeyedField[] = [];
  readonly #leanByType: KeyedField[] = [];

  /** @param details properties that a lean reader passes over. */
  constructor(what: string, fields: AttrFields<T>, details: readonly (keyof T)[] = []) {
    this.#what = what;
    for (const [key, field] of Object.entries<AttrField<unknown>>(fields)) {
      this.#byKey.set(key, field);
      for (const type of field.types) {
        this.#byType[type] = [key, field];
        if (!details.includes(key as keyof T)) this.#leanByType[type] = [key, field];
      }
    }
  }

  encode(writer: Writer, value: T): void {
    for (const key in value) {
      const property: unknown = value[key];
      if (property === undefined) continue;
      this.#byKey.get(key)?.write(writer, property);
    }
    attrsRaw(writer, value.unknown);
  }

  /**
   * Reads attributes up to the reader's end, into `seed` where one is given. `other` is offered the
   * types that the table lacks, and reports whether it took one.
   *
   * Errors: DecodeError.
   */
  decode(reader: Reader, seed: Record<string, unknown> = {}, other?: (type: number) => boolean): T {
    const unknown: RawAttr[] = [];
    const byType = reader.lean ? this.#leanByType : this.#byType;
    reader.what = this.#what;
    eachAttr(reader, (type, rawType) => {
      const known = byType[type];
      if (known !== undefined) {
        seed[known[0]] = known[1].read(reader, type);
      } else if ((other === undefined || !other(type)) && !reader.lean) {
        unknown.push(rawAttr(reader, rawType));
      }
    });
    if (unknown.length > 0) seed['unknown'] = unknown;
    return seed as T;
  }
}
