/**
 * Identifiers and the names made of them. Randomness is handed in as bytes, so that tests and
 * replays get the same ids.
 */

/** Random bytes that each kind of id takes; text is twice as long. */
export const idBytes = { network: 4, endpoint: 8, carve: 8, stream: 8, epoch: 16, instance: 16 } as const;

export type IdKind = keyof typeof idBytes;

/** Makes an id of the first bytes of some random ones. Errors: RangeError when there are too few. */
export function formatId(kind: IdKind, random: Uint8Array): string {
  const count = idBytes[kind];
  if (random.length < count) throw new RangeError(`${kind} id: needs ${count} random bytes, has ${random.length}`);
  return Array.from(random.subarray(0, count), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Reports whether a text has the shape of an id of this kind: lower-case hexadecimal digits of its length. */
export function isId(kind: IdKind, text: string): boolean {
  return text.length === idBytes[kind] * 2 && /^[0-9a-f]+$/.test(text);
}

/** The name of a network's bridge on every host. */
export function bridgeName(networkId: string): string {
  return `tsb-${networkId}`;
}

/** The name of a network's VXLAN device on every host. */
export function vxlanName(networkId: string): string {
  return `tsx-${networkId}`;
}

/** The name of the link by which a host reaches its own macvlan endpoints of a network. */
export function macvlanShimName(networkId: string): string {
  return `tsm-${networkId}`;
}

/**
 * The name of the host's end of an endpoint's veth pair: 40 bits of the id, since a link name has 15
 * bytes. Two endpoints of one host that agree in them make the second attach fail with
 * ERR_LINK_CONFLICT; the odds for 1000 endpoints are 1 in 2 million.
 */
export function vethName(endpointId: string): string {
  return `tsv-${endpointId.slice(0, 10)}`;
}

/**
 * The name of the sandbox's end while it waits in the host namespace for its caller to move it; see the
 * link step without a target.
 */
export function waitingName(endpointId: string): string {
  return `tsp-${endpointId.slice(0, 10)}`;
}

/** The name of a sandbox's interface that is about to be deleted, so that its own name is free already. */
export function asideName(endpointId: string): string {
  return `tsd-${endpointId.slice(0, 10)}`;
}

/**
 * What a link of ours is. `veth` is the host's end and `peer` the sandbox's; `macvlan` is an endpoint's
 * link, `shim` the host's own link beside them.
 */
export type LinkKind = 'bridge' | 'vxlan' | 'veth' | 'peer' | 'macvlan' | 'shim';

/** Which record a link belongs to: its kind and the id of a network or endpoint. */
export interface LinkMark {
  readonly kind: LinkKind;
  readonly id: string;
}

const markedBy: Readonly<Record<LinkKind, IdKind>> = {
  bridge: 'network',
  vxlan: 'network',
  shim: 'network',
  veth: 'endpoint',
  peer: 'endpoint',
  macvlan: 'endpoint',
};

const isLinkKind = (text: string): text is LinkKind => Object.hasOwn(markedBy, text);

/**
 * The alias that marks a link as ours and says what it is for.
 *
 * Equivalent to: the TEXT of `ip link set dev NAME alias TEXT`
 */
export function markOf(kind: LinkKind, id: string): string {
  return `tsnet:${kind}:${id}`;
}

/** Reads a link's alias; null for every link that is not ours. */
export function parseMark(alias: string | null | undefined): LinkMark | null {
  const [owner, kind, id, ...rest] = (alias ?? '').split(':');
  if (owner !== 'tsnet' || kind === undefined || id === undefined || rest.length > 0) return null;
  return isLinkKind(kind) && isId(markedBy[kind], id) ? { kind, id } : null;
}
