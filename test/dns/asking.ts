import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { plain } from '../lab/plain.js';
import type { Sandbox } from '../lab/sandbox.js';

/** Asks for one name every 5 ms; each query is sent once more after a second, as resolvers do. */
const program = `
const socket = require('node:dgram').createSocket('udp4');
const [, , server, question] = process.argv;
const open = new Map();
const counts = { asked: 0, answered: 0, again: 0 };
const send = (id) => {
  const query = Buffer.concat([Buffer.from('000001000001000000000000', 'hex'), Buffer.from(question, 'hex')]);
  query.writeUInt16BE(id, 0);
  socket.send(query, 53, server);
};
socket.on('message', (answer) => {
  if (open.delete(answer.readUInt16BE(0)) && (answer[3] & 15) === 0) counts.answered += 1;
});
const timer = setInterval(() => {
  const id = counts.asked++ & 0xffff;
  open.set(id, setTimeout(() => { if (open.has(id)) { counts.again += 1; send(id); } }, 1000));
  send(id);
}, 5);
process.stdin.on('end', () => {
  clearInterval(timer);
  setTimeout(() => { process.stdout.write(JSON.stringify(counts)); process.exit(); }, 2500);
}).resume();
`;

export interface AskCounts {
  readonly asked: number;
  readonly answered: number;
  /** Sent a second time. */
  readonly again: number;
}

/** Starts asking inside a sandbox; `end` says how it went. */
export function startAsking(
  from: Sandbox,
  server: string,
  { folder, name }: { readonly folder: string; readonly name: string },
): { end(): Promise<AskCounts> } {
  const file = join(folder, 'asking.cjs');
  writeFileSync(file, program);
  const labels = name.split('.').map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label)]));
  const question = Buffer.concat([...labels, Buffer.from('0000010001', 'hex')]).toString('hex');
  const child = spawn(...plain([...from.enter, process.execPath, file, server, question]), {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const output = text(child.stdout);
  return {
    end: async () => {
      child.stdin.end();
      return JSON.parse(await output) as AskCounts;
    },
  };
}
