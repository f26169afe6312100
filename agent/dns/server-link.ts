import { spawn } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { version } from '../../core/version.js';
import type { Logger } from '../../lib/log.js';
import { newLineReader, type ToAgent, type ToServer } from './protocol.js';

export interface ServerLinkOptions {
  readonly socket: string;
  /** Program and arguments that run the name server. */
  readonly program: readonly string[];
  readonly log: Logger;
  /** A name server of this version is there and knows nothing of us yet. */
  readonly onConnected: () => void;
  readonly onMessage: (message: Exclude<ToAgent, { readonly say: 'hello' }>) => void;
  /** It is gone, or was not there. */
  readonly onAway: () => void;
}

const retryMs = { first: 20, last: 1000 } as const;
/** So long another version has to take over the sockets; then the old one is stopped, and they are opened anew. */
const replaceMs = 5000;

/** The connection to this host's name server, which is started where none runs, and replaced where it is another version. */
export class ServerLink {
  readonly #options: ServerLinkOptions;
  #socket: Socket | undefined;
  #isConnected = false;
  #isClosed = false;
  #spawnedMs = -Infinity;
  #replacedMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  #retryMs: number = retryMs.first;
  #awaySinceMs = performance.now();
  #hasFailed = false;

  constructor(options: ServerLinkOptions) {
    this.#options = options;
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** How long there has been none, milliseconds; 0 while it is there. */
  get awayMs(): number {
    return this.#isConnected ? 0 : performance.now() - this.#awaySinceMs;
  }

  /** A connection has failed: no name server was there. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  /** Finds the name server that runs, or starts one. */
  connect(): void {
    if (this.#isClosed) return;
    const socket = connect({ path: this.#options.socket });
    this.#socket = socket;
    socket.setEncoding('utf8');
    const read = newLineReader<ToAgent>((message) => this.#hear(message, socket));
    socket.on('data', (part: string) => {
      try {
        read(part);
      } catch (error) {
        this.#options.log.error({ error: String(error) }, 'the name server said what cannot be understood');
        socket.destroy();
      }
    });
    socket.on('error', () => undefined);
    socket.on('close', () => this.#again(socket));
  }

  /** Nothing is said while it is away: it is told everything when it is back. */
  tell(message: ToServer): void {
    if (this.#isConnected) this.#socket?.write(`${JSON.stringify(message)}\n`);
  }

  /** Sends what is told meanwhile in one piece. */
  together(telling: () => void): void {
    this.#socket?.cork();
    telling();
    this.#socket?.uncork();
  }

  /** Lets go of it; it goes on answering. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#socket?.end();
  }

  #again(socket: Socket): void {
    if (this.#socket !== socket || this.#isClosed) return;
    if (this.#isConnected) {
      this.#options.log.warn('the name server has gone: starting it again');
      this.#awaySinceMs = performance.now();
    }
    this.#isConnected = false;
    this.#hasFailed ||= !this.#isReplacing();
    this.#options.onAway();
    const nowMs = performance.now();
    // One that was just started needs its time; one that cannot start is not tried without end.
    if (!this.#isReplacing() && nowMs - this.#spawnedMs > Math.max(retryMs.last, this.#retryMs)) {
      this.#spawnedMs = nowMs;
      this.#spawn();
    }
    this.#timer = setTimeout(() => this.connect(), this.#retryMs);
    this.#timer.unref();
    this.#retryMs = Math.min(this.#retryMs * 2, retryMs.last);
  }

  #spawn(): void {
    const [program, ...args] = this.#options.program;
    if (program === undefined) return;
    // In a session of its own: what ends the agent's group does not end it. Its log is the agent's.
    const child = spawn(program, args, { detached: true, stdio: ['ignore', 'ignore', 'inherit'] });
    child.on('error', (error) =>
      this.#options.log.error({ error: error.message }, 'cannot start the name server; it is tried again'),
    );
    child.unref();
  }

  #hear(message: ToAgent, socket: Socket): void {
    if (message.say !== 'hello') {
      this.#options.onMessage(message);
      return;
    }
    this.#retryMs = retryMs.first;
    if (message.version !== version) {
      this.#replace(message.version, socket);
      return;
    }
    this.#isConnected = true;
    this.#replacedMs = -Infinity;
    this.#options.onConnected();
  }

  #replace(other: string, socket: Socket): void {
    if (this.#isReplacing()) {
      socket.end();
      return;
    }
    const isFirst = this.#replacedMs === -Infinity;
    this.#replacedMs = isFirst ? performance.now() : -Infinity;
    this.#spawnedMs = -Infinity;
    const { log, program } = this.#options;
    const message: ToServer = isFirst ? { do: 'replace', program } : { do: 'stop' };
    log.info({ version: other, ask: message.do }, 'the name server is of another version: starting ours');
    socket.end(`${JSON.stringify(message)}\n`);
  }

  #isReplacing(): boolean {
    return performance.now() - this.#replacedMs < replaceMs;
  }
}
