import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { plain } from '../lab/plain.js';
import type { Sandbox } from '../lab/sandbox.js';

/** Asks for `n-0` to `n-COUNT` in turn, one each millisecond, and writes number, time of asking, code and address. */
const program = `
const socket = require('node:dgram').createSocket('udp4');
const [, , server, count] = process.argv;
const open = new Map();
let asked = 0;
socket.on('message', (answer) => {
  const id = answer.readUInt16BE(0);
  const query = open.get(id);
  if (query === undefined) return;
  open.delete(id);
  const address = answer.readUInt16BE(6) === 0 ? '' : answer.subarray(query.end + 12, query.end + 16).join('.');
  process.stdout.write([query.number, query.atNs, answer[3] & 15, address].join(' ') + '\\n');
});
const timer = setInterval(() => {
  const number = asked++ % Number(count);
  const name = 'n-' + number;
  const query = Buffer.concat([Buffer.from('000001000001000000000000', 'hex'), Buffer.of(name.length), Buffer.from(name), Buffer.from('0000010001', 'hex')]);
  const id = asked & 0xffff;
  query.writeUInt16BE(id, 0);
  open.set(id, { number, atNs: process.hrtime.bigint(), end: query.length });
  socket.send(query, 53, server);
}, 1);
process.stdin.on('end', () => { clearInterval(timer); setTimeout(() => process.exit(), 500); }).resume();
`;

/** One answer, and when it was asked for, by the clock that all processes of a machine share. */
export interface Heard {
  readonly number: number;
  readonly atNs: bigint;
  readonly rcode: number;
  /** Empty: none. */
  readonly address: string;
}

/** Starts asking for all names without end; `end` gives all answers. */
export function askForAll(
  from: Sandbox,
  server: string,
  { folder, count }: { readonly folder: string; readonly count: number },
): { end(): Promise<Heard[]> } {
  const file = join(folder, 'churn.cjs');
  writeFileSync(file, program);
  const argv = [...from.enter, process.execPath, file, server, String(count)];
  const child = spawn(...plain(argv), { stdio: ['pipe', 'pipe', 'inherit'] });
  const heard: Heard[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [number = '', atNs = '0', rcode = '', address = ''] = line.split(' ');
    heard.push({ number: Number(number), atNs: BigInt(atNs), rcode: Number(rcode), address });
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  return {
    end: async () => {
      child.stdin.end();
      await ended;
      return heard;
    },
  };
}
