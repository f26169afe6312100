import fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifySchema,
} from 'fastify';
import { TsnetError, type ErrorDetails } from '../../core/errors.js';
import type { Logger } from '../log.js';

export interface HttpServerOptions {
  readonly log: Logger;
  /** Largest request body, bytes. */
  readonly bodyLimitBytes?: number;
  /** Requests answered at one time, streams not counted; more get ERR_BUSY. */
  readonly maxRequests?: number;
}

/**
 * Makes an HTTP server that speaks JSON, checks requests strictly (nothing is coerced or dropped) and
 * answers every failure with an error body. `listenHttp` binds it.
 */
export function newHttpServer(options: HttpServerOptions): FastifyInstance {
  const app = fastify({
    loggerInstance: options.log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    // Nothing is logged of a request but its failure, which names it.
    childLoggerFactory: (logger) => logger,
    bodyLimit: options.bodyLimitBytes ?? 1024 * 1024,
    routerOptions: { maxParamLength: 300, ignoreTrailingSlash: false },
    ajv: {
      customOptions: {
        coerceTypes: false,
        removeAdditional: false,
        useDefaults: false,
        allErrors: false,
        verbose: true,
      },
    },
    forceCloseConnections: true,
    frameworkErrors: (error, _request, reply) => {
      const known = toRequestError(error);
      void (reply as unknown as FastifyReply).code(known.http).send(known.toBody());
    },
  });
  // Answers are ours, and typed: compiling a serialiser per answer would cost more than half of the start.
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));
  app.setErrorHandler((error: FastifyError | TsnetError, request, reply) => {
    const known = toRequestError(error);
    if (known.code === 'ERR_INTERNAL') {
      request.log.error({ err: error, method: request.method, path: request.url }, 'request failed');
      return reply.code(known.http).send(new TsnetError('ERR_INTERNAL', 'the request failed inside tsnet').toBody());
    }
    return reply.code(known.http).send(known.toBody());
  });
  app.setNotFoundHandler((request, reply) => {
    const error = new TsnetError('ERR_NOT_FOUND', `there is no ${request.method} ${request.url}`);
    return reply.code(error.http).send(error.toBody());
  });
  app.addHook('preValidation', (request, _reply, done) => {
    const { schema } = request.routeOptions;
    if (schema?.querystring !== undefined && request.query !== null && typeof request.query === 'object')
      readBooleans(request.query as Record<string, unknown>, schema);
    done();
  });
  boundRequests(app, options.maxRequests ?? 2000);
  return app;
}

function boundRequests(app: FastifyInstance, maxRequests: number): void {
  let current = 0;
  app.addHook('onRequest', (_request, reply, next) => {
    if (current >= maxRequests) {
      next(new TsnetError('ERR_BUSY', `${current} requests are being answered already`));
      return;
    }
    current += 1;
    let isCounted = true;
    const done = (): void => {
      if (isCounted) current -= 1;
      isCounted = false;
    };
    reply.raw.once('close', done);
    uncount.set(reply.raw, done);
    next();
  });
}

const uncount = new WeakMap<object, () => void>();

/** Takes a long-lived answer out of the count of requests. */
export function isStreaming(raw: object): void {
  uncount.get(raw)?.();
}

// A query string has no types; only what the schema calls a boolean is read as one.
function readBooleans(query: Record<string, unknown>, schema: FastifySchema): void {
  const described = schema.querystring as
    { readonly properties?: Record<string, { readonly type?: unknown }> } | undefined;
  for (const [name, property] of Object.entries(described?.properties ?? {})) {
    if (property.type !== 'boolean') continue;
    if (query[name] === 'true' || query[name] === '') query[name] = true;
    else if (query[name] === 'false') query[name] = false;
  }
}

/** Turns whatever a route or fastify threw into one of our errors; ERR_INTERNAL for what nobody foresaw. */
function toRequestError(error: FastifyError | TsnetError): TsnetError {
  if (error instanceof TsnetError) return error;
  const first = error.validation?.[0];
  if (first !== undefined) return validationError(first, error.validationContext ?? 'request');
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE')
    return new TsnetError('ERR_TOO_LARGE', 'the request body is too large', { cause: error });
  if (error.code === 'FST_ERR_CTP_INVALID_JSON_BODY')
    return new TsnetError('ERR_INVALID_REQUEST', 'request: the body is no JSON, or has a key that no field may have', {
      cause: error,
      hint: 'Send JSON without keys such as "__proto__" or "constructor".',
    });
  const status = error.statusCode ?? 500;
  if (status >= 400 && status < 500)
    return new TsnetError('ERR_INVALID_REQUEST', `request: ${error.message}`, { cause: error });
  return new TsnetError('ERR_INTERNAL', error.message, { cause: error });
}

interface Violation {
  readonly instancePath: string;
  readonly keyword: string;
  readonly params: Record<string, unknown>;
  readonly message?: string;
  readonly data?: unknown;
}

const maxShown = 100;

function validationError(violation: Violation, context: string): TsnetError {
  const path = violation.instancePath
    .split('/')
    .slice(1)
    .map((part) => (/^\d+$/.test(part) ? `[${part}]` : `.${part.replaceAll('~1', '/').replaceAll('~0', '~')}`))
    .join('')
    .replace(/^\./, '');
  const field = path === '' ? context : path;
  const extra = violation.params['additionalProperty'];
  if (typeof extra === 'string')
    return invalid(joinField(path, extra), `${joinField(path, extra)}: there is no such field`, extra);
  const missing = violation.params['missingProperty'];
  if (typeof missing === 'string')
    return invalid(joinField(path, missing), `${joinField(path, missing)}: is missing`, '');
  const allowed = violation.params['allowedValues'];
  const wanted = Array.isArray(allowed)
    ? `must be one of ${allowed.map(String).join(', ')}`
    : (violation.message ?? 'is not valid');
  const value = showValue(violation.data);
  return invalid(field, `${field}: ${value} ${wanted}`, value);
}

/** A value as it was sent, shortened. What is nested deeper than the stack reaches has no text. */
function showValue(value: unknown): string {
  let shown: string;
  try {
    shown = JSON.stringify(value) ?? 'nothing';
  } catch {
    shown = Array.isArray(value) ? '[…]' : '{…}';
  }
  return shown.length > maxShown ? `${shown.slice(0, maxShown)}…` : shown;
}

function joinField(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}

function invalid(field: string, message: string, value: string): TsnetError {
  const details: ErrorDetails = { field, value };
  return new TsnetError('ERR_INVALID_REQUEST', message, { details });
}
