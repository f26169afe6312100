import {
  compareLinks,
  isAsDesired,
  isLink,
  linkNameOf,
  rankOf,
  type ObservedObject,
  type ReconcileObject,
} from './object.js';

/** One step towards the desired state. */
export type Operation =
  | { readonly verb: 'add'; readonly key: string; readonly object: ReconcileObject }
  | { readonly verb: 'change'; readonly key: string; readonly object: ReconcileObject; readonly was: ObservedObject }
  | {
      readonly verb: 'remove';
      readonly key: string;
      readonly object: ReconcileObject;
      /** Why a link that is desired has to go before it can be made again. */
      readonly reason?: string;
    };

/** `deleting`: its removal is under way; its name and VNI are not free yet. */
export type LinkState = 'ours' | 'foreign' | 'absent' | 'deleting';

export interface PlanInput {
  readonly desired: ReadonlyMap<string, ReconcileObject>;
  readonly observed: ReadonlyMap<string, ObservedObject>;
  readonly linkState: (name: string) => LinkState;
}

export interface Plan {
  /** In the order in which they are to be done. */
  readonly operations: readonly Operation[];
  /** Keys that can only be looked at again when something about the link named changes. */
  readonly blocked: ReadonlyMap<string, string>;
  /** Keys whose link is there under our name without our mark. */
  readonly conflicts: ReadonlyMap<string, string>;
}

/**
 * Decides what takes the observed state of some keys to the desired one.
 *
 * What is missing or different is set first, bottom-up (links, ports, addresses, routes, neighbours,
 * forwarding entries), then what is too much is removed in the reverse order: so a moved endpoint is
 * never without an entry. Only what stands in the way goes first: a route to the destination of a new
 * one, and a link that must be made anew, which takes a second plan once it is gone. Objects on a link
 * that goes are not removed one by one.
 */
export function planOperations(input: PlanInput, keys: Iterable<string>): Plan {
  const sets: Operation[] = [];
  const removals: Operation[] = [];
  const blocked = new Map<string, string>();
  const conflicts = new Map<string, string>();
  const links = new LinkOutlook(input);
  const rest: string[] = [];
  for (const key of keys) {
    const object = input.desired.get(key) ?? input.observed.get(key);
    if (object === undefined) continue;
    if (!isLink(object)) rest.push(key);
    else planLink(key, input, { sets, removals, blocked, conflicts, links });
  }
  for (const key of rest) planOnLink(key, input, { sets, removals, blocked, conflicts, links });
  sets.sort((a, b) => rankOf(a.object) - rankOf(b.object));
  removals.sort((a, b) => rankOf(b.object) - rankOf(a.object));
  const [before, after] = splitObstacles(sets, removals);
  return { operations: [...before, ...sets, ...after], blocked, conflicts };
}

interface Draft {
  readonly sets: Operation[];
  readonly removals: Operation[];
  readonly blocked: Map<string, string>;
  readonly conflicts: Map<string, string>;
  readonly links: LinkOutlook;
}

/** What will be there of links once the plan's own link operations are done. */
class LinkOutlook {
  readonly added = new Set<string>();
  readonly removed = new Set<string>();
  #routes: (readonly [string, ObservedObject])[] | undefined;

  constructor(private readonly input: PlanInput) {}

  state(name: string): LinkState {
    if (this.removed.has(name)) return 'deleting';
    return this.added.has(name) ? 'ours' : this.input.linkState(name);
  }

  /** Routes to a destination that are there now, by key. */
  routesTo(dst: string): readonly (readonly [string, ObservedObject])[] {
    this.#routes ??= [...this.input.observed].filter(([, { kind }]) => kind === 'route');
    return this.#routes.filter(([, object]) => object.kind === 'route' && object.dst === dst);
  }

  /** The link that holds a VNI which is not free yet. */
  vniHolder(vni: number, but: string): string | null {
    for (const object of this.input.observed.values()) {
      if (object.kind === 'vxlan' && object.vni === vni && object.name !== but) return object.name;
    }
    return null;
  }
}

