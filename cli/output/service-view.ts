import type { ServiceView } from '../../core/api/service.js';
import type { View } from './format.js';

function formatHealth({ health }: ServiceView): string {
  if (health === undefined) return '-';
  return health.type === 'tcp' ? 'tcp' : `http:${health.path ?? '/'}`;
}

function formatSelection({ selector, backends = [] }: ServiceView): string {
  if (selector === undefined) return backends.join(',');
  return Object.entries(selector)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}

export const serviceView: View<ServiceView> = {
  fields: [
    'name',
    'network',
    'mode',
    'addresses',
    'ports',
    'selector',
    'backends',
    'affinity',
    'health',
    'publish',
    'held',
    'drainMs',
    'endpoints',
    'createdAt',
    'generation',
  ],
  name: ({ name, network }) => `${name}.${network}`,
  columns: [
    { title: 'NAME', cell: ({ name }) => name },
    { title: 'NETWORK', cell: ({ network }) => network },
    { title: 'MODE', cell: ({ mode }) => mode },
    { title: 'ADDRESSES', cell: ({ addresses }) => addresses.join(',') },
    {
      title: 'PORTS',
      cell: ({ ports }) =>
        ports
          .map(({ port, target, protocol }) => `${port}${target === port ? '' : `:${target}`}/${protocol}`)
          .join(','),
    },
    { title: 'BACKENDS', wide: true, cell: formatSelection },
    {
      title: 'READY',
      cell: ({ endpoints }) => `${endpoints.filter(({ state }) => state === 'ready').length}/${endpoints.length}`,
    },
    { title: 'AFFINITY', wide: true, cell: ({ affinity }) => affinity },
    { title: 'HEALTH', wide: true, cell: formatHealth },
    {
      title: 'PUBLISHED',
      wide: true,
      cell: ({ publish = [] }) =>
        publish.map(({ hostPort, port, protocol }) => `${hostPort}:${port}/${protocol}`).join(','),
    },
    {
      title: 'HELD',
      wide: true,
      cell: ({ held = [] }) => held.map(({ host, hostPort, protocol }) => `${hostPort}/${protocol}@${host}`).join(','),
    },
    {
      title: 'STATES',
      wide: true,
      cell: ({ endpoints }) =>
        endpoints.map(({ endpoint, name, host, state }) => `${name ?? endpoint}@${host}=${state}`).join(','),
    },
    { title: 'CREATED', wide: true, cell: ({ createdAt }) => createdAt },
  ],
};
