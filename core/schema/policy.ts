import { Type } from 'typebox';
import type { PolicyAnswer, PolicyBody, PolicyQuestion, PolicyView } from '../api/policy.js';
import * as part from './part.js';
import { closed, orNull, shapeOf, text } from './part.js';
import * as policyRecord from './policy-record.js';

export const policyBodySchema = shapeOf<PolicyBody>()(policyRecord.policyBodySchema);

export const policyViewSchema = shapeOf<PolicyView>()(
  Type.Object(
    {
      ...policyRecord.policyBodySchema.properties,
      createdAt: part.timeText,
      generation: part.generation,
      selected: part.count('Endpoints selected now'),
      warnings: Type.Array(Type.String({ maxLength: 1024 }), { maxItems: 1000 }),
    },
    { ...closed, description: 'Policy' },
  ),
);

export const policyQuestionSchema = shapeOf<PolicyQuestion>()(
  Type.Object(
    {
      from: text('Name, id or address', 'web'),
      to: text('Name, id or address', '10.1.0.5'),
      protocol: Type.Enum(['tcp', 'udp', 'sctp', 'icmp'], { description: 'Protocol' }),
      port: part.count('Port; 0 for icmp', 65_535),
    },
    { ...closed, description: 'Which connection is asked about' },
  ),
);

const policyVerdict = Type.Object(
  {
    allowed: Type.Boolean(),
    policies: Type.Array(Type.String({ maxLength: 63 }), { maxItems: 10_000 }),
    rule: orNull(Type.String({ maxLength: 256 })),
    reason: Type.String({ maxLength: 1024 }),
  },
  closed,
);

export const policyAnswerSchema = shapeOf<PolicyAnswer>()(
  Type.Object(
    {
      from: part.addrText,
      to: part.addrText,
      allowed: Type.Boolean(),
      egress: policyVerdict,
      ingress: policyVerdict,
    },
    { ...closed, description: 'What policies say to one pair of addresses' },
  ),
);
