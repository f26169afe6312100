import type { Entry, WatchLine } from '../core/api/watch.js';
import type { Change, Kind, KindMap, Stored } from './tables.js';

/** Kinds that hosts hear of. */
export type HeardKind = Entry['kind'];

const heardKinds: ReadonlySet<Kind> = new Set<Kind>([
  'network',
  'carrier',
  'endpoint',
  'block',
  'carve',
  'settings',
  'policy',
  'service',
]);

export function isHeard(kind: Kind): kind is HeardKind {
  return heardKinds.has(kind);
}

export function encodeLine(line: WatchLine): Buffer {
  return Buffer.from(`${JSON.stringify(line)}\n`);
}

/** A record's line: made once, however many hear it. */
export function putLine(kind: HeardKind, stored: Stored<KindMap[HeardKind]>): Buffer {
  stored.line ??= encodeLine({ type: 'put', revision: stored.modRevision, kind, value: stored.value } as WatchLine);
  return stored.line;
}

/** The line that a change means to those who hear the record. */
export function changeLine(change: Change & { readonly kind: HeardKind }): Buffer {
  if (change.after !== undefined) return putLine(change.kind, change.after);
  change.line ??= goneLine(change);
  return change.line;
}

/** The line that says that a record is gone, or is no longer this host's to know. */
export function goneLine(change: Change & { readonly kind: HeardKind }): Buffer {
  const { before, after, revision, kind } = change;
  const generation = (after ?? before)?.value.generation ?? 0;
  return encodeLine({ type: 'gone', revision, kind, ...identityOf(change), generation });
}

function identityOf(change: Change): { readonly network: string; readonly id: string } {
  const stored = change.after ?? change.before;
  if (stored === undefined) return { network: '', id: '' };
  switch (change.kind) {
    case 'network': {
      const { id } = stored.value as KindMap['network'];
      return { network: id, id };
    }
    case 'policy':
      return { network: '', id: (stored.value as KindMap['policy']).name };
    case 'service': {
      const { network, name } = stored.value as KindMap['service'];
      return { network, id: name };
    }
    case 'carrier': {
      const { network, host } = stored.value as KindMap['carrier'];
      return { network, id: host };
    }
    case 'block': {
      const { network, cidr } = stored.value as KindMap['block'];
      return { network, id: cidr };
    }
    case 'endpoint':
    case 'carve': {
      const { network, id } = stored.value as KindMap['endpoint'] | KindMap['carve'];
      return { network, id };
    }
    default:
      return { network: '', id: '' };
  }
}
