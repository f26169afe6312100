import type { FastifyInstance } from 'fastify';
import type { ControllerStatus } from '../../core/api/status.js';
import { controllerStatusSchema } from '../../core/schema/status.js';
import { version } from '../../core/version.js';
import type { ControllerContext } from '../context.js';
import { routeOptions } from './route.js';

export function statusRoutes(app: FastifyInstance, context: ControllerContext): void {
  app.get(
    '/v1/status',
    routeOptions('any', { summary: 'Status of this controller', tag: 'status', answer: controllerStatusSchema }),
    (): ControllerStatus => {
      const { mirror } = context;
      return {
        version,
        epoch: mirror.epoch,
        revision: mirror.revision,
        store: mirror.isConnected ? 'ok' : 'unreachable',
        networks: mirror.tables.network.size,
        hosts: mirror.tables.host.size,
        endpoints: mirror.tables.endpoint.size,
      };
    },
  );
}
