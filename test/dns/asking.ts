import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { LabHost } from '../lab/host.js';
import { plain } from '../lab/plain.js';
import type { Sandbox } from '../lab/sandbox.js';

/**
 * Asks for one name every 5 ms; each query is sent once more after a second, as resolvers do. Each has a socket of its own,
 * so that none goes where one before was led to, which is connected, so that it is told where nobody listens.
 */
const program = `
const dgram = require('node:dgram');
const [, , server, question, address] = process.argv;
const expected = Buffer.from(address === '' ? [] : address.split('.').map(Number));
const counts = { asked: 0, answered: 0, again: 0, refused: 0, wrong: 0 };
const ask = () => {
  const query = Buffer.concat([Buffer.from('000001000001000000000000', 'hex'), Buffer.from(question, 'hex')]);
  query.writeUInt16BE(counts.asked++ & 0xffff, 0);
  const socket = dgram.createSocket('udp4');
  const send = () => socket.send(query, () => undefined);
  const timer = setTimeout(() => { counts.again += 1; send(); }, 1000);
  socket.on('error', () => (counts.refused += 1));
  socket.on('message', (answer) => {
    clearTimeout(timer);
    socket.close();
    if ((answer[3] & 15) !== 0) return;
    counts.answered += 1;
    if (!answer.subarray(answer.length - expected.length).equals(expected)) counts.wrong += 1;
  });
  socket.connect(53, server, send);
};
const timer = setInterval(ask, 5);
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
  /** Answered with another address than expected. */
  readonly wrong: number;
}

/** Starts asking inside a sandbox; `end` says how it went. */
export function startAsking(
  from: Sandbox,
  server: string,
  { folder, name, address = '' }: { readonly folder: string; readonly name: string; readonly address?: string },
): { end(): Promise<AskCounts> } {
  const file = join(folder, 'asking.cjs');
  writeFileSync(file, program);
  const labels = name.split('.').map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label)]));
  const question = Buffer.concat([...labels, Buffer.from('0000010001', 'hex')]).toString('hex');
  const child = spawn(...plain([...from.enter, process.execPath, file, server, question, address]), {
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

/** Kills the name server; what tells whether there is another one that has the sockets. */
export async function killServer(host: LabHost): Promise<() => Promise<boolean>> {
  const [pid = ''] = (await nameServers(host)).pids;
  if (pid === '') throw new Error(`${host.name} has no name server`);
  process.kill(Number(pid), 'SIGKILL');
  return async () => (await nameServers(host)).pids.some((each) => each !== pid);
}

function isNameServer(pid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').includes('dns-server');
  } catch {
    return false;
  }
}
