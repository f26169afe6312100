import type { PolicyAnswer, PolicyView } from '../../core/api/policy.js';
import type { LabelSelector } from '../../core/model.js';
import type { View } from './format.js';

function formatSelector({ matchLabels = {}, matchExpressions = [] }: LabelSelector): string {
  const conditions = [
    ...Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`),
    ...matchExpressions.map(({ key, operator, values = [] }) => `${key} ${operator} ${values.join('|')}`.trim()),
  ];
  return conditions.length === 0 ? '*' : conditions.join(',');
}

export const policyView: View<PolicyView> = {
  fields: ['name', 'networks', 'selects', 'ingress', 'egress', 'selected', 'warnings', 'createdAt', 'generation'],
  name: (policy) => policy.name,
  columns: [
    { title: 'NAME', cell: (policy) => policy.name },
    { title: 'NETWORKS', cell: (policy) => (policy.networks ?? ['*']).join(',') },
    { title: 'SELECTS', cell: (policy) => formatSelector(policy.selects) },
    { title: 'ENDPOINTS', cell: (policy) => policy.selected.toString() },
    { title: 'INGRESS', cell: (policy) => policy.ingress?.length.toString() ?? '-' },
    { title: 'EGRESS', cell: (policy) => policy.egress?.length.toString() ?? '-' },
    { title: 'WARNINGS', wide: true, cell: (policy) => policy.warnings.join('; ') },
    { title: 'CREATED', wide: true, cell: (policy) => policy.createdAt },
    { title: 'GENERATION', wide: true, cell: (policy) => policy.generation.toString() },
  ],
};

export const policyAnswerView: View<PolicyAnswer> = {
  fields: ['from', 'to', 'allowed', 'egress', 'ingress'],
  name: (answer) => `${answer.from} ${answer.to}`,
  columns: [
    { title: 'FROM', cell: (answer) => answer.from },
    { title: 'TO', cell: (answer) => answer.to },
    { title: 'ALLOWED', cell: (answer) => (answer.allowed ? 'yes' : 'no') },
    { title: 'EGRESS', cell: (answer) => answer.egress.reason },
    { title: 'INGRESS', cell: (answer) => answer.ingress.reason },
  ],
};
