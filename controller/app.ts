import swagger from '@fastify/swagger';
import type { FastifyInstance, RouteOptions } from 'fastify';
import { TsnetError } from '../core/errors.js';
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
    routes.addHook('onRoute', checkBodiesLazily);
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

type Check = ReturnType<NonNullable<FastifyInstance['validatorCompiler']>>;

/** Bodies' schemas are compiled when the first body comes: compiling all of them would be a third of the start. */
function checkBodiesLazily(this: FastifyInstance, route: RouteOptions): void {
  if (route.schema?.body === undefined) return;
  route.validatorCompiler = (part) => {
    let check: Check | undefined;
    return (value: unknown) => {
      // The usual one, which is there by then: other routes have schemas as well.
      check ??= this.validatorCompiler?.(part);
      if (check === undefined) throw new TsnetError('ERR_INTERNAL', 'no schema can be compiled');
      const result: unknown = check(value);
      return result === false ? { error: check.errors ?? [] } : true;
    };
  };
}
