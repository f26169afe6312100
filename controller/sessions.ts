import type { WatchRequest } from '../core/api/watch.js';
import { TsnetError } from '../core/errors.js';
import { EtcdFault } from '../lib/etcd/client.js';
import { holdLease, type HeldLease } from '../lib/etcd/lease.js';
import { transact } from '../lib/etcd/txn.js';
import { commit, now, settingsOf, type ControllerContext } from './context.js';
import { refuseOther, requireHost } from './hosts.js';
import { getHost, putHost, putLiveness } from './store/hosts.js';

/** A host's lease, kept while its stream lives here. */
export interface HostSession {
  /** A sign of life of the host: its lease runs anew. */
  readonly renew: () => void;
  /** Ends keeping; the lease runs out unless the host comes back, here or elsewhere. */
  readonly close: () => void;
}

/**
 * Takes over a host's liveness: its lease of before if that still lives, else a new one, whose id goes into the
 * host's record for other controllers.
 * Errors: ERR_HOST_UNKNOWN before the host has registered; ERR_HOST_NAME_IN_USE.
 */
export async function openSession(
  context: ControllerContext,
  host: string,
  options: Pick<WatchRequest, 'instance'> & { readonly onRefused: (error: TsnetError) => void },
): Promise<HostSession> {
  const { instance } = options;
  const ttlMs = settingsOf(context).livenessMs;
  const leaseId = await claim(context, host, { instance, ttlMs });
  const stopping = new AbortController();
  const held: HeldLease = holdLease(context.keeper, {
    ttlMs,
    leaseId,
    isAttached: true,
    manual: true,
    signal: stopping.signal,
    attach: (lease) => attach(context, host, { instance, leaseId: lease }),
    onLost: (loss) => context.log.warn({ host, loss }, 'host lease lost'),
    onRegranted: (lease) => context.log.info({ host, leaseId: lease }, 'host lease granted anew'),
    onError: (error) => {
      if (error instanceof TsnetError && (error.code === 'ERR_HOST_NAME_IN_USE' || error.code === 'ERR_HOST_UNKNOWN')) {
        stopping.abort();
        options.onRefused(error);
      } else context.log.warn({ host, err: error }, 'host lease cannot be renewed');
    },
  });
  return {
    renew: () => held.renew(),
    close: () => {
      if (stopping.signal.aborted) return;
      stopping.abort();
      void noteSeen(context, host, instance);
    },
  };
}

async function claim(
  context: ControllerContext,
  host: string,
  options: { readonly instance: string; readonly ttlMs: number },
): Promise<string> {
  const { result: before } = await transact(context.client, (txn) => getHost(txn, host), { what: `host ${host}` });
  if (before !== undefined && before.leaseId !== '0') {
    try {
      await attach(context, host, { instance: options.instance, leaseId: before.leaseId });
      return before.leaseId;
    } catch (error) {
      if (!(error instanceof EtcdFault) || error.reason !== 'lease-missing') throw error;
    }
  }
  const { leaseId } = await context.keeper.grant(options.ttlMs);
  await attach(context, host, { instance: options.instance, leaseId });
  return leaseId;
}

async function attach(
  context: ControllerContext,
  host: string,
  options: { readonly instance: string; readonly leaseId: string },
): Promise<void> {
  const { instance, leaseId } = options;
  await commit(context, `host ${host}`, async (txn) => {
    const record = await requireHost(txn, host);
    await refuseOther(txn, host, instance);
    putHost(txn, { ...record, generation: record.generation + 1, instance, leaseId, lastSeen: now() });
    putLiveness(txn, { v: 1, generation: record.generation + 1, host, instance }, leaseId);
  });
}

async function noteSeen(context: ControllerContext, host: string, instance: string): Promise<void> {
  if (context.client.isClosed) return;
  await transact(
    context.client,
    async (txn) => {
      const record = await getHost(txn, host);
      if (record?.instance === instance)
        putHost(txn, { ...record, generation: record.generation + 1, lastSeen: now() });
    },
    { what: `host ${host}` },
  ).catch((error: unknown) => context.log.debug({ host, err: error }, 'last sign of life not noted'));
}
