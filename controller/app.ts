import swagger from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { version } from '../core/version.js';
import { newHttpServer } from '../lib/http/server.js';
import { settingsOf, type ControllerContext } from './context.js';
import { authorize, type PrincipalOptions } from './principal.js';
import { endpointRoutes } from './routes/endpoints.js';
import { blockRoutes, hostRoutes } from './routes/hosts.js';
import { networkRoutes } from './routes/networks.js';
import { policyRoutes } from './routes/policies.js';
import { serviceRoutes } from './routes/services.js';
import { statusRoutes } from './routes/status.js';
import { watchRoutes } from './routes/watch.js';

/** The controller's HTTP interface, not yet listening. */
export async function newApp(context: ControllerContext, tokens: PrincipalOptions['tokens']): Promise<FastifyInstance> {
  const app = newHttpServer({ log: context.log, bodyLimitBytes: 1024 * 1024 });
  authorize(app, {
    mirror: context.mirror,
    tokens,
    requireLoopbackToken: context.options.requireLoopbackToken,
    ownHostTokens: context.options.ownHostTokens,
    hostsManageNetworks: () => settingsOf(context).hostsManageNetworks,
  });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'tsnet controller', version },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
      security: [{ token: [] }],
    },
  });
  await app.register(async (routes) => {
    statusRoutes(routes, context);
    networkRoutes(routes, context);
    policyRoutes(routes, context);
    serviceRoutes(routes, context);
    endpointRoutes(routes, context);
    hostRoutes(routes, context);
    blockRoutes(routes, context);
    watchRoutes(routes, context);
    routes.get('/openapi.json', { config: { access: 'any' }, schema: { hide: true } }, () => app.swagger());
  });
  return app;
}
