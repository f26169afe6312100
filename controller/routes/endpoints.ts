import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { Endpoint } from '../../core/model.js';
import { parseHostName } from '../../core/name.js';
import { endpointQuerySchema, endpointViewSchema } from '../../core/schema/endpoint.js';
import { endpointView } from '../../core/view.js';
import { findNetwork, requireReady, type ControllerContext } from '../context.js';
import type { Stored } from '../tables.js';
import { routeOptions } from './route.js';

interface EndpointsRoute {
  readonly Querystring: { readonly network?: string; readonly host?: string };
}

export function endpointRoutes(app: FastifyInstance, context: ControllerContext): void {
  app.get<EndpointsRoute>(
    '/v1/endpoints',
    routeOptions('any', {
      summary: 'List endpoints',
      tag: 'endpoints',
      query: endpointQuerySchema,
      answer: Type.Array(endpointViewSchema),
    }),
    async (request): Promise<readonly EndpointView[]> => {
      requireReady(context);
      const host = request.query.host === undefined ? undefined : parseHostName(request.query.host);
      const network =
        request.query.network === undefined ? undefined : await findNetwork(context, request.query.network);
      const views: EndpointView[] = [];
      for (const { value } of endpointsOf(context, network?.id)) {
        if (host !== undefined && value.host !== host) continue;
        views.push(
          endpointView(value, context.mirror.tables.network.get('', value.network)?.value.name ?? value.network),
        );
      }
      return views.sort(
        (a, b) => compareText(a.network, b.network) || compareText(a.createdAt, b.createdAt) || compareText(a.id, b.id),
      );
    },
  );
}

function endpointsOf(context: ControllerContext, network: string | undefined): Iterable<Stored<Endpoint>> {
  const { endpoint } = context.mirror.tables;
  return network === undefined ? endpoint.all() : endpoint.group(network).values();
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
