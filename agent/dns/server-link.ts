import type { ChildProcess } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { version } from '../../core/version.js';
import type { Logger } from '../../lib/log.js';
import { startWith } from './handover.js';
import type { PlaceSockets } from './open-place.js';
import { newLineReader, type ToAgent, type ToServer } from './protocol.js';

export interface ServerLinkOptions {
  readonly socket: string;
  /** Program and arguments that run the name server. */
  readonly program: readonly string[];
  readonly log: Logger;
  /** Those that a name server has left behind, for the next one. */
  readonly sockets: () => ReadonlyMap<string, PlaceSockets>;
  /** A name server of this version is there and knows nothing of us yet. */
  readonly onConnected: (pid: number) => void;
  readonly onMessage: (message: Exclude<ToAgent, { readonly say: 'hello' }>) => void;
  /** It is gone, or was not there. */
  readonly onAway: () => void;
}

const retryMs = { first: 20, starting: 50, last: 1000 } as const;
/** So long one that was started has until it listens; then another one is started. */
const startMs = 10_000;
/** So long another version has to take over the sockets; then the old one is stopped, and they are opened anew. */
const replaceMs = 5000;

/** The connection to this host's name server, which is started where none runs, and replaced where it is another version. */
export class ServerLink {
  readonly #options: ServerLinkOptions;
  #socket: Socket | undefined;
  #isConnected = false;
  #isClosed = false;
  #child: ChildProcess | undefined;
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
    // One that cannot start is not tried without end.
    if (
      !this.#isReplacing() &&
      !this.#isStarting() &&
      nowMs - this.#spawnedMs > Math.max(retryMs.last, this.#retryMs)
    ) {
      this.#spawnedMs = nowMs;
      this.#spawn();
    }
    this.#timer = setTimeout(() => this.connect(), this.#retryMs);
    this.#timer.unref();
    this.#retryMs = Math.min(this.#retryMs * 2, this.#isStarting() ? retryMs.starting : retryMs.last);
  }

  #spawn(): void {
    const child = startWith(this.#options.program, this.#options.sockets());
    this.#child = child;
    const end = (): void => {
      if (this.#child === child) this.#child = undefined;
    };
    child.once('exit', end);
    child.on('error', (error) => {
      end();
      this.#options.log.error({ error: error.message }, 'cannot start the name server; it is tried again');
    });
    child.unref();
  }

  /** One that was just started needs its time. */
  #isStarting(): boolean {
    return this.#child !== undefined && performance.now() - this.#spawnedMs < startMs;
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
    this.#options.onConnected(message.pid);
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
