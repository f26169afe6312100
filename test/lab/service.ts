import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { AttachRequest } from '../../core/api/attach.js';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { Lab } from './lab.js';
import { plain } from './plain.js';
import type { Sandbox } from './sandbox.js';
import type { Question } from './service-program.js';
import { waitFor } from './wait.js';

const program = fileURLToPath(new URL('./service-program.js', import.meta.url));

/** What clients of a service heard. */
export interface Heard {
  /** How many answers came from each backend. */
  readonly answers: Readonly<Record<string, number>>;
  /** Addresses that backends saw. */
  readonly clients?: readonly string[];
  readonly failed: number;
  readonly errors: readonly string[];
}

/** One run of the service program. */
export class ServiceProgram {
  readonly lines: Readonly<Record<string, unknown>>[] = [];
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  #isOver = false;

  constructor(enter: readonly string[], words: readonly (string | number)[]) {
    this.#child = spawn(...plain([...enter, process.execPath, program, ...words.map(String)]), {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdin.on('error', () => undefined);
    createInterface(this.#child.stdout).on('line', (line) =>
      this.lines.push(JSON.parse(line) as Readonly<Record<string, unknown>>),
    );
    this.#child.on('close', () => (this.#isOver = true));
  }

  /** Whether it has ended. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** No longer keeps this process: it ends with whatever it runs in. */
  unref(): void {
    this.#child.unref();
    for (const stream of [this.#child.stdin, this.#child.stdout]) (stream as Socket).unref();
  }

  say(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  /** Waits for the line after so many. */
  line(after: number): Promise<Readonly<Record<string, unknown>>> {
    return waitFor('the service program to say something', () => this.lines[after]);
  }

  async end(): Promise<Readonly<Record<string, unknown>>> {
    this.#child.stdin.end();
    await waitFor('the service program to end', () => this.#isOver);
    return this.lines.at(-1) ?? {};
  }

  /** Ends it as a crash would. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

/** An endpoint with a server in it. */
export interface Backend {
  readonly sandbox: Sandbox;
  readonly endpoint: EndpointView;
  readonly program: ServiceProgram;
}

/** Attaches a sandbox with a server to a network. */
export async function newBackend(
  lab: Lab,
  at: { readonly host: number; readonly network: string; readonly name: string; readonly port?: number },
  request: Partial<AttachRequest> = {},
): Promise<Backend> {
  const sandbox = await lab.sandbox();
  const { host, network, name, port = 8080 } = at;
  const program = new ServiceProgram(sandbox.enter, ['serve', name, port]);
  await program.line(0);
  const labels = { app: 'web' };
  const endpoint = await lab.host(host).attach(network, sandbox, { name, labels, ...request });
  return { sandbox, endpoint, program };
}

/** One that asks in each place, by how it is entered: to start one for each question costs more than the question. */
const askers = new Map<string, ServiceProgram>();
let questions = 0;

async function askerIn(enter: readonly string[]): Promise<ServiceProgram> {
  const place = enter.join(' ');
  const known = askers.get(place);
  if (known !== undefined && !known.isOver) return known;
  const asker = new ServiceProgram(enter, ['ask']);
  askers.set(place, asker);
  asker.unref();
  await asker.line(0);
  return asker;
}

/** Asks a service so many times, each time on a new connection. */
export async function ask(
  from: Sandbox,
  to: { readonly address: string; readonly port?: number; readonly count: number; readonly protocol?: 'tcp' | 'udp' },
): Promise<Heard> {
  const asker = await askerIn(from.enter);
  questions += 1;
  const question: Question = { id: questions, protocol: 'tcp', port: 80, ...to };
  asker.say(JSON.stringify(question));
  const answered = (): Heard | undefined =>
    asker.lines.find(({ id }) => id === question.id)?.['heard'] as Heard | undefined;
  // Also where each is given up after its time, so that it is said how many were.
  return waitFor('answers', answered, 20_000 + 3500 * to.count);
}
