import { readFileSync, statSync } from 'node:fs';
import { TsnetError, toTsnetError } from '../../core/errors.js';
import { HttpClient, type HttpCall } from '../../lib/http/client.js';

export interface ControllerClientOptions {
  /** Controllers' URLs, tried in order. */
  readonly urls: readonly string[];
  /** Name of this host: the principal that it asks to be taken for. */
  readonly host: string;
  readonly tokenFile: string | null;
  /** Deadline of one try, ms. */
  readonly timeoutMs?: number;
}

export interface ControllerCall extends HttpCall {
  /** The call may be made again when it is not known whether the first try arrived. Default: for GET, PUT and DELETE. */
  readonly repeatable?: boolean;
  /** Only this controller, no other. */
  readonly url?: string;
}

export interface ControllerStream<T> {
  readonly url: string;
  readonly lines: AsyncIterableIterator<T>;
}

const defaultTimeoutMs = 5000;
/** Codes of a connection that was never made: nothing can have been done. */
const neverConnected = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EHOSTDOWN',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EADDRNOTAVAIL',
]);
/** What another controller may do better. */
const failOverCodes = new Set(['ERR_CONTROLLER_UNREACHABLE', 'ERR_STORE_UNREACHABLE', 'ERR_STOPPING']);

/** Calls to whichever controller works: it stays with one until that one fails. */
export class ControllerClient {
  readonly #clients: readonly HttpClient[];
  readonly #token: TokenFile | null;
  #current = 0;

  constructor(options: ControllerClientOptions) {
    if (options.urls.length === 0) throw new TsnetError('ERR_USAGE', 'no controller is named');
    const token = options.tokenFile === null ? null : new TokenFile(options.tokenFile);
    this.#token = token;
    this.#clients = options.urls.map(
      (base) =>
        new HttpClient({
          base,
          headers: { 'x-tsnet-host': options.host },
          unreachable: 'ERR_CONTROLLER_UNREACHABLE',
          timeoutMs: options.timeoutMs ?? defaultTimeoutMs,
          ...(token === null ? {} : { token: () => token.read() }),
        }),
    );
  }

  /** The controller that is asked first. */
  get url(): string {
    return this.#clients[this.#current]?.base ?? '';
  }

  /** Why the token file cannot be read; null when it can, or none is set. */
  get tokenError(): string | null {
    return this.#token?.error ?? null;
  }

  /**
   * One call, at the next controller where one cannot be reached.
   * Errors: what the controller says; ERR_CONTROLLER_UNREACHABLE when none answers; ERR_DEADLINE.
   */
  call<T>(method: string, path: string, call: ControllerCall = {}): Promise<T> {
    const repeatable = call.repeatable ?? method !== 'POST';
    return this.#tryEach(call, repeatable, (client) => client.call<T>(method, path, call));
  }

  /** Opens a stream of JSON lines at a controller that works. */
  stream<T>(
    method: string,
    path: string,
    call: ControllerCall & { readonly idleMs: number },
  ): Promise<ControllerStream<T>> {
    return this.#tryEach(call, true, async (client) => ({
      url: client.base,
      lines: await client.lines<T>(method, path, call),
    }));
  }

  /** Turns to the next controller: the one in use answers but is of no use. */
  skip(): void {
    this.#current = (this.#current + 1) % this.#clients.length;
  }

  /** Ends all connections; a later call makes new ones. */
  close(): void {
    for (const client of this.#clients) client.close();
  }

  async #tryEach<R>(call: ControllerCall, repeatable: boolean, run: (client: HttpClient) => Promise<R>): Promise<R> {
    const candidates = this.#candidates(call.url);
    // A kept-alive connection may have been closed by the peer: the first one gets a second chance at the end.
    const tries = repeatable && candidates[0] !== undefined ? [...candidates, candidates[0]] : candidates;
    let last: TsnetError | undefined;
    for (const index of tries) {
      const client = this.#clients[index];
      if (client === undefined) continue;
      try {
        const result = await run(client);
        this.#current = index;
        return result;
      } catch (error) {
        last = toTsnetError(error);
        if (call.signal?.aborted === true || !failOverCodes.has(last.code)) throw last;
        if (!repeatable && !isNeverConnected(last)) throw last;
      }
    }
    throw last ?? new TsnetError('ERR_CONTROLLER_UNREACHABLE', `no controller at ${call.url ?? 'any URL'}`);
  }

  #candidates(url: string | undefined): number[] {
    const count = this.#clients.length;
    if (url !== undefined) return this.#clients.flatMap((client, index) => (client.base === url ? [index] : []));
    return Array.from({ length: count }, (_, step) => (this.#current + step) % count);
  }
}

function isNeverConnected(error: TsnetError): boolean {
  // An answer with an error body was an answer: the controller did nothing.
  if (error.code !== 'ERR_CONTROLLER_UNREACHABLE') return true;
  const { cause } = error;
  return cause instanceof Error && 'code' in cause && neverConnected.has(String(cause.code));
}

/** A token file that is read again when it changes. */
class TokenFile {
  readonly #path: string;
  #stamp = '';
  #token: string | undefined;
  #error: string | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  get error(): string | null {
    return this.#error;
  }

  /** The token; the last good one while the file cannot be read. */
  read(): string | undefined {
    try {
      const { mtimeMs, ino, size } = statSync(this.#path);
      const stamp = `${mtimeMs}/${ino}/${size}`;
      if (stamp !== this.#stamp) {
        this.#token = readFileSync(this.#path, 'utf8').trim();
        this.#stamp = stamp;
      }
      this.#error = null;
    } catch (error) {
      this.#error = error instanceof Error ? error.message : String(error);
    }
    return this.#token === '' ? undefined : this.#token;
  }
}
