import { spawn, type ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { plain } from '../test/lab/plain.js';
import type { Sandbox } from '../test/lab/sandbox.js';

/** Reads names, asks for the last one each millisecond until there is an address, and writes when that was. */
const program = `
const socket = require('node:dgram').createSocket('udp4');
const [, , server] = process.argv;
let query, name, id = 0;
socket.on('message', (answer) => {
  if (name === undefined || answer.readUInt16BE(0) !== id || answer.readUInt16BE(6) === 0) return;
  process.stdout.write(name + ' ' + process.hrtime.bigint() + '\\n');
  name = undefined;
});
socket.bind(0, () => process.stdout.write('ready\\n'));
setInterval(() => { if (name !== undefined) socket.send(query, 53, server); }, 1);
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  name = line;
  id = (id + 1) & 0xffff;
  query = Buffer.concat([Buffer.from('000001000001000000000000', 'hex'), Buffer.of(line.length), Buffer.from(line), Buffer.from('0000010001', 'hex')]);
  query.writeUInt16BE(id, 0);
}).on('close', () => process.exit());
`;

/** Watches from inside a sandbox for names to appear, by the clock that all processes of a machine share. */
export class NameWatch {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<string, (atNs: bigint) => void>();

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(from: Sandbox, server: string, folder: string): Promise<NameWatch> {
    const file = join(folder, 'watching.cjs');
    writeFileSync(file, program);
    const child = spawn(...plain([...from.enter, process.execPath, file, server]), {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const watch = new NameWatch(child);
    await new Promise<void>((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        const [name = '', at] = line.split(' ');
        if (at === undefined) resolve();
        else watch.#waiting.get(name)?.(BigInt(at));
      });
    });
    return watch;
  }

  /** Begins to ask at once; when the first address came, by `process.hrtime`. */
  appears(name: string): Promise<bigint> {
    this.#child.stdin?.write(`${name}\n`);
    return new Promise((resolve) =>
      this.#waiting.set(name, (atNs) => {
        this.#waiting.delete(name);
        resolve(atNs);
      }),
    );
  }

  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.stdin?.end();
    await ended;
  }
}
