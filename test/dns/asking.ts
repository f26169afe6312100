import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { LabHost } from '../lab/host.js';
import { plain } from '../lab/plain.js';
import type { Sandbox } from '../lab/sandbox.js';

/**
 * Asks for one name every 5 ms; each query is sent once more after a second, as resolvers do. The socket is connected, so
 * that it is told where nobody listens.
 */
const program = `
const socket = require('node:dgram').createSocket('udp4');
const [, , server, question] = process.argv;
const open = new Map();
const counts = { asked: 0, answered: 0, again: 0, refused: 0 };
const send = (id) => {
  const query = Buffer.concat([Buffer.from('000001000001000000000000', 'hex'), Buffer.from(question, 'hex')]);
  query.writeUInt16BE(id, 0);
  socket.send(query, () => undefined);
};
socket.on('message', (answer) => {
  if (open.delete(answer.readUInt16BE(0)) && (answer[3] & 15) === 0) counts.answered += 1;
});
socket.on('error', () => (counts.refused += 1));
let timer;
const ask = () => {
  const id = counts.asked++ & 0xffff;
  open.set(id, setTimeout(() => { if (open.has(id)) { counts.again += 1; send(id); } }, 1000));
  send(id);
};
socket.connect(53, server, () => (timer = setInterval(ask, 5)));
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
  /** How often it was said that nobody listens there. */
  readonly refused: number;
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

/** Who reads a host's sockets for names, and the sockets' own numbers. The agent, which has duplicates, is left out. */
export async function nameServers(host: LabHost): Promise<{ readonly pids: string[]; readonly sockets: string[] }> {
  const { stdout } = await host.exec('ss', '-Htulnpe', 'sport = :53');
  const all = (pattern: RegExp): string[] =>
    [...new Set([...stdout.matchAll(pattern)].map(([, id = '']) => id))].sort();
  return { pids: all(/pid=(\d+)/g).filter(isNameServer), sockets: all(/ino:(\d+)/g) };
}

function isNameServer(pid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').includes('dns-server');
  } catch {
    return false;
  }
}
