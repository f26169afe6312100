import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { Publication, PublicationResult } from '../../core/api/publication.js';
import type { InterestChange, WatchLine, WatchRequest } from '../../core/api/watch.js';
import type { ErrorBody, ErrorCode } from '../../core/errors.js';
import { TsnetError } from '../../core/errors.js';
import { hello, settings } from '../unit/agent/records.js';

interface OpenStream {
  readonly response: ServerResponse;
  readonly request: WatchRequest;
}

export interface SeenCall {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: unknown;
}

/** The host routes of a controller, as a test wants them to answer. */
export class StubController {
  readonly calls: SeenCall[] = [];
  readonly streams: OpenStream[] = [];
  readonly publications: Publication[] = [];
  readonly interests: InterestChange[] = [];
  /** What a stream begins with. */
  opening: (request: WatchRequest) => readonly WatchLine[] = () => [
    hello(),
    { type: 'begin', scope: '*', revision: 10 },
    { type: 'end', scope: '*', revision: 10 },
  ];
  publish: (publication: Publication) => PublicationResult | ErrorCode | Promise<PublicationResult> = () => ({
    refused: [],
  });
  endpoints: readonly EndpointView[] = [];
  #server: Server | undefined;
  readonly #sockets = new Set<Socket>();
  #port = 0;

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Listens; on the same port as before when it was stopped. */
  async start(): Promise<this> {
    const server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) =>
        response.destroy(error instanceof Error ? error : undefined),
      );
    });
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (server.address() as AddressInfo).port;
    return this;
  }

  /** Gone at once, with all connections. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => (server === undefined ? resolve() : server.close(() => resolve())));
    this.streams.length = 0;
  }

  /** Sends lines on the newest stream. */
  send(...lines: readonly WatchLine[]): void {
    this.streams.at(-1)?.response.write(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  }

  /** Cuts the newest stream. */
  cut(): void {
    this.streams.pop()?.response.destroy();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString('utf8');
    const body: unknown = text === '' ? undefined : JSON.parse(text);
    const path = request.url ?? '';
    this.calls.push({ method: request.method ?? '', path, headers: request.headers, body });
    if (path.endsWith('/watch')) this.#open(response, body as WatchRequest);
    else if (path.endsWith('/interest')) {
      this.interests.push(body as InterestChange);
      response.writeHead(204).end();
    } else if (path.endsWith('/publish')) {
      this.publications.push(body as Publication);
      const result = await this.publish(body as Publication);
      if (typeof result === 'string') sendError(response, result);
      else sendJson(response, result);
    } else if (path.startsWith('/v1/endpoints')) sendJson(response, this.endpoints);
    else if (request.method === 'PUT') sendJson(response, { host: null, settings, epoch: 'e1' });
    else sendError(response, 'ERR_NOT_FOUND');
  }

  #open(response: ServerResponse, request: WatchRequest): void {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    response.on('error', () => undefined);
    this.streams.push({ response, request });
    this.send(...this.opening(request));
  }
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function sendError(response: ServerResponse, code: ErrorCode): void {
  const error = new TsnetError(code, `the stub says ${code}`);
  const body: ErrorBody = error.toBody();
  response.writeHead(error.http, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

/** Waits for a condition, with a deadline. */
export async function until(what: string, condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
