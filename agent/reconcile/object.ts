import {
  floodMac,
  objectKey,
  type BridgeLink,
  type KernelLink,
  type KernelObject,
  type MacvlanLink,
  type VxlanLink,
} from '../../core/kernel.js';
import { formatObject } from '../../core/kernel-text.js';

/** That a link is up: follows from every link and port that is asked for, and comes after a port's settings. */
export interface LinkUp {
  readonly kind: 'up';
  readonly link: string;
}

export type ReconcileObject = KernelObject | LinkUp;

/** A link as dumped, with what deviates in settings that desired links do not spell out. */
export type ObservedObject = ReconcileObject & { readonly deviation?: string };

/** Identity of an object among all that is reconciled. */
export function keyOf(object: ReconcileObject): string {
  return object.kind === 'up' ? `up ${object.link}` : objectKey(object);
}

/** An object in words, for logs. */
export function formatReconcileObject(object: ReconcileObject): string {
  return object.kind === 'up' ? `ip link set dev ${object.link} up` : formatObject(object);
}

/** Reports whether an object is a link itself. */
export function isLink(object: ReconcileObject): object is KernelLink {
  return object.kind === 'bridge' || object.kind === 'vxlan' || object.kind === 'macvlan';
}

/** The link that an object is, or is on: when that goes, the object goes. */
export function linkNameOf(object: ReconcileObject): string {
  return isLink(object) ? object.name : object.link;
}

/** What a desired object brings with it. */
export function withImplied(object: KernelObject): ReconcileObject[] {
  if (isLink(object)) return [object, { kind: 'up', link: object.name }];
  if (object.kind === 'port') return [object, { kind: 'up', link: object.link }];
  return [object];
}

/** The order in which objects are made; they are removed in the reverse. */
export function rankOf(object: ReconcileObject): number {
  switch (object.kind) {
    case 'bridge':
      return 0;
    case 'vxlan':
    case 'macvlan':
      return 1;
    case 'port':
      return 2;
    case 'up':
      return 3;
    case 'addr':
      return 4;
    case 'route':
      return 5;
    case 'neigh':
      return 6;
    case 'fdb-port':
      return 7;
    case 'fdb-vtep':
      return object.mac === floodMac ? 9 : 8;
  }
}

/**
 * Compares two versions of one link: what only a new link can have (the reason, in words), what can
 * be changed on the one that is there, or nothing.
 */
export function compareLinks(
  desired: KernelLink,
  observed: ObservedObject,
): { readonly recreate: string } | { readonly change: string } | null {
  const recreate = recreateReason(desired, observed);
  if (recreate !== null) return { recreate };
  const { deviation } = observed;
  if (deviation !== undefined) return desired.kind === 'vxlan' ? { recreate: deviation } : { change: deviation };
  if (!isLink(observed)) return null;
  if (desired.mac !== observed.mac) return { change: `address is ${observed.mac}` };
  if (desired.mtu !== observed.mtu) return { change: `mtu is ${observed.mtu}` };
  if (desired.alias !== observed.alias) return { change: `alias is ${observed.alias}` };
  if (desired.kind === 'bridge' && observed.kind === 'bridge' && isFiltered(desired) !== isFiltered(observed))
    return { change: `nf_call_iptables is ${isFiltered(observed) ? 'on' : 'off'}` };
  return null;
}

function isFiltered({ filtered = false }: BridgeLink): boolean {
  return filtered;
}

function recreateReason(desired: KernelLink, observed: ReconcileObject): string | null {
  if (desired.kind === 'bridge') return observed.kind === 'bridge' ? null : `it is a ${observed.kind}`;
  if (desired.kind === 'vxlan') {
    if (observed.kind !== 'vxlan') return `it is a ${observed.kind}`;
    return differences<VxlanLink>(desired, observed, ['vni', 'local', 'port']);
  }
  if (observed.kind !== 'macvlan') return `it is a ${observed.kind}`;
  return differences<MacvlanLink>(desired, observed, ['parent', 'mode']);
}

function differences<T extends Exclude<KernelLink, BridgeLink>>(
  desired: T,
  observed: T,
  keys: readonly (keyof T)[],
): string | null {
  const found = keys.filter((key) => desired[key] !== observed[key]);
  if (found.length === 0) return null;
  return found.map((key) => `${String(key)} is ${String(observed[key])}, not ${String(desired[key])}`).join('; ');
}

/** Reports whether an observed object is what is desired. Both have the same key. */
export function isAsDesired(desired: ReconcileObject, observed: ObservedObject): boolean {
  switch (desired.kind) {
    case 'bridge':
    case 'vxlan':
    case 'macvlan':
      return compareLinks(desired, observed) === null;
    case 'up':
      return observed.kind === 'up';
    case 'port':
      return (
        observed.kind === 'port' &&
        desired.master === observed.master &&
        desired.learning === observed.learning &&
        desired.neighSuppress === observed.neighSuppress &&
        (desired.hairpin ?? false) === (observed.hairpin ?? false)
      );
    case 'addr':
      return observed.kind === 'addr' && desired.deprecated === observed.deprecated && observed.deviation === undefined;
    case 'route':
      return observed.kind === 'route' && desired.source === observed.source;
    case 'neigh':
      return observed.kind === 'neigh' && desired.mac === observed.mac;
    case 'fdb-port':
      return observed.kind === 'fdb-port';
    case 'fdb-vtep':
      return observed.kind === 'fdb-vtep' && desired.vtep === observed.vtep;
  }
}

/** Reports whether two desired objects with one key are equal, links' changeable settings included. */
export function isSameDesired(a: ReconcileObject, b: ReconcileObject): boolean {
  if (a === b) return true;
  return isAsDesired(a, b) && (a.kind !== 'vxlan' || b.kind !== 'vxlan' || a.master === b.master);
}
