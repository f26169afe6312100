import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { TsnetError } from '../core/errors.js';
import { parseHostName } from '../core/name.js';
import { isLocalPeer } from '../lib/http/listen.js';
import type { Mirror } from './mirror.js';
import { hostOfRole, ownRole, type TokenRole } from './store/tokens.js';
import type { Table } from './tables.js';
import { hashToken } from './token-files.js';

/** Who asks. A host that did not say its name has ''. */
export type Principal = { readonly kind: 'admin' } | { readonly kind: 'host'; readonly name: string };

/**
 * Who may call a route: `any` principal; `manage` = admin, or hosts while the cluster lets them manage networks;
 * `admin`; `host` = the host named by the route's `:host`, or admin on its behalf.
 */
export type Access = 'any' | 'manage' | 'admin' | 'host';

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access;
  }
  interface FastifyRequest {
    principal: Principal;
  }
}

export interface PrincipalOptions {
  readonly mirror: Mirror;
  /** Tokens of this controller's own files: good also while the store is away. */
  readonly tokens: Readonly<Record<TokenRole, string>>;
  readonly requireLoopbackToken: boolean;
  readonly hostsManageNetworks: () => boolean;
  /** Hosts need tokens of their own: the common one is good for nothing. */
  readonly ownHostTokens: boolean;
}

/** The header by which a caller says which host it is, on routes that do not name one. */
export const hostHeader = 'x-tsnet-host';

/** Finds out who asks, and refuses who may not; a route that does not say who may call it cannot be registered after this. */
export function authorize(app: FastifyInstance, options: PrincipalOptions): void {
  app.decorateRequest('principal');
  const own = { admin: hashToken(options.tokens.admin), host: hashToken(options.tokens.host) };
  const hashes = (role: TokenRole): string[] => [own[role], ...options.mirror.tables.token.group(role).keys()];
  app.addHook('onRoute', (route) => {
    if (route.config?.access === undefined)
      throw new TypeError(`${String(route.method)} ${route.url} does not say who may call it`);
  });
  app.addHook('onRequest', async (request) => {
    const access = request.routeOptions.config.access;
    if (access === undefined) return;
    request.principal = principalOf(request, options, hashes);
    checkAccess(request, access, options);
  });
}

function principalOf(
  request: FastifyRequest,
  options: PrincipalOptions,
  hashes: (role: TokenRole) => string[],
): Principal {
  const named = hostNameOf(request);
  const token = bearerToken(request);
  if (token !== undefined) {
    const hash = hashToken(token);
    if (isAmong(hash, hashes('admin')))
      return named.header === undefined ? { kind: 'admin' } : { kind: 'host', name: named.header };
    return hostPrincipal(hash, named.header ?? named.param, { ...options, shared: hashes('host') });
  }
  if (options.requireLoopbackToken || !isLocalPeer(request.raw.socket)) {
    throw new TsnetError('ERR_UNAUTHENTICATED', 'authorization: a token is needed');
  }
  refuseBrowsers(request.raw);
  return named.header === undefined ? { kind: 'admin' } : { kind: 'host', name: named.header };
}

/** A token of its own is good for one name; once a name has one, the common token is not good for it any more. */
function hostPrincipal(
  hash: string,
  name: string | undefined,
  known: Pick<PrincipalOptions, 'mirror' | 'ownHostTokens'> & { readonly shared: readonly string[] },
): Principal {
  const { token } = known.mirror.tables;
  const own = name === undefined ? [] : [...token.group(ownRole(name)).keys()];
  if (isAmong(hash, own)) return { kind: 'host', name: name ?? '' };
  const isShared = isAmong(hash, known.shared);
  if (isShared && own.length === 0 && !known.ownHostTokens) return { kind: 'host', name: name ?? '' };
  if (isShared) {
    const who = name === undefined ? 'hosts have tokens of their own' : `host "${name}" needs its own token`;
    throw new TsnetError('ERR_UNAUTHENTICATED', `authorization: ${who}, not the one that all hosts know`, {
      hint: 'Make one with `tsnet host token NAME`, as admin, and give it to the agent as its --token-file.',
    });
  }
  const owner = ownerOfToken(token, hash);
  if (owner === undefined) throw new TsnetError('ERR_UNAUTHENTICATED', 'authorization: this token is not known');
  if (name === undefined) return { kind: 'host', name: owner };
  throw new TsnetError('ERR_UNAUTHENTICATED', `authorization: this is the token of host "${owner}", not of "${name}"`, {
    hint: "Each agent needs its own host's token, and its own --host-name.",
  });
}

function ownerOfToken(tokens: Table<unknown>, hash: string): string | undefined {
  for (const group of tokens.groups()) {
    const host = hostOfRole(group);
    if (host !== undefined && tokens.get(group, hash) !== undefined) return host;
  }
  return undefined;
}

function checkAccess(request: FastifyRequest, access: Access, options: PrincipalOptions): void {
  const { principal } = request;
  if (access === 'any' || principal.kind === 'admin') return;
  const who = principal.name === '' ? 'a host' : `host:${principal.name}`;
  if (access === 'manage') {
    if (options.hostsManageNetworks()) return;
    throw new TsnetError(
      'ERR_FORBIDDEN',
      `${who} may not manage networks: the controller's setting hostsManageNetworks is off`,
    );
  }
  const { param } = hostNameOf(request);
  if (access === 'host' && param === principal.name) return;
  throw new TsnetError('ERR_FORBIDDEN', `${who} may not ${request.method} ${request.url}`);
}

function hostNameOf(request: FastifyRequest): { readonly header?: string; readonly param?: string } {
  const header = request.headers[hostHeader];
  const { host: param } = request.params as { readonly host?: string };
  return {
    ...(typeof header === 'string' ? { header: parseHostName(header, hostHeader) } : {}),
    ...(param === undefined ? {} : { param: parseHostName(param) }),
  };
}

function bearerToken(request: FastifyRequest): string | undefined {
  const header = request.headers.authorization;
  if (header === undefined) return undefined;
  const match = /^Bearer ([\x21-\x7e]{1,1024})$/.exec(header);
  if (match?.[1] === undefined) throw new TsnetError('ERR_UNAUTHENTICATED', 'authorization: must be "Bearer TOKEN"');
  return match[1];
}

function isAmong(hash: string, known: readonly string[]): boolean {
  const bytes = Buffer.from(hash);
  let found = false;
  for (const one of known) {
    const other = Buffer.from(one);
    if (other.length === bytes.length && timingSafeEqual(other, bytes)) found = true;
  }
  return found;
}

// A page in a browser on this machine reaches loopback too, under its own origin or a name that it had resolved to 127.0.0.1.
function refuseBrowsers(raw: IncomingMessage): void {
  const host = (raw.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  if (raw.headers.origin === undefined && (host === '' || host === 'localhost' || isIP(host) !== 0)) return;
  throw new TsnetError(
    'ERR_UNAUTHENTICATED',
    'authorization: a token is needed where a browser asks, or where Host is a name',
  );
}
