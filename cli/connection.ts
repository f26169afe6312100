import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { TsnetError } from '../core/errors.js';
import type { CliContext } from './context.js';
import { callServer, type Server, type ServerCall } from './exchange.js';
import { collectList, parseServer } from './parse.js';

export const defaultAgentSocket = '/run/tsnet/agent.sock';
const defaultController = 'http://127.0.0.1:7420';

export interface ConnectionOptions {
  /** --controller, or TSNET_CONTROLLER. */
  readonly controller?: string | undefined;
  /** --token-file, or TSNET_TOKEN_FILE. */
  readonly tokenFile?: string | undefined;
}

/** Where calls go: to the agent, or to one of several equal controllers. */
export type Route =
  | { readonly to: 'agent'; readonly socket: string }
  | { readonly to: 'controllers'; readonly bases: readonly string[]; readonly why: string };

/**
 * Decides where cluster calls go: a controller that was named wins, then an agent whose socket was
 * named or is there, then the default controller.
 */
export function planRoute(
  cli: CliContext,
  options: ConnectionOptions,
  exists: (path: string) => boolean = existsSync,
): Route {
  if (options.controller !== undefined && options.controller !== '') {
    const bases = collectList(options.controller).map((base) => parseServer(base, cli.cwd));
    return { to: 'controllers', bases, why: '' };
  }
  const named = cli.env['TSNET_AGENT_SOCKET'] ?? '';
  if (named !== '' || exists(defaultAgentSocket)) return { to: 'agent', socket: agentSocket(cli) };
  return { to: 'controllers', bases: [defaultController], why: `; there is no agent at ${defaultAgentSocket} either` };
}

/** Where the agent of this host listens. */
export function agentSocket(cli: CliContext): string {
  const named = (cli.env['TSNET_AGENT_SOCKET'] ?? '').replace(/^unix:/, '');
  return named === '' ? defaultAgentSocket : resolve(cli.cwd, named);
}

/** The calls of one command. */
export class Connections {
  readonly #cli: CliContext;
  readonly #options: ConnectionOptions;

  constructor(cli: CliContext, options: ConnectionOptions) {
    this.#cli = cli;
    this.#options = options;
  }

  get route(): Route {
    return planRoute(this.#cli, this.#options);
  }

  /** A call about the cluster, wherever it is answered. */
  async cluster<T>(method: string, path: string, call: ServerCall = {}): Promise<T> {
    const { route } = this;
    if (route.to === 'agent') return this.agent<T>(method, path, call);
    const failed: string[] = [];
    for (const base of route.bases) {
      try {
        return await callServer<T>(this.#controller(base), { method, path }, call);
      } catch (error) {
        // Once a controller may have taken the request, another one must not get it again.
        if (!isUnreachable(error, 'ERR_CONTROLLER_UNREACHABLE')) throw error;
        failed.push(`${base} (${reasonOf(error)})`);
        if (!isRefusedAtConnect(error)) break;
      }
    }
    throw new TsnetError('ERR_CONTROLLER_UNREACHABLE', `no controller answers at ${failed.join(', ')}${route.why}`, {
      hint: 'Start a controller (`tsnet controller`) or an agent, or name a controller with --controller URL.',
    });
  }

  /** A call about this host. */
  async agent<T>(method: string, path: string, call: ServerCall = {}): Promise<T> {
    const socket = agentSocket(this.#cli);
    try {
      return await callServer<T>(
        { base: `unix:${socket}`, unreachable: 'ERR_AGENT_UNREACHABLE' },
        { method, path },
        call,
      );
    } catch (error) {
      if (!isUnreachable(error, 'ERR_AGENT_UNREACHABLE')) throw error;
      const reason = reasonOf(error);
      if (reason === reasons['EACCES'])
        throw new TsnetError('ERR_NOT_ROOT', `the agent's socket ${socket} is for root only`, { cause: error });
      throw new TsnetError('ERR_AGENT_UNREACHABLE', `no agent answers at ${socket} (${reason})`, { cause: error });
    }
  }

  /** The token is for controllers; the agent asks nothing of root. */
  #controller(base: string): Server {
    return { base, unreachable: 'ERR_CONTROLLER_UNREACHABLE', token: this.#readToken() };
  }

  #readToken(): string | undefined {
    const file = this.#options.tokenFile ?? '';
    if (file === '') return undefined;
    try {
      return readFileSync(resolve(this.#cli.cwd, file), 'utf8').trim();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new TsnetError('ERR_USAGE', `--token-file: ${reason}`, {
        cause,
        hint: 'Name a file that holds a token and that you may read.',
      });
    }
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'no such socket',
  ECONNREFUSED: 'connection refused',
  ENOTFOUND: 'no such host name',
  EAI_AGAIN: 'the host name cannot be looked up',
  EACCES: 'permission denied',
  ENAMETOOLONG: 'the path is too long for a socket',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no route to the network',
  ECONNRESET: 'the connection broke',
  ETIMEDOUT: 'no answer',
};

function isUnreachable(error: unknown, code: string): error is TsnetError {
  return error instanceof TsnetError && error.code === code;
}

function causeOf(error: TsnetError): NodeJS.ErrnoException {
  return error.cause instanceof Error ? error.cause : error;
}

function reasonOf(error: TsnetError): string {
  const cause = causeOf(error);
  return reasons[cause.code ?? ''] ?? cause.message;
}

/** Reports whether not one byte of the request can have arrived. */
function isRefusedAtConnect(error: TsnetError): boolean {
  const { syscall } = causeOf(error);
  return syscall === 'connect' || syscall === 'getaddrinfo';
}
