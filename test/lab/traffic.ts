import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { plain } from './plain.js';
import { waitFor } from './wait.js';

const program = fileURLToPath(new URL('./traffic-program.js', import.meta.url));

export type TrafficLine = Readonly<Record<string, unknown>>;

/** One run of the traffic program: listening, or sending until it is ended. */
export class Traffic {
  readonly lines: TrafficLine[] = [];
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #words: readonly string[];
  #errors = '';
  #ended = false;

  /** `enter` is what runs a command inside the sandbox. */
  constructor(enter: readonly string[], words: readonly (string | number)[]) {
    this.#words = words.map(String);
    this.#child = spawn(...plain([...enter, process.execPath, program, ...this.#words]), {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#child.stdin.on('error', () => undefined);
    this.#child.stderr.on('data', (chunk: Buffer) => (this.#errors += chunk.toString('utf8')));
    createInterface(this.#child.stdout).on('line', (line) => this.lines.push(JSON.parse(line) as TrafficLine));
    this.#child.on('close', () => (this.#ended = true));
  }

  /** Waits for a line with that key; its value. Errors: at once when the program ends without one. */
  async expect(key: string, deadlineMs = 30_000): Promise<unknown> {
    const find = (): TrafficLine | undefined => this.lines.find((candidate) => key in candidate);
    await waitFor(`"${key}" from ${this.#words.join(' ')}`, () => find() ?? this.#ended, deadlineMs);
    const line = find();
    if (line === undefined) {
      throw new Error(`${this.#words.join(' ')} ended: ${JSON.stringify(this.lines)} ${this.#errors}`);
    }
    return line[key];
  }

  /** Lets it end and waits; the last line it printed. */
  async end(): Promise<TrafficLine> {
    this.#child.stdin.end();
    await waitFor(`${this.#words.join(' ')} to end`, () => this.#ended);
    return this.lines.at(-1) ?? {};
  }
}
