import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { fromErrorBody, isErrorBody, TsnetError } from '../core/errors.js';
import { socketPath } from '../lib/socket-path.js';

/**
 * One HTTP/1.1 request on a connection of its own. `tsnet ls` has to answer within twice the time that Node takes to
 * start; the first request through node:http costs 23 ms of processor time there, this 11, where Node's start is 36.
 */

export interface Server {
  /** `http://HOST:PORT` or `unix:PATH`. */
  readonly base: string;
  readonly token?: string | undefined;
  /** What it means when nobody answers. */
  readonly unreachable: 'ERR_AGENT_UNREACHABLE' | 'ERR_CONTROLLER_UNREACHABLE';
}

export interface ServerCall {
  readonly body?: unknown;
  /** Deadline of the whole exchange; default 10 s. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const defaultTimeoutMs = 10_000;
/** Largest answer that is read into memory. */
const maxAnswerBytes = 64 * 1024 * 1024;
const maxHeadBytes = 64 * 1024;

/**
 * Sends a request; the parsed answer, undefined where it is empty.
 * Errors: what the server says; `unreachable` with the socket's error as cause; ERR_DEADLINE.
 */
export async function callServer<T>(
  server: Server,
  request: { readonly method: string; readonly path: string },
  call: ServerCall = {},
): Promise<T> {
  const what = `${request.method} ${request.path}`;
  const timeoutMs = call.timeoutMs ?? defaultTimeoutMs;
  const text = formatRequest(server, request, call.body);
  try {
    return parseAnswer<T>(await exchange(connect(placeOf(server)), text, { ...call, timeoutMs }), what);
  } catch (error) {
    if (error instanceof TsnetError) throw error;
    if (error instanceof DeadlineError)
      throw new TsnetError('ERR_DEADLINE', `${what} at ${server.base} took longer than ${timeoutMs} ms`);
    const reason = error instanceof Error ? error.message : String(error);
    throw new TsnetError(server.unreachable, `${server.base}: ${reason}`, { cause: error });
  }
}

class DeadlineError extends Error {}

function placeOf({ base, unreachable }: Server): NetConnectOpts {
  if (base.startsWith('unix:')) return { path: socketPath(base.slice('unix:'.length), unreachable) };
  const url = new URL(base);
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? 80 : Number(url.port) };
}

function formatRequest(
  { base, token }: Server,
  { method, path }: { readonly method: string; readonly path: string },
  body: unknown,
): string {
  const text = body === undefined ? '' : JSON.stringify(body);
  const head = [
    `${method} ${path} HTTP/1.1`,
    `host: ${base.startsWith('unix:') ? 'localhost' : new URL(base).host}`,
    'accept: application/json',
    'connection: close',
    ...(token === undefined ? [] : [`authorization: Bearer ${token}`]),
    ...(body === undefined ? [] : ['content-type: application/json', `content-length: ${Buffer.byteLength(text)}`]),
  ];
  if (head.some((line) => /[\r\n\0]/.test(line)))
    throw new TsnetError('ERR_USAGE', 'a token or name holds a line break');
  return `${head.join('\r\n')}\r\n\r\n${text}`;
}

/**
 * Everything the server sends until its answer is whole by its length, or else until it closes the connection: that
 * may come later than the answer, after other work of the server's.
 */
function exchange(
  socket: Socket,
  text: string,
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal?: AbortSignal },
): Promise<Buffer> {
  return new Promise((done, failed) => {
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    let wholeBytes: number | undefined;
    const timer = setTimeout(() => socket.destroy(new DeadlineError()), timeoutMs);
    const abort = (): void => void socket.destroy(new Error('given up'));
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted === true) abort();
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      sizeBytes += chunk.length;
      if (sizeBytes > maxAnswerBytes)
        socket.destroy(new TsnetError('ERR_TOO_LARGE', `the answer is larger than ${maxAnswerBytes} bytes`));
      // A head that comes in pieces waits for the end: so each byte is looked at once.
      if (chunks.length === 1) wholeBytes = wholeSize(chunk);
      if (wholeBytes === undefined || sizeBytes < wholeBytes) return;
      done(Buffer.concat(chunks));
      socket.destroy();
    });
    socket.on('end', () => done(Buffer.concat(chunks)));
    socket.on('error', failed);
    socket.on('close', () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      failed(new Error('the connection broke'));
    });
    socket.write(text);
  });
}

/** The size of an answer whose head, with a length, is in its first bytes. */
function wholeSize(start: Buffer): number | undefined {
  const end = start.subarray(0, maxHeadBytes).indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const length = lengthIn(start.toString('latin1', 0, end));
  return length === undefined ? undefined : end + 4 + length;
}

function lengthIn(head: string): number | undefined {
  if (/\r\ntransfer-encoding:/i.test(head)) return undefined;
  const length = /\r\ncontent-length:[ \t]*([0-9]{1,10})[ \t]*(?:\r|$)/i.exec(head)?.[1];
  return length === undefined ? undefined : Number(length);
}

function parseAnswer<T>(answer: Buffer, what: string): T {
  const { status, body } = splitAnswer(answer);
  let value: unknown;
  try {
    value = body === '' ? undefined : JSON.parse(body);
  } catch (cause) {
    throw new TsnetError('ERR_INTERNAL', `${what}: the answer (status ${status}) is not JSON`, { cause });
  }
  if (status >= 200 && status < 300) return value as T;
  if (isErrorBody(value)) throw fromErrorBody(value);
  throw new TsnetError('ERR_INTERNAL', `${what}: status ${status} without an error body`);
}

/**
 * Parts an answer into status and body.
 *
 * Source: RFC 9112 §4 (status line), §6.3 (length of a body), §7.1 (chunks).
 * Errors: Error where it is cut short or no HTTP.
 */
export function splitAnswer(answer: Buffer): { readonly status: number; readonly body: string } {
  const end = answer.subarray(0, maxHeadBytes).indexOf('\r\n\r\n');
  const head = answer.toString('latin1', 0, Math.max(end, 0));
  const status = /^HTTP\/1\.[01] ([2-5][0-9]{2})(?: |\r|$)/.exec(head)?.[1];
  if (status === undefined)
    throw new Error(answer.length === 0 ? 'it closed the connection' : 'it does not speak HTTP');
  const body = answer.subarray(end + 4);
  if (/\r\ntransfer-encoding:[ \t]*chunked[ \t]*(?:\r|$)/i.test(head))
    return { status: Number(status), body: joinChunks(body) };
  const length = lengthIn(head);
  if (length !== undefined && body.length < length) throw new Error('its answer is cut short');
  return { status: Number(status), body: body.toString('utf8', 0, length) };
}

function joinChunks(body: Buffer): string {
  const chunks: Buffer[] = [];
  for (let at = 0; ;) {
    const lineEnd = body.indexOf('\r\n', at);
    const size = /^([0-9a-f]{1,8})(?:;|$)/i.exec(lineEnd < 0 ? '' : body.toString('latin1', at, lineEnd))?.[1];
    if (size === undefined) throw new Error('its answer is cut short');
    const sizeBytes = Number.parseInt(size, 16);
    if (sizeBytes === 0) return Buffer.concat(chunks).toString('utf8');
    const from = lineEnd + 2;
    at = from + sizeBytes + 2;
    if (at > body.length) throw new Error('its answer is cut short');
    chunks.push(body.subarray(from, from + sizeBytes));
  }
}
