import type { Stored, Tables } from './tables.js';
import { encodeLine, putLine, type HeardKind } from './watch-lines.js';
import type { KindMap } from './tables.js';

/** All that a host with these interests knows, as one set. */
export function fullSet(
  tables: Tables,
  listener: { readonly host: string; readonly interest: ReadonlySet<string> },
  revision: number,
): readonly Buffer[] {
  const { host, interest } = listener;
  const blocks = [...tables.block.all()].filter(({ value }) => value.host === host);
  return framed('*', revision, [
    ...lines('settings', tables.settings.all()),
    ...lines('network', tables.network.all()),
    ...lines('policy', tables.policy.all()),
    ...lines('block', blocks),
    ...lines('carve', tables.carve.group(host).values()),
    ...[...interest].flatMap((network) => networkLines(tables, network)),
  ]);
}

/** All that there is in one network, as one set. */
export function networkSet(tables: Tables, network: string, revision: number): readonly Buffer[] {
  return framed(network, revision, networkLines(tables, network));
}

function networkLines(tables: Tables, network: string): Buffer[] {
  return [
    ...lines('carrier', tables.carrier.group(network).values()),
    ...lines('endpoint', tables.endpoint.group(network).values()),
    ...lines('service', tables.service.group(network).values()),
  ];
}

function lines<K extends HeardKind>(kind: K, records: Iterable<Stored<KindMap[K]>>): Buffer[] {
  return Array.from(records, (stored) => putLine(kind, stored));
}

function framed(scope: string, revision: number, records: readonly Buffer[]): readonly Buffer[] {
  return [encodeLine({ type: 'begin', scope, revision }), ...records, encodeLine({ type: 'end', scope, revision })];
}
