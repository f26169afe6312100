import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type {
  AttachRequest,
  ConnectRequest,
  DetachRequest,
  EndpointUpdate,
  StepRequest,
} from '../../core/api/attach.js';
import type { PortView } from '../../core/api/port.js';
import type { AgentStatus } from '../../core/api/status.js';
import type { Network } from '../../core/model.js';
import {
  attachRequestSchema,
  detachRequestSchema,
  detachResultSchema,
  endpointUpdateSchema,
  reserveRequestSchema,
  stepRequestSchema,
} from '../../core/schema/attach.js';
import { endpointViewSchema } from '../../core/schema/endpoint.js';
import { portViewSchema } from '../../core/schema/port.js';
import { agentStatusSchema } from '../../core/schema/status.js';
import { endpointView } from '../../core/view.js';
import { newHttpServer } from '../../lib/http/server.js';
import type { Logger } from '../../lib/log.js';
import type { Attachments } from '../attach/attachments.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { DnsFeed } from '../dns/feed.js';
import type { OwnFinder } from '../dns/own-finder.js';
import type { ResolvConfs } from '../dns/resolv-conf.js';
import { addDnsRoutes } from '../dns/routes.js';
import type { SandboxResolver } from '../dns/sandbox-resolver.js';
import type { Drainer } from '../services/drainer.js';
import type { Journal } from '../journal/journal.js';
import { addRelay, type RelayOptions } from './relay.js';

export interface LocalApiOptions extends RelayOptions {
  readonly log: Logger;
  readonly attachments: Attachments;
  readonly drainer: Drainer;
  readonly journal: Journal;
  /** Finds endpoints of this host by what people call them. */
  readonly finder: OwnFinder;
  readonly knownNetwork: (id: string) => Network | undefined;
  readonly status: () => AgentStatus;
  /** What this host publishes. */
  readonly ports: () => readonly PortView[];
  /** The name server of this host; null: there is none. */
  readonly dns?: DnsFeed | null;
  readonly resolver?: SandboxResolver | null;
  readonly resolvConfs: ResolvConfs;
}

/** The agent's interface on its unix socket: its own verbs, and the cluster's by relay. */
export function newLocalApi(options: LocalApiOptions): FastifyInstance {
  const app = newHttpServer({ log: options.log });
  const { attachments, journal } = options;
  const view = (own: OwnEndpoint) =>
    endpointView(own.record, options.knownNetwork(own.record.network)?.name ?? own.record.network);
  const endpoint = { response: { 200: endpointViewSchema } };

  app.get('/v1/agent/status', { schema: { response: { 200: agentStatusSchema } } }, () => options.status());
  app.get('/v1/agent/endpoints', () => [...journal.endpoints()].map(view));
  app.get('/v1/agent/ports', { schema: { response: { 200: Type.Array(portViewSchema) } } }, () => options.ports());
  app.post<{ Body: ConnectRequest }>(
    '/v1/agent/attach',
    { schema: { body: attachRequestSchema, ...endpoint } },
    async ({ body: { setDns = false, ...body } }) => {
      const attach = (): Promise<OwnEndpoint> => attachments.attach(body);
      if (!setDns) return view(await attach());
      const takeBack = ({ record }: OwnEndpoint): Promise<unknown> =>
        attachments.detach({ network: record.network, id: record.callerId, ifname: record.ifname });
      return view(await options.resolvConfs.attach(body, { attach, takeBack }));
    },
  );
  app.post<{ Body: DetachRequest }>(
    '/v1/agent/detach',
    { schema: { body: detachRequestSchema, response: { 200: detachResultSchema } } },
    async ({ body: { drainMs, ...body } }, reply) => {
      if (drainMs !== undefined) {
        const gone = new AbortController();
        reply.raw.once('close', () => gone.abort());
        await options.drainer.drain(await attachments.meantBy(body), { ms: drainMs, signal: gone.signal });
      }
      const detached = await attachments.detach(body);
      const left = await options.resolvConfs.leftOf(detached);
      return left.length === 0 ? { detached } : { detached, left };
    },
  );
  app.post<{ Body: Omit<AttachRequest, 'target'> }>(
    '/v1/agent/reserve',
    { schema: { body: reserveRequestSchema, ...endpoint } },
    async ({ body }) => view(await attachments.reserve(body)),
  );
  app.post<{ Body: StepRequest }>(
    '/v1/agent/link',
    { schema: { body: stepRequestSchema, ...endpoint } },
    async ({ body }) => view(await attachments.linkReserved(body)),
  );
  app.post<{ Body: StepRequest }>(
    '/v1/agent/configure',
    { schema: { body: stepRequestSchema, ...endpoint } },
    async ({ body }) => view(await attachments.configure(body)),
  );
  app.patch<{ Body: EndpointUpdate; Params: { ref: string } }>(
    '/v1/agent/endpoints/:ref',
    { schema: { body: endpointUpdateSchema, ...endpoint } },
    async ({ body, params }) => view(await attachments.update(params.ref, body)),
  );
  addDnsRoutes(app, {
    dns: options.dns ?? null,
    resolver: options.resolver ?? null,
    finder: options.finder,
    knownNetwork: options.knownNetwork,
  });
  addRelay(app, options);
  return app;
}
