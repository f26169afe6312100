import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { fromErrorBody, isErrorBody, TsnetError, type ErrorCode } from '../../core/errors.js';
import { socketPath } from '../socket-path.js';

/** Where a server listens: `http://HOST:PORT`, or `unix:PATH`. */
export interface HttpClientOptions {
  readonly base: string;
  /** Read at each request, so that a rotated token file is picked up. */
  readonly token?: () => string | undefined;
  /** Sent with each request. */
  readonly headers?: Readonly<Record<string, string>>;
  /** What it means when nobody answers. */
  readonly unreachable: Extract<ErrorCode, 'ERR_AGENT_UNREACHABLE' | 'ERR_CONTROLLER_UNREACHABLE'>;
  /** Default deadline of a whole request, ms. */
  readonly timeoutMs?: number;
}

export interface HttpCall {
  readonly body?: unknown;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Largest answer that is read into memory. */
const maxAnswerBytes = 64 * 1024 * 1024;

/** JSON over HTTP/1.1, on TCP or a unix socket, with kept-alive connections. */
export class HttpClient {
  readonly #options: HttpClientOptions;
  readonly #agent = new HttpAgent({ keepAlive: true, maxSockets: 32 });

  constructor(options: HttpClientOptions) {
    this.#options = options;
  }

  get base(): string {
    return this.#options.base;
  }

  /** Ends idle connections. */
  close(): void {
    this.#agent.destroy();
  }

  /**
   * One call; the parsed answer, undefined for 204.
   * Errors: whatever the server says as TsnetError; `unreachable` when it cannot be reached; ERR_DEADLINE.
   */
  async call<T>(method: string, path: string, call: HttpCall = {}): Promise<T> {
    const timeoutMs = call.timeoutMs ?? this.#options.timeoutMs ?? 10_000;
    const timer = new AbortController();
    const timeout = setTimeout(() => timer.abort(), timeoutMs);
    const stop = (): void => timer.abort();
    call.signal?.addEventListener('abort', stop, { once: true });
    if (call.signal?.aborted === true) timer.abort();
    try {
      const response = await this.#send(method, path, { body: call.body, signal: timer.signal });
      return parseAnswer<T>(response.statusCode ?? 0, await readAll(response), `${method} ${path}`);
    } catch (error) {
      if (error instanceof TsnetError) throw error;
      if (timer.signal.aborted && call.signal?.aborted !== true) {
        throw new TsnetError('ERR_DEADLINE', `${method} ${path} at ${this.base} took longer than ${timeoutMs} ms`, {
          cause: error,
        });
      }
      throw this.#unreachable(error);
    } finally {
      clearTimeout(timeout);
      call.signal?.removeEventListener('abort', stop);
    }
  }

  /**
   * Opens a stream of JSON lines. Resolves when the server has answered 2xx; iterating ends with the
   * stream, and throws `unreachable` when it breaks or stays silent for `idleMs`.
   */
  async lines<T>(
    method: string,
    path: string,
    call: HttpCall & { readonly idleMs: number },
  ): Promise<AsyncIterableIterator<T>> {
    const abort = new AbortController();
    const stop = (): void => abort.abort();
    call.signal?.addEventListener('abort', stop, { once: true });
    if (call.signal?.aborted === true) abort.abort();
    try {
      const response = await this.#send(method, path, {
        body: call.body,
        signal: abort.signal,
        idleMs: call.idleMs,
      });
      const status = response.statusCode ?? 0;
      if (status >= 300) parseAnswer<never>(status, await readAll(response), `${method} ${path}`);
      return this.#readLines<T>(response);
    } catch (error) {
      throw error instanceof TsnetError ? error : this.#unreachable(error);
    }
  }

  async *#readLines<T>(response: IncomingMessage): AsyncIterableIterator<T> {
    let rest = '';
    response.setEncoding('utf8');
    try {
      for await (const chunk of response as AsyncIterable<string>) {
        let from = 0;
        for (let at = chunk.indexOf('\n'); at >= 0; at = chunk.indexOf('\n', from)) {
          const line = rest + chunk.slice(from, at);
          rest = '';
          from = at + 1;
          if (line !== '') yield JSON.parse(line) as T;
        }
        rest += chunk.slice(from);
        if (rest.length > maxAnswerBytes)
          throw new TsnetError('ERR_TOO_LARGE', `a line from ${this.base} is longer than ${maxAnswerBytes} bytes`);
      }
    } catch (error) {
      throw error instanceof TsnetError ? error : this.#unreachable(error);
    } finally {
      response.destroy();
    }
  }

  #send(
    method: string,
    path: string,
    options: { body: unknown; signal: AbortSignal; idleMs?: number },
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const text = options.body === undefined ? undefined : encodeBody(options.body);
      const headers: Record<string, string | number> = { ...this.#options.headers, accept: 'application/json' };
      if (text !== undefined) {
        headers['content-type'] = 'application/json';
        headers['content-length'] = Buffer.byteLength(text);
      }
      const token = this.#options.token?.();
      if (token !== undefined) headers['authorization'] = `Bearer ${token}`;
      const target: RequestOptions = {
        method,
        headers,
        agent: this.#agent,
        signal: options.signal,
        ...parseBase(this.#options, path),
      };
      const request = httpRequest(target, resolve);
      if (options.idleMs !== undefined) {
        request.setTimeout(options.idleMs, () => request.destroy(new Error(`silent for ${options.idleMs} ms`)));
      }
      request.on('error', reject);
      request.end(text);
    });
  }

  #unreachable(cause: unknown): TsnetError {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const what = this.#options.unreachable === 'ERR_AGENT_UNREACHABLE' ? 'agent' : 'controller';
    return new TsnetError(this.#options.unreachable, `${what} at ${this.base}: ${reason}`, { cause });
  }
}

/** Errors: ERR_INVALID_REQUEST for what is nested too deeply to be written. */
function encodeBody(body: unknown): string {
  try {
    return JSON.stringify(body);
  } catch (error) {
    throw new TsnetError('ERR_INVALID_REQUEST', 'request: the body is nested too deeply', { cause: error });
  }
}

/** The path goes out as it is: resolved against the base it could name another server, or leave what it begins with. */
function parseBase({ base, unreachable }: HttpClientOptions, path: string): RequestOptions {
  if (!/^\/[\x21-\xff]*$/.test(path))
    throw new TsnetError('ERR_INVALID_REQUEST', `request: ${JSON.stringify(path.slice(0, 100))} is no path`);
  if (base.startsWith('unix:')) return { socketPath: socketPath(base.slice(5), unreachable), path };
  const url = new URL(base);
  if (url.protocol !== 'http:')
    throw new TsnetError('ERR_USAGE', `"${base}" is neither http://HOST:PORT nor unix:PATH`);
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? 80 : Number(url.port), path };
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxAnswerBytes) {
      response.destroy();
      throw new TsnetError('ERR_TOO_LARGE', `the answer is larger than ${maxAnswerBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parseAnswer<T>(status: number, text: string, what: string): T {
  let value: unknown;
  try {
    value = text === '' ? undefined : JSON.parse(text);
  } catch (error) {
    throw new TsnetError('ERR_INTERNAL', `${what}: the answer (status ${status}) is not JSON`, { cause: error });
  }
  if (status >= 200 && status < 300) return value as T;
  if (isErrorBody(value)) throw fromErrorBody(value);
  throw new TsnetError('ERR_INTERNAL', `${what}: status ${status} without an error body`);
}
