import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type {
  HostRecords,
  HostRegister,
  HostRegistered,
  HostRemoval,
  HostToken,
  HostView,
} from '../../core/api/host.js';
import type {
  BlockGrant,
  BlockRelease,
  BlockRequest,
  CarveAnswer,
  Publication,
  PublicationResult,
} from '../../core/api/publication.js';
import { parseHostName } from '../../core/name.js';
import {
  hostRecordsSchema,
  hostRegisterSchema,
  hostRegisteredSchema,
  hostRemovalQuerySchema,
  hostRemovalSchema,
  hostTokenRequestSchema,
  hostTokenSchema,
  hostViewSchema,
} from '../../core/schema/host.js';
import {
  blockGrantSchema,
  blockReleaseSchema,
  blockRequestSchema,
  carveAnswerSchema,
  publicationResultSchema,
  publicationSchema,
} from '../../core/schema/publication.js';
import { idText } from '../../core/schema/part.js';
import { hostView } from '../../core/view.js';
import { answerCarve, releaseBlock, requestBlock } from '../blocks.js';
import { requireReady, settingsOf, type ControllerContext } from '../context.js';
import { hostRecords, registerHost, removeHost, renewHostToken } from '../hosts.js';
import { hostState } from '../liveness.js';
import { publish } from '../publish.js';
import { hostParams, routeOptions } from './route.js';

const tag = 'hosts';
/** A hundred records with all their labels. */
const publicationLimitBytes = 8 * 1024 * 1024;

interface HostRoute {
  readonly Params: { readonly host: string };
}

export function hostRoutes(app: FastifyInstance, context: ControllerContext): void {
  app.get(
    '/v1/hosts',
    routeOptions('any', { summary: 'List hosts', tag, answer: Type.Array(hostViewSchema) }),
    (): readonly HostView[] => {
      requireReady(context);
      const { livenessMs } = settingsOf(context);
      const hosts = [...context.mirror.tables.host.all()].map(({ value }) =>
        hostView(value, hostState(context.mirror, value.name, livenessMs)),
      );
      return hosts.sort((a, b) => (a.name < b.name ? -1 : 1));
    },
  );
  app.get<HostRoute>(
    '/v1/hosts/:host/records',
    routeOptions('host', {
      summary: 'All records of a host',
      tag,
      params: hostParams,
      answer: hostRecordsSchema,
    }),
    (request): HostRecords => hostRecords(context, parseHostName(request.params.host)),
  );
  app.post<HostRoute>(
    '/v1/hosts/:host/token',
    routeOptions('admin', {
      summary: 'Make a token of its own for a host',
      tag,
      params: hostParams,
      body: hostTokenRequestSchema,
      answer: hostTokenSchema,
    }),
    (request): Promise<HostToken> => renewHostToken(context, parseHostName(request.params.host)),
  );
  app.delete<HostRoute & { Querystring: { force?: boolean } }>(
    '/v1/hosts/:host',
    routeOptions('admin', {
      summary: 'Remove a host and all that is its',
      tag,
      params: hostParams,
      query: hostRemovalQuerySchema,
      answer: hostRemovalSchema,
    }),
    (request): Promise<HostRemoval> =>
      removeHost(context, parseHostName(request.params.host), request.query.force === true),
  );
  app.put<HostRoute & { Body: HostRegister }>(
    '/v1/hosts/:host',
    routeOptions('host', {
      summary: 'Register a host',
      tag,
      params: hostParams,
      body: hostRegisterSchema,
      answer: hostRegisteredSchema,
    }),
    (request): Promise<HostRegistered> => registerHost(context, parseHostName(request.params.host), request.body),
  );
}

export function blockRoutes(app: FastifyInstance, context: ControllerContext): void {
  app.post<HostRoute & { Body: BlockRequest }>(
    '/v1/hosts/:host/blocks',
    routeOptions('host', {
      summary: 'Ask for a block or one address',
      tag,
      params: hostParams,
      body: blockRequestSchema,
      answer: blockGrantSchema,
    }),
    (request): Promise<BlockGrant> => requestBlock(context, parseHostName(request.params.host), request.body),
  );
  app.post<HostRoute & { Body: BlockRelease }>(
    '/v1/hosts/:host/blocks/release',
    routeOptions('host', { summary: 'Give a block back', tag, params: hostParams, body: blockReleaseSchema }),
    async (request, reply) => {
      await releaseBlock(context, parseHostName(request.params.host), request.body);
      return reply.code(204).send();
    },
  );
  app.post<{ Params: { readonly host: string; readonly id: string }; Body: CarveAnswer }>(
    '/v1/hosts/:host/carves/:id',
    routeOptions('host', {
      summary: 'Answer a request for an address of an own block',
      tag,
      params: Type.Object({ ...hostParams.properties, id: idText('carve', 'Carve id') }),
      body: carveAnswerSchema,
    }),
    async (request, reply) => {
      await answerCarve(context, parseHostName(request.params.host), request.params.id, request.body);
      return reply.code(204).send();
    },
  );
  app.post<HostRoute & { Body: Publication }>(
    '/v1/hosts/:host/publish',
    {
      ...routeOptions('host', {
        summary: 'Publish own records',
        tag,
        params: hostParams,
        body: publicationSchema,
        answer: publicationResultSchema,
      }),
      bodyLimit: publicationLimitBytes,
    },
    (request): Promise<PublicationResult> => publish(context, parseHostName(request.params.host), request.body),
  );
}
