import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { ServiceCreate, ServiceUpdate } from '../../core/api/service.js';
import { networkRef, text } from '../../core/schema/part.js';
import { serviceCreateSchema, serviceUpdateSchema, serviceViewSchema } from '../../core/schema/service.js';
import type { ControllerContext } from '../context.js';
import { findService, listServiceViews } from '../service-views.js';
import { updateService } from '../service-update.js';
import { createService, removeService } from '../services.js';
import { routeOptions } from './route.js';

const tag = 'services';
const params = Type.Object({ ref: text('NAME, or NAME.NETWORK', 'web', 320) });
const query = Type.Object({ network: Type.Optional(networkRef) });

interface RefRoute {
  readonly Params: { readonly ref: string };
}

export function serviceRoutes(app: FastifyInstance, context: ControllerContext): void {
  app.get<{ Querystring: { readonly network?: string } }>(
    '/v1/services',
    routeOptions('any', { summary: 'List services', tag, query, answer: Type.Array(serviceViewSchema) }),
    async (request) => listServiceViews(context, request.query.network),
  );
  app.post<{ Body: ServiceCreate }>(
    '/v1/services',
    routeOptions('manage', { summary: 'Create a service', tag, body: serviceCreateSchema, answer: serviceViewSchema }),
    async (request) => createService(context, request.body),
  );
  app.get<RefRoute>(
    '/v1/services/:ref',
    routeOptions('any', { summary: 'Inspect a service', tag, params, answer: serviceViewSchema }),
    (request) => findService(context, request.params.ref),
  );
  app.patch<RefRoute & { Body: ServiceUpdate }>(
    '/v1/services/:ref',
    routeOptions('manage', {
      summary: 'Change a service, or have backends drain',
      tag,
      params,
      body: serviceUpdateSchema,
      answer: serviceViewSchema,
    }),
    async (request) => updateService(context, request.params.ref, request.body),
  );
  app.delete<RefRoute>(
    '/v1/services/:ref',
    routeOptions('manage', { summary: 'Remove a service', tag, params }),
    async (request, reply) => {
      await removeService(context, request.params.ref);
      return reply.code(204).send();
    },
  );
}
