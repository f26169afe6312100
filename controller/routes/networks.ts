import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { NetworkCreate, NetworkUpdate, NetworkView } from '../../core/api/network.js';
import type { Network } from '../../core/model.js';
import { networkRef } from '../../core/schema/part.js';
import { networkCreateSchema, networkUpdateSchema, networkViewSchema } from '../../core/schema/network.js';
import { networkView } from '../../core/view.js';
import { findNetwork, requireReady, type ControllerContext } from '../context.js';
import { createNetwork, removeNetwork, updateNetwork } from '../networks.js';
import { routeOptions } from './route.js';

const tag = 'networks';
const params = Type.Object({ ref: networkRef });

interface RefRoute {
  readonly Params: { readonly ref: string };
}

export function networkRoutes(app: FastifyInstance, context: ControllerContext): void {
  const view = (network: Network): NetworkView =>
    networkView(network, (id) => context.mirror.tables.network.get('', id)?.value.name);
  app.get(
    '/v1/networks',
    routeOptions('any', { summary: 'List networks', tag, answer: Type.Array(networkViewSchema) }),
    (): readonly NetworkView[] => {
      requireReady(context);
      const networks = [...context.mirror.tables.network.all()].map(({ value }) => view(value));
      return networks.sort((a, b) => (a.name < b.name ? -1 : 1));
    },
  );
  app.post<{ Body: NetworkCreate }>(
    '/v1/networks',
    routeOptions('manage', { summary: 'Create a network', tag, body: networkCreateSchema, answer: networkViewSchema }),
    async (request) => view(await createNetwork(context, request.body)),
  );
  app.get<RefRoute>(
    '/v1/networks/:ref',
    routeOptions('any', { summary: 'Inspect a network', tag, params, answer: networkViewSchema }),
    async (request) => view(await findNetwork(context, request.params.ref)),
  );
  app.patch<RefRoute & { Body: NetworkUpdate }>(
    '/v1/networks/:ref',
    routeOptions('manage', {
      summary: 'Change a network',
      tag,
      params,
      body: networkUpdateSchema,
      answer: networkViewSchema,
    }),
    async (request) => view(await updateNetwork(context, request.params.ref, request.body)),
  );
  app.delete<RefRoute>(
    '/v1/networks/:ref',
    routeOptions('manage', { summary: 'Remove a network', tag, params }),
    async (request, reply) => {
      await removeNetwork(context, request.params.ref);
      return reply.code(204).send();
    },
  );
}
