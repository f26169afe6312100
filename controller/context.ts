import { randomBytes } from 'node:crypto';
import { TsnetError } from '../core/errors.js';
import { formatId, idBytes, type IdKind } from '../core/ids.js';
import type { ClusterSettings, Network } from '../core/model.js';
import type { SubnetPool } from '../core/subnets.js';
import type { EtcdClient } from '../lib/etcd/client.js';
import type { LeaseKeeper } from '../lib/etcd/lease.js';
import { transact, type Txn } from '../lib/etcd/txn.js';
import type { Logger } from '../lib/log.js';
import { KeyedQueue } from '../lib/sync/keyed-queue.js';
import type { Mirror } from './mirror.js';
import type { ControllerOptions } from './options.js';
import { getNetwork, getNetworkIdByName } from './store/networks.js';
import type { WatchHub } from './watch-hub.js';

/** What the use cases work with. */
export interface ControllerContext {
  readonly options: ControllerOptions;
  readonly pools: readonly SubnetPool[];
  readonly log: Logger;
  readonly client: EtcdClient;
  readonly keeper: LeaseKeeper;
  readonly mirror: Mirror;
  readonly hub: WatchHub;
}

export function newId(kind: IdKind): string {
  return formatId(kind, randomBytes(idBytes[kind]));
}

export function now(): string {
  return new Date().toISOString();
}

/** Decides and commits, then waits until the mirror shows it: whoever asks next at this controller sees the effect. */
export async function commit<T>(
  context: ControllerContext,
  what: string,
  decide: (txn: Txn) => Promise<T>,
): Promise<T> {
  const { result, revision } = await transact(context.client, decide, { what });
  await context.mirror.reached(revision);
  return result;
}

/** By store: each controller has its own. */
const turns = new WeakMap<EtcdClient, KeyedQueue>();

/**
 * As `commit`. Decisions under one guard key wait for each other: of many that come at once only one could be committed, and
 * all others would be made again, each time.
 */
export async function commitInTurn<T>(
  context: ControllerContext,
  { guard, what }: { readonly guard: string; readonly what: string },
  decide: (txn: Txn) => Promise<T>,
): Promise<T> {
  const { client, mirror } = context;
  const queue = turns.get(client) ?? new KeyedQueue();
  turns.set(client, queue);
  const { result, revision } = await queue.run(guard, () => transact(client, decide, { what }));
  await mirror.reached(revision);
  return result;
}

/** Errors: ERR_STORE_UNREACHABLE while the store has never been read. */
export function requireReady(context: Pick<ControllerContext, 'mirror'>): void {
  if (!context.mirror.isReady)
    throw new TsnetError('ERR_STORE_UNREACHABLE', 'the store has not been reached since this controller started');
}

/** The cluster's settings; this controller's own before the store was read. */
export function settingsOf(
  context: Pick<ControllerContext, 'mirror' | 'options'>,
): Omit<ClusterSettings, 'v' | 'generation'> {
  return context.mirror.tables.settings.get('', '')?.value ?? context.options;
}

/** Errors: ERR_NETWORK_UNKNOWN. */
export async function findNetwork(context: ControllerContext, ref: string): Promise<Network> {
  requireReady(context);
  const held = lookUpNetwork(context.mirror, ref);
  if (held !== undefined) return held;
  // Another controller may have made it a moment ago.
  const { result } = await transact(context.client, (txn) => readNetwork(txn, ref), { what: `network ${ref}` });
  if (result !== undefined) return result;
  throw networkUnknown(ref);
}

/** A network by name or id, as the mirror knows it. */
function lookUpNetwork(mirror: Mirror, ref: string): Network | undefined {
  for (const { value } of mirror.tables.network.all()) if (value.name === ref) return value;
  return mirror.tables.network.get('', ref)?.value;
}

/** A network by name or id, as the store knows it. */
export async function readNetwork(txn: Txn, ref: string): Promise<Network | undefined> {
  return getNetwork(txn, (await getNetworkIdByName(txn, ref)) ?? ref);
}

export function networkUnknown(ref: string): TsnetError {
  return new TsnetError('ERR_NETWORK_UNKNOWN', `network: "${ref}" does not exist`, {
    details: { field: 'network', value: ref },
  });
}
