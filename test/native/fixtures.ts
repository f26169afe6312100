/** Fresh namespaces, and netlink messages built by hand, for the addon's own tests. */

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';

import { loadNative } from '../../native/index.js';

export const native = loadNative();

export const NETLINK_ROUTE = 0;
export const RTNLGRP_LINK = 1;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const RTM_NEWLINK = 16;
export const RTM_GETLINK = 18;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP = 0x300;
const NLM_F_CREATE_EXCL = 0x600;
const IFLA_IFNAME = 3;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;

export interface Message {
  readonly type: number;
  readonly seq: number;
  readonly body: Buffer;
}

export function newNetnsPath(): string {
  return `/run/netns/tsnative-${randomBytes(5).toString('hex')}`;
}

/** A namespace that ends with the test. */
export async function withNetns(t: Test): Promise<string> {
  const path = newNetnsPath();
  await native.netnsCreate(path);
  t.teardown(() => native.netnsDelete(path).catch(() => undefined));
  return path;
}

export function ip(path: string, ...args: string[]): string {
  return execFileSync('nsenter', [`--net=${path}`, 'ip', ...args], { encoding: 'utf8' });
}

export function linkNames(path: string): string[] {
  return (JSON.parse(ip(path, '-j', 'link')) as { ifname: string }[]).map((link) => link.ifname);
}

function encodeMessage(type: number, flags: number, seq: number, body: Buffer): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(16 + body.length, 0);
  header.writeUInt16LE(type, 4);
  header.writeUInt16LE(flags | 0x1, 6);
  header.writeUInt32LE(seq, 8);
  return Buffer.concat([header, body]);
}

function encodeAttr(type: number, value: Buffer): Buffer {
  const attr = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4);
  attr.writeUInt16LE(4 + value.length, 0);
  attr.writeUInt16LE(type, 2);
  value.copy(attr, 4);
  return attr;
}

export function linkDump(seq: number): Buffer {
  return encodeMessage(RTM_GETLINK, NLM_F_DUMP, seq, Buffer.alloc(16));
}

/** Asks for one link by index; a missing one is answered with ENODEV. */
export function linkGet(seq: number, ifindex: number): Buffer {
  const body = Buffer.alloc(16);
  body.writeInt32LE(ifindex, 4);
  return encodeMessage(RTM_GETLINK, NLM_F_ACK, seq, body);
}

export function bridgeAdd(seq: number, name: string): Buffer {
  const kind = encodeAttr(IFLA_INFO_KIND, Buffer.from('bridge'));
  const attrs = [encodeAttr(IFLA_IFNAME, Buffer.from(`${name}\0`)), encodeAttr(IFLA_LINKINFO, kind)];
  return encodeMessage(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE_EXCL, seq, Buffer.concat([Buffer.alloc(16), ...attrs]));
}

export function bridgesAdd(prefix: string, count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, index) => bridgeAdd(index + 1, `${prefix}${index}`)));
}

export function decodeMessages(datagrams: readonly Buffer[]): Message[] {
  const messages: Message[] = [];
  for (const datagram of datagrams) {
    for (let offset = 0; offset + 16 <= datagram.length;) {
      const length = datagram.readUInt32LE(offset);
      messages.push({
        type: datagram.readUInt16LE(offset + 4),
        seq: datagram.readUInt32LE(offset + 8),
        body: datagram.subarray(offset + 16, offset + length),
      });
      offset += Math.ceil(length / 4) * 4;
    }
  }
  return messages;
}

/** The errno of an NLMSG_ERROR, 0 for an acknowledgement. */
export function answerErrno(message: Message | undefined): number | undefined {
  return message?.type === NLMSG_ERROR ? -message.body.readInt32LE(0) : undefined;
}

/** Waits for a condition; fails after ten seconds. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within 10 s: ${what}`);
    await delay(5);
  }
}

/** What the process's descriptors point to, sorted; the one that reads the folder is left out. */
export function openDescriptors(): string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return '';
      }
    })
    .filter((target) => target !== '')
    .map((target) => target.replace(/\d+/, 'N'))
    .sort();
}

/** The names of our threads: Node's own come and go as they like. */
export function threadNames(): string[] {
  return readdirSync('/proc/self/task')
    .map((task) => {
      try {
        return readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim();
      } catch {
        return '';
      }
    })
    .filter((name) => name.startsWith('tsnet-'));
}
