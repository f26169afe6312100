import type { Reader } from '../bytes/reader.js';
import type { Writer } from '../bytes/writer.js';
import {
  attrEnd,
  attrStart,
  type AttrField,
  AttrTable,
  i32Field,
  inetField,
  lladdrField,
  u16beField,
  u16Field,
  u32Field,
  u8Field,
  type WithUnknown,
} from './attr.js';
import {
  NDA_CACHEINFO,
  NDA_DST,
  NDA_FLAGS_EXT,
  NDA_IFINDEX,
  NDA_LINK_NETNSID,
  NDA_LLADDR,
  NDA_MASTER,
  NDA_NH_ID,
  NDA_PORT,
  NDA_PROBES,
  NDA_PROTOCOL,
  NDA_SRC_VNI,
  NDA_VLAN,
  NDA_VNI,
} from './constants.js';

/** Ages in hundredths of a second, and references (linux/neighbour.h, struct nda_cacheinfo). */
export interface NdaCacheinfo {
  readonly confirmed: number;
  readonly used: number;
  readonly updated: number;
  readonly refcnt: number;
}

/** What neighbour and forwarding-database entries have in common (linux/neighbour.h, NDA_*). */
export interface NdaAttrs extends WithUnknown {
  readonly dst?: string;
  readonly lladdr?: string;
  readonly cacheinfo?: NdaCacheinfo;
  readonly probes?: number;
  readonly vlan?: number;
  readonly port?: number;
  readonly vni?: number;
  readonly viaIfindex?: number;
  readonly master?: number;
  readonly linkNetnsid?: number;
  readonly srcVni?: number;
  readonly protocol?: number;
  readonly nhId?: number;
  readonly flagsExt?: number;
}

const cacheinfoField: AttrField<NdaCacheinfo> = {
  types: [NDA_CACHEINFO],
  write(writer, value) {
    const mark = attrStart(writer, NDA_CACHEINFO);
    for (const word of [value.confirmed, value.used, value.updated, value.refcnt]) writer.u32le(word);
    attrEnd(writer, mark);
  },
  read: (reader) => ({
    confirmed: reader.u32le(),
    used: reader.u32le(),
    updated: reader.u32le(),
    refcnt: reader.u32le(),
  }),
};

const ndaAttrs = new AttrTable<NdaAttrs>('NDA', {
  dst: inetField(NDA_DST),
  lladdr: lladdrField(NDA_LLADDR),
  cacheinfo: cacheinfoField,
  probes: u32Field(NDA_PROBES),
  vlan: u16Field(NDA_VLAN),
  port: u16beField(NDA_PORT),
  vni: u32Field(NDA_VNI),
  viaIfindex: u32Field(NDA_IFINDEX),
  master: u32Field(NDA_MASTER),
  linkNetnsid: i32Field(NDA_LINK_NETNSID),
  srcVni: u32Field(NDA_SRC_VNI),
  protocol: u8Field(NDA_PROTOCOL),
  nhId: u32Field(NDA_NH_ID),
  flagsExt: u32Field(NDA_FLAGS_EXT),
});

/** The header of both (linux/neighbour.h, struct ndmsg). */
export interface Ndmsg {
  readonly family: number;
  readonly ifindex: number;
  readonly state: number;
  readonly flags: number;
  readonly type: number;
}

/** Writes `struct ndmsg`. */
export function encodeNdmsg(writer: Writer, header: Ndmsg): void {
  writer.u8(header.family);
  writer.zeros(3);
  writer.u32le(header.ifindex);
  writer.u16le(header.state);
  writer.u8(header.flags);
  writer.u8(header.type);
}

/** Reads `struct ndmsg`. */
export function decodeNdmsg(reader: Reader): Ndmsg {
  reader.what = 'ndmsg';
  const family = reader.u8();
  reader.skip(3);
  return { family, ifindex: reader.u32le(), state: reader.u16le(), flags: reader.u8(), type: reader.u8() };
}

/** Writes the attributes that `value` has. */
export function encodeNdaAttrs(writer: Writer, value: NdaAttrs): void {
  ndaAttrs.encode(writer, value);
}

/** Reads the attributes into a value that already has the header's part. */
export function decodeNdaAttrs<T extends Partial<Record<string, unknown>>>(reader: Reader, header: T): T & NdaAttrs {
  const seed: Record<string, unknown> = { ...header };
  return ndaAttrs.decode(reader, seed) as T & NdaAttrs;
}
