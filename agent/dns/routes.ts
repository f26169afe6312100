import type { FastifyInstance } from 'fastify';
import type { DnsNameView, DnsQueryRequest, DnsQueryView, ResolverView } from '../../core/api/dns.js';
import type { EndpointDetails } from '../../core/api/endpoint.js';
import { addressOfReverse } from '../../core/dns/names.js';
import { TsnetError } from '../../core/errors.js';
import type { Network } from '../../core/model.js';
import { dnsQueryRequestSchema } from '../../core/schema/dns.js';
import { endpointView } from '../../core/view.js';
import { formatType, parseType } from '../../lib/dns/constants.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { DnsFeed } from './feed.js';
import type { OwnFinder } from './own-finder.js';
import type { SandboxResolver } from './sandbox-resolver.js';

export interface DnsRoutesOptions {
  readonly dns: DnsFeed | null;
  readonly resolver: SandboxResolver | null;
  readonly finder: OwnFinder;
  readonly knownNetwork: (id: string) => Network | undefined;
}

/** Adds what people and the CLI ask about names. */
export function addDnsRoutes(app: FastifyInstance, options: DnsRoutesOptions): void {
  const { finder, knownNetwork } = options;
  const need = <T>(part: T | null): T => {
    if (part !== null) return part;
    throw new TsnetError('ERR_DNS_UNAVAILABLE', 'the agent of this host runs without a name server (--no-dns)');
  };
  app.post<{ Body: DnsQueryRequest }>(
    '/v1/agent/dns/query',
    { schema: { body: dnsQueryRequestSchema } },
    async ({ body }): Promise<DnsQueryView> => {
      const { name, from } = body;
      const type = body.type === undefined ? undefined : readType(body.type);
      const asker = from === undefined ? null : (await finder.find(from)).record.id;
      const isReverse = addressOfReverse(name.toLowerCase().replace(/\.$/, '')) !== null;
      const types = type === undefined ? (isReverse ? ['PTR'] : ['A', 'AAAA']) : [type];
      const answers = [];
      for (const each of types) answers.push(await need(options.dns).ask(name, each, asker));
      const first = answers.find(({ status }) => status === 'NOERROR') ?? answers[0];
      return {
        name,
        status: first?.status ?? 'SERVFAIL',
        reason: first?.reason ?? '',
        records: answers.flatMap(({ status, records }) =>
          status === 'NOERROR' || first?.status !== 'NOERROR' ? records : [],
        ),
      };
    },
  );

  app.get('/v1/agent/dns', async (): Promise<readonly DnsNameView[]> => need(options.dns).list());

  const resolverOf = (own: OwnEndpoint): ResolverView => {
    const resolver = need(options.resolver);
    const ids = own.cookie === null ? [own.record.network] : resolver.networksOfSandbox(own.cookie);
    return resolver.ofNetworks(ids.flatMap((id) => knownNetwork(id) ?? []));
  };
  app.get<{ Querystring: { readonly target?: string } }>('/v1/agent/resolver', async ({ query }) =>
    resolverOf(await finder.find(query.target ?? '')),
  );

  app.get<{ Params: { readonly ref: string } }>(
    '/v1/agent/endpoints/:ref',
    async ({ params }): Promise<EndpointDetails> => {
      const own = await finder.find(params.ref);
      const view = endpointView(own.record, knownNetwork(own.record.network)?.name ?? own.record.network);
      if (options.resolver === null) return view;
      const { nameservers, search, options: words } = resolverOf(own);
      return { ...view, resolver: { nameservers, search, options: words } };
    },
  );
}

function readType(text: string): string {
  const type = parseType(text);
  if (type !== null) return formatType(type);
  throw new TsnetError('ERR_INVALID_REQUEST', `type "${text}" is no record type`, { details: { value: text } });
}
