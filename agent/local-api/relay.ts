import type { FastifyInstance } from 'fastify';
import { TsnetError } from '../../core/errors.js';
import type { ControllerClient } from '../sync/controller-client.js';

/** What is asked of the cluster through this host. */
export interface RelayedCall {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

export interface RelayOptions {
  readonly client: Pick<ControllerClient, 'call'>;
  /** Refuses what asks of the cluster something that this host knows to be impossible here. */
  readonly checkRelayed: (call: RelayedCall) => Promise<void>;
}

/** What the agent answers for a controller: the cluster's part of the interface, under the host's principal. */
const relayed = [
  '/v1/networks',
  '/v1/networks/*',
  '/v1/policies',
  '/v1/policies/*',
  '/v1/services',
  '/v1/services/*',
  '/v1/endpoints',
  '/v1/hosts',
  '/v1/hosts/*',
  '/v1/status',
];

const refusedMethods: ReadonlySet<string> = new Set(['OPTIONS', 'TRACE']);

/** A segment that whoever stands between, or the URL's reader, would take for another folder or for none. */
const odd = /^(?:\.|%2e){0,2}$|[\\]|%(?:2f|5c|00)/i;

/**
 * Reports whether a request's target is a path that means the same to everybody on its way: no URL of another server
 * (the router takes those for their path), and nothing in it that could lead out of what it begins with.
 */
export function isPlainTarget(target: string): boolean {
  const [path = ''] = target.split('?', 1);
  const [before, ...segments] = path.split('/');
  return before === '' && segments.length > 0 && !segments.some((segment) => odd.test(segment));
}

/** Relays the cluster's part of the interface to a controller, with the host's token. */
export function addRelay(app: FastifyInstance, { client, checkRelayed }: RelayOptions): void {
  for (const url of relayed)
    app.all(url, async ({ method, url: path, body }, reply) => {
      if (refusedMethods.has(method) || !isPlainTarget(path))
        throw new TsnetError('ERR_NOT_FOUND', `there is no ${method} ${path}`);
      await checkRelayed({ method, path, body });
      const answer = await client.call<unknown>(method, path, body === undefined ? {} : { body });
      return answer === undefined ? reply.code(204).send() : answer;
    });
}
