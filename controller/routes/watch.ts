import type { FastifyInstance } from 'fastify';
import type { InterestChange, WatchRequest } from '../../core/api/watch.js';
import { TsnetError } from '../../core/errors.js';
import { parseHostName } from '../../core/name.js';
import { interestChangeSchema, watchLineSchema, watchRequestSchema } from '../../core/schema/watch.js';
import { isStreaming } from '../../lib/http/server.js';
import { requireReady, settingsOf, type ControllerContext } from '../context.js';
import { openSession, type HostSession } from '../sessions.js';
import { hostParams, routeOptions } from './route.js';

const tag = 'watch';

interface HostRoute {
  readonly Params: { readonly host: string };
}

/**
 * The stream of changes. A host lives while its stream does: every request of the host renews its lease; heartbeats
 * do so only for an agent that has not answered one yet, and no longer than the liveness bound, since a host without
 * power leaves a stream that looks open.
 */
export function watchRoutes(app: FastifyInstance, context: ControllerContext): void {
  const sessions = new Map<string, HostSession>();
  app.addHook('preHandler', async (request) => {
    const { host } = request.params as { readonly host?: string };
    if (host !== undefined && request.routeOptions.config.access === 'host') sessions.get(host)?.renew();
  });
  app.post<HostRoute & { Body: WatchRequest }>(
    '/v1/hosts/:host/watch',
    routeOptions('host', {
      summary: 'Open the stream of changes (NDJSON)',
      tag,
      params: hostParams,
      body: watchRequestSchema,
      answer: watchLineSchema,
    }),
    async (request, reply) => {
      requireReady(context);
      const host = parseHostName(request.params.host);
      const { instance, cursor, interest } = request.body;
      if (cursor !== undefined) await context.mirror.catchUpWith(cursor);
      const session = await openSession(context, host, {
        instance,
        onRefused: (error) => context.hub.end(host, error.code, error.message),
      });
      if (reply.raw.destroyed || reply.raw.writableEnded) {
        session.close();
        throw new TsnetError('ERR_STOPPING', 'the stream was closed before it began');
      }
      isStreaming(reply.raw);
      reply.hijack();
      sessions.set(host, session);
      const openedMs = performance.now();
      // A host that is cut off before its first answer must not live for as long as TCP takes to notice.
      const isNew = (): boolean => performance.now() - openedMs < settingsOf(context).livenessMs;
      context.hub.open({
        host,
        raw: reply.raw,
        interest,
        ...(cursor === undefined ? {} : { cursor }),
        onBeat: (stream) => {
          if (!stream.answersBeats && isNew()) session.renew();
        },
        onClose: () => {
          if (sessions.get(host) === session) sessions.delete(host);
          session.close();
        },
      });
    },
  );
  app.post<HostRoute & { Body: InterestChange }>(
    '/v1/hosts/:host/interest',
    routeOptions('host', {
      summary: 'Change what a stream hears, or answer a heartbeat',
      tag,
      params: hostParams,
      body: interestChangeSchema,
    }),
    async (request, reply) => {
      context.hub.changeInterest(parseHostName(request.params.host), request.body);
      return reply.code(204).send();
    },
  );
}
