import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { AttachRequest } from '../../core/api/attach.js';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { Lab } from './lab.js';
import { plain } from './plain.js';
import type { Sandbox } from './sandbox.js';
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

/** Asks a service so many times, each time on a new connection. */
export async function ask(
  from: Sandbox,
  to: { readonly address: string; readonly port?: number; readonly count: number; readonly protocol?: 'tcp' | 'udp' },
): Promise<Heard> {
  const verb = to.protocol === 'udp' ? 'ask-udp' : 'ask';
  const asking = new ServiceProgram(from.enter, [verb, to.address, to.port ?? 80, to.count]);
  // Also where each is given up after its two seconds, so that it is said how many were.
  const heard = await waitFor('answers', () => asking.lines[0], 20_000 + 2500 * to.count);
  await asking.end();
  return heard as unknown as Heard;
}
