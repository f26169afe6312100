import { EncodeError, type Writer } from '../bytes/writer.js';
import { attrEnd, attrStart, attrText, attrU32 } from './attr.js';
import { NLM_F_CREATE, NLM_F_REPLACE } from './constants.js';
import type { NetlinkMessage } from './message.js';

/** linux/rtnetlink.h, linux/pkt_sched.h */
const RTM_NEWQDISC = 36;
const TC_H_ROOT = 0xffffffff;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_TBF_PARMS = 1;
const TCA_TBF_RATE64 = 4;
const TCA_TBF_BURST = 6;
const NLA_F_NESTED = 0x8000;
/** With another link layer than "unaware" the kernel computes the times itself and wants no rate table. */
const TC_LINKLAYER_ETHERNET = 1;
const ratespecBytes = 12;
const maxU32 = 0xffffffff;

/** A token bucket as the root queueing discipline of a link: what leaves by the link leaves at this rate at most. */
export interface Tbf {
  readonly ifindex: number;
  /** Bytes per second. */
  readonly rateBytesPerSec: number;
  readonly burstBytes: number;
  /** How much waits at most; what does not fit is dropped. */
  readonly limitBytes: number;
}

function tcmsg(writer: Writer, ifindex: number): void {
  writer.u8(0);
  writer.zeros(3);
  writer.u32le(ifindex);
  writer.u32le(0);
  writer.u32le(TC_H_ROOT);
  writer.u32le(0);
}

function ratespec(writer: Writer, rate: number): void {
  writer.u8(0);
  writer.u8(TC_LINKLAYER_ETHERNET);
  writer.zeros(6);
  writer.u32le(rate);
}

function encodeTbf(writer: Writer, tbf: Tbf): void {
  const { rateBytesPerSec, burstBytes, limitBytes } = tbf;
  for (const [name, value] of Object.entries({ rateBytesPerSec, burstBytes, limitBytes })) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw new EncodeError(`tbf ${name}`, String(value), 'is no positive integer');
  }
  tcmsg(writer, tbf.ifindex);
  attrText(writer, TCA_KIND, 'tbf');
  const options = attrStart(writer, TCA_OPTIONS | NLA_F_NESTED);
  const parms = attrStart(writer, TCA_TBF_PARMS);
  ratespec(writer, Math.min(rateBytesPerSec, maxU32));
  writer.zeros(ratespecBytes);
  writer.u32le(Math.min(limitBytes, maxU32));
  writer.u32le(0);
  writer.u32le(0);
  attrEnd(writer, parms);
  attrU32(writer, TCA_TBF_BURST, Math.min(burstBytes, maxU32));
  if (rateBytesPerSec > maxU32) {
    const mark = attrStart(writer, TCA_TBF_RATE64);
    writer.u32le(rateBytesPerSec % 2 ** 32);
    writer.u32le(Math.floor(rateBytesPerSec / 2 ** 32));
    attrEnd(writer, mark);
  }
  attrEnd(writer, options);
}

/**
 * Gives a link a token bucket in place of whatever queueing discipline it has.
 *
 * Equivalent to: `tc qdisc replace dev $link root tbf rate $rate burst $burst limit $limit`
 * Source: linux/pkt_sched.h (struct tc_tbf_qopt)
 * Errors: EncodeError for numbers that are not positive integers; the kernel's ENODEV, ENOENT without sch_tbf.
 */
export function tbfReplaceMessage(tbf: Tbf): NetlinkMessage {
  return {
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: (writer) => encodeTbf(writer, tbf),
    subject: () =>
      `qdisc #${tbf.ifindex} root tbf rate ${tbf.rateBytesPerSec}bps burst ${tbf.burstBytes} limit ${tbf.limitBytes}`,
  };
}
