import type { Change } from './tables.js';
import { changeLine, goneLine, isHeard, type HeardKind } from './watch-lines.js';

/** A change of a record that hosts hear of. */
export type HeardChange = Change & { readonly kind: HeardKind };

/** Who hears of a change: every host, those interested in a network, or the hosts named. */
export type Audience =
  | { readonly of: 'all' }
  | { readonly of: 'network'; readonly network: string }
  | { readonly of: 'hosts'; readonly hosts: ReadonlySet<string> };

export function isHeardChange(change: Change): change is HeardChange {
  return isHeard(change.kind);
}

/**
 * Networks, policies and settings concern all; carriers, endpoints and services those interested in their network; blocks
 * and carves their host, and the one that had them before.
 */
export function audienceOf(change: HeardChange): Audience {
  switch (change.kind) {
    case 'network':
    case 'policy':
    case 'settings':
      return { of: 'all' };
    case 'carrier':
    case 'endpoint':
    case 'service':
      return { of: 'network', network: (change.after ?? change.before)?.value.network ?? '' };
    case 'block':
      return { of: 'hosts', hosts: namesOf([change.before?.value.host, change.after?.value.host]) };
    case 'carve':
      return { of: 'hosts', hosts: namesOf([change.before?.value.owner, change.after?.value.owner]) };
  }
}

/** What a change means to one host: a block that has gone to another host is gone for the one that had it. */
export function lineFor(host: string, change: HeardChange): Buffer {
  const isLost = change.kind === 'block' && change.after !== undefined && change.after.value.host !== host;
  return isLost ? goneLine(change) : changeLine(change);
}

/** The lines of past changes for a host with these interests. */
export function linesFor(
  listener: { readonly host: string; readonly interest: ReadonlySet<string> },
  changes: readonly Change[],
): readonly Buffer[] {
  const { host, interest } = listener;
  return changes.filter(isHeardChange).flatMap((change) => {
    const audience = audienceOf(change);
    if (audience.of === 'network' && !interest.has(audience.network)) return [];
    if (audience.of === 'hosts' && !audience.hosts.has(host)) return [];
    return [lineFor(host, change)];
  });
}

function namesOf(hosts: readonly (string | null | undefined)[]): ReadonlySet<string> {
  return new Set(hosts.filter((host) => host !== null && host !== undefined));
}
