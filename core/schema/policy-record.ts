import { Type } from 'typebox';
import type { LabelRequirement, LabelSelector, Policy, PolicyPeer, PolicyPort, PolicyRule } from '../model.js';
import * as part from './part.js';
import { closed, shapeOf, text } from './part.js';

const labelRequirementSchema = shapeOf<LabelRequirement>()(
  Type.Object(
    {
      key: text('Key of a label', 'tier'),
      operator: Type.Enum(['In', 'NotIn', 'Exists', 'DoesNotExist'], { description: 'Condition' }),
      values: Type.Optional(Type.Array(Type.String({ maxLength: 256 }), { maxItems: 256 })),
    },
    { ...closed, description: 'A condition on one label' },
  ),
);

export const labelSelectorSchema = shapeOf<LabelSelector>()(
  Type.Object(
    {
      matchLabels: Type.Optional(part.labels),
      matchExpressions: Type.Optional(Type.Array(labelRequirementSchema, { maxItems: 64 })),
    },
    { ...closed, description: 'Which labels; empty: all' },
  ),
);

const networkRefs = Type.Array(part.networkRef, { maxItems: 256, description: 'Names or ids of networks' });

const policyPeerSchema = shapeOf<PolicyPeer>()(
  Type.Object(
    {
      endpoints: Type.Optional(labelSelectorSchema),
      networks: Type.Optional(networkRefs),
      cidr: Type.Optional(part.cidrText),
      except: Type.Optional(Type.Array(part.cidrText, { maxItems: 256 })),
    },
    { ...closed, description: 'The other end of a permitted connection' },
  ),
);

const policyPortSchema = shapeOf<PolicyPort>()(
  Type.Object(
    {
      protocol: Type.Optional(Type.Enum(['tcp', 'udp', 'sctp', 'icmp'], { description: 'Protocol' })),
      port: Type.Optional(part.port),
      endPort: Type.Optional(part.port),
    },
    { ...closed, description: 'A port, a range, or all of a protocol' },
  ),
);

export const policyRuleSchema = shapeOf<PolicyRule>()(
  Type.Object(
    {
      peers: Type.Optional(Type.Array(policyPeerSchema, { maxItems: 256 })),
      ports: Type.Optional(Type.Array(policyPortSchema, { maxItems: 1024 })),
    },
    { ...closed, description: 'Connections that are permitted' },
  ),
);

export const policyBodySchema = Type.Object(
  {
    name: text('Name of a policy', 'web-from-front', 63),
    networks: Type.Optional(networkRefs),
    selects: labelSelectorSchema,
    ingress: Type.Optional(Type.Array(policyRuleSchema, { maxItems: 256 })),
    egress: Type.Optional(Type.Array(policyRuleSchema, { maxItems: 256 })),
  },
  { ...closed, description: 'A policy', examples: [{ name: 'deny-all', selects: {}, ingress: [] }] },
);

export const policySchema = shapeOf<Policy>()(
  Type.Object(
    { ...part.recordBase, ...policyBodySchema.properties, createdAt: part.timeText },
    { ...closed, description: 'Policy record' },
  ),
);
