import type { FastifySchema } from 'fastify';
import { Type, type TSchema } from 'typebox';
import { errorBodySchema } from '../../core/schema/error.js';
import { hostName } from '../../core/schema/part.js';
import type { Access } from '../principal.js';

export interface RouteSchema {
  readonly summary: string;
  readonly tag: string;
  readonly params?: TSchema;
  readonly query?: TSchema;
  readonly body?: TSchema;
  /** Answer with 200; none means 204. */
  readonly answer?: TSchema;
}

/** What every route has: who may call it, and schemas of what goes in, comes out and goes wrong. */
export function routeOptions(
  access: Access,
  schema: RouteSchema,
): { readonly config: { readonly access: Access }; readonly schema: FastifySchema } {
  return {
    config: { access },
    schema: {
      summary: schema.summary,
      description: `Access: ${access}.`,
      tags: [schema.tag],
      ...(schema.params === undefined ? {} : { params: schema.params }),
      ...(schema.query === undefined ? {} : { querystring: schema.query }),
      ...(schema.body === undefined ? {} : { body: schema.body }),
      response: {
        ...(schema.answer === undefined ? { 204: Type.Null({ description: 'Done' }) } : { 200: schema.answer }),
        '4xx': errorBodySchema,
        '5xx': errorBodySchema,
      },
    } as FastifySchema,
  };
}

export const hostParams = Type.Object({ host: hostName });
