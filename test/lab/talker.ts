import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { plain } from './plain.js';
import type { Command, Probe } from './talker-program.js';

const program = fileURLToPath(new URL('./talker-program.js', import.meta.url));
const deadlineMs = 20_000;

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

/** The talker program inside a sandbox: serves ports, and connects wherever it is told to. */
export class Talker {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting = new Map<number, Waiting>();
  readonly #ended: Promise<void>;
  #last = 0;

  private constructor(enter: readonly string[], ports: readonly number[]) {
    this.#child = spawn(...plain([...enter, process.execPath, program, ...ports.map(String)]), {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdin.on('error', () => undefined);
    createInterface(this.#child.stdout).on('line', (line) => {
      const { id, answer } = JSON.parse(line) as { readonly id: number; readonly answer: unknown };
      this.#waiting.get(id)?.resolve(answer);
      this.#waiting.delete(id);
    });
    this.#ended = new Promise((resolve) =>
      this.#child.on('close', () => {
        for (const { reject } of this.#waiting.values()) reject(new Error('the talker ended'));
        resolve();
      }),
    );
  }

  /** `enter` is what runs a command inside the sandbox. */
  static async start(enter: readonly string[], ports: readonly number[]): Promise<Talker> {
    const talker = new Talker(enter, ports);
    await talker.#answer(0);
    return talker;
  }

  /** Which of them are answered; all are tried at once. */
  async probe(probes: readonly Probe[]): Promise<boolean[]> {
    return (await this.#ask({ what: 'probe', probes })) as boolean[];
  }

  /** The address that a talker sees this one's datagrams to it come from; null where there is no answer. */
  async seenAs(to: { readonly address: string; readonly port: number }): Promise<string | null> {
    return (await this.#ask({ what: 'seen', ...to })) as string | null;
  }

  /** Opens a connection that stays. */
  async open(probe: Probe): Promise<() => Promise<boolean>> {
    const connection = (await this.#ask({ what: 'open', probe })) as number;
    return async () => (await this.#ask({ what: 'say', connection })) as boolean;
  }

  /** Reports whether all who are connected to the port answer what this end says. */
  async push(port: number): Promise<boolean> {
    return (await this.#ask({ what: 'push', port })) as boolean;
  }

  async end(): Promise<void> {
    this.#child.stdin.end();
    await this.#ended;
  }

  #ask(command: Command): Promise<unknown> {
    this.#last += 1;
    const answer = this.#answer(this.#last);
    this.#child.stdin.write(`${JSON.stringify({ id: this.#last, ...command })}\n`);
    return answer;
  }

  #answer(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the talker is silent')), deadlineMs);
      this.#waiting.set(id, {
        resolve: (answer) => {
          clearTimeout(timer);
          resolve(answer);
        },
        reject,
      });
    });
  }
}

/** A talker in each of the sandboxes while `body` runs; the one that is called `server` serves the ports. */
export async function withTalkers<K extends string>(
  sandboxes: Readonly<Record<K, { readonly enter: readonly string[] }>>,
  ports: readonly number[],
  body: (talkers: Readonly<Record<K, Talker>>) => Promise<void>,
): Promise<void> {
  const names = Object.keys(sandboxes) as K[];
  const started = await Promise.allSettled(
    names.map((name) => Talker.start(sandboxes[name].enter, name === 'server' ? ports : [])),
  );
  const talkers = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  try {
    for (const each of started) if (each.status === 'rejected') throw each.reason;
    await body(Object.fromEntries(names.map((name, at) => [name, talkers[at]])) as Record<K, Talker>);
  } finally {
    for (const talker of talkers) await talker.end();
  }
}
