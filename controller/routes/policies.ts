import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { PolicyAnswer, PolicyQuestion, PolicyView } from '../../core/api/policy.js';
import { text } from '../../core/schema/part.js';
import { policyAnswerSchema, policyQuestionSchema, policyViewSchema } from '../../core/schema/policy.js';
import type { ControllerContext } from '../context.js';
import { createPolicy, explainPolicies, findPolicy, listPolicies, removePolicy, replacePolicy } from '../policies.js';
import { routeOptions } from './route.js';

const tag = 'policies';
const params = Type.Object({ name: text('Name of a policy', 'web-from-front', 63) });
/** Its parts are checked by core/policy/parse.ts, whose errors name the field. */
const body = Type.Object({}, { additionalProperties: true, description: 'A policy; see docs/policy.md' });

interface NameRoute {
  readonly Params: { readonly name: string };
}

export function policyRoutes(app: FastifyInstance, context: ControllerContext): void {
  app.get(
    '/v1/policies',
    routeOptions('any', { summary: 'List policies', tag, answer: Type.Array(policyViewSchema) }),
    (): readonly PolicyView[] => listPolicies(context),
  );
  app.post<{ Body: unknown }>(
    '/v1/policies',
    routeOptions('manage', { summary: 'Create a policy', tag, body, answer: policyViewSchema }),
    async (request) => createPolicy(context, request.body),
  );
  app.post<{ Body: PolicyQuestion }>(
    '/v1/policies/explain',
    routeOptions('any', {
      summary: 'Say which rule decides about a connection',
      tag,
      body: policyQuestionSchema,
      answer: Type.Array(policyAnswerSchema),
    }),
    (request): readonly PolicyAnswer[] => explainPolicies(context, request.body),
  );
  app.get<NameRoute>(
    '/v1/policies/:name',
    routeOptions('any', { summary: 'Inspect a policy', tag, params, answer: policyViewSchema }),
    (request): PolicyView => findPolicy(context, request.params.name),
  );
  app.put<NameRoute & { Body: unknown }>(
    '/v1/policies/:name',
    routeOptions('manage', { summary: 'Create or replace a policy', tag, params, body, answer: policyViewSchema }),
    async (request) => replacePolicy(context, request.params.name, request.body),
  );
  app.delete<NameRoute>(
    '/v1/policies/:name',
    routeOptions('manage', { summary: 'Remove a policy', tag, params }),
    async (request, reply) => {
      await removePolicy(context, request.params.name);
      return reply.code(204).send();
    },
  );
}