function planLink(key: string, input: PlanInput, draft: Draft): void {
  const desired = input.desired.get(key);
  const observed = input.observed.get(key);
  if (desired === undefined || !isLink(desired)) {
    if (observed === undefined || input.linkState(linkNameOf(observed)) !== 'ours') return;
    draft.removals.push({ verb: 'remove', key, object: observed });
    draft.links.removed.add(linkNameOf(observed));
    return;
  }
  const state = input.linkState(desired.name);
  if (state === 'foreign') {
    draft.conflicts.set(key, desired.name);
  } else if (state === 'deleting') {
    draft.blocked.set(key, desired.name);
  } else if (observed === undefined && state === 'ours') {
    draft.conflicts.set(key, desired.name);
  } else if (observed === undefined) {
    const holder = desired.kind === 'vxlan' ? draft.links.vniHolder(desired.vni, desired.name) : null;
    if (holder !== null) {
      draft.blocked.set(key, holder);
    } else {
      draft.sets.push({ verb: 'add', key, object: desired });
      draft.links.added.add(desired.name);
    }
  } else {
    const difference = compareLinks(desired, observed);
    if (difference === null) return;
    if ('change' in difference) {
      draft.sets.push({ verb: 'change', key, object: desired, was: observed });
    } else {
      draft.removals.push({ verb: 'remove', key, object: observed, reason: difference.recreate });
      draft.blocked.set(key, desired.name);
      draft.links.removed.add(desired.name);
    }
  }
}

function planOnLink(key: string, input: PlanInput, draft: Draft): void {
  const desired = input.desired.get(key);
  const observed = input.observed.get(key);
  if (desired === undefined) {
    // A port goes with its link: taking it out of the bridge first would only cost time.
    if (observed === undefined || observed.kind === 'up' || observed.kind === 'port') return;
    const isTaken = observed.kind === 'route' && draft.removals.some((removal) => removal.key === key);
    if (draft.links.state(linkNameOf(observed)) === 'ours' && !isTaken) {
      draft.removals.push({ verb: 'remove', key, object: observed });
    }
    return;
  }
  const needed = desired.kind === 'port' ? [desired.link, desired.master] : [linkNameOf(desired)];
  for (const link of needed) {
    const state = draft.links.state(link);
    if (state === 'ours') continue;
    if (state === 'foreign') draft.conflicts.set(key, link);
    else draft.blocked.set(key, link);
    return;
  }
  if (desired.kind === 'route' && observed === undefined) clearWay(desired.dst, input, draft);
  const fresh = draft.links.added.has(linkNameOf(desired));
  if (observed === undefined || fresh) draft.sets.push({ verb: 'add', key, object: desired });
  else if (!isAsDesired(desired, observed)) draft.sets.push({ verb: 'change', key, object: desired, was: observed });
}

/**
 * Takes away the routes to a destination that nobody wants any more. The link that one leads to may be on
 * its way out already, but until it is gone the kernel takes no other route to that destination.
 */
function clearWay(dst: string, input: PlanInput, draft: Draft): void {
  for (const [key, object] of draft.links.routesTo(dst)) {
    if (!input.desired.has(key) && !draft.removals.some((removal) => removal.key === key)) {
      draft.removals.push({ verb: 'remove', key, object });
    }
  }
}

/** Takes out of the removals what an addition would collide with. */
function splitObstacles(sets: readonly Operation[], removals: readonly Operation[]): [Operation[], Operation[]] {
  const added = new Set(
    sets.flatMap(({ verb, object }) => (verb === 'add' && object.kind === 'route' ? [object.dst] : [])),
  );
  const isObstacle = ({ object }: Operation): boolean => object.kind === 'route' && added.has(object.dst);
  return [removals.filter(isObstacle), removals.filter((operation) => !isObstacle(operation))];
}
