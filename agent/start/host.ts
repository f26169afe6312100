import { mkdir } from 'node:fs/promises';
import { TsnetError } from '../../core/errors.js';
import { version } from '../../core/version.js';
import { lockDataDir } from '../../lib/data-dir-lock.js';
import type { Logger } from '../../lib/log.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import type { Closers } from '../../lib/sync/closers.js';
import type { NativeApi } from '../../native/api.js';
import { openAddon } from '../addon.js';
import { LivingLinks } from '../attach/living-links.js';
import { OwnIndex } from '../attach/own-index.js';
import { rebuildJournal } from '../attach/rebuild.js';
import { assertSameHost, readBootId } from '../identity.js';
import { HostAddresses } from '../ipam/host-addresses.js';
import { Journal } from '../journal/journal.js';
import { claimNamespace } from '../namespace-claim.js';
import { Networks } from '../networks.js';
import type { AgentOptions } from '../options.js';
import { Reconciler } from '../reconcile/reconciler.js';
import { ClusterState } from '../state/cluster-state.js';
import { ClusterSync } from '../sync/cluster-sync.js';
import { ControllerClient } from '../sync/controller-client.js';
import { UnderlayWatch } from '../underlay-watch.js';
import { assertInterface, findUnderlay, underlayAt } from '../underlay.js';

/** What an agent works with: what this host had before, the kernel, and the way to the cluster. */
export interface AgentHost {
  readonly options: AgentOptions;
  readonly name: string;
  readonly bootId: string;
  readonly native: NativeApi;
  readonly underlay: UnderlayWatch;
  readonly reconciler: Reconciler;
  readonly journal: Journal;
  readonly own: OwnIndex;
  readonly state: ClusterState;
  readonly networks: Networks;
  readonly addresses: HostAddresses;
  readonly client: ControllerClient;
  readonly sync: ClusterSync;
  /** Of opening the journal. */
  readonly warnings: readonly TsnetError[];
  readonly log: Logger;
  readonly closers: Closers;
}

export interface AgentHostIo {
  readonly log: Logger;
  readonly closers: Closers;
  readonly signal: AbortSignal;
}

/**
 * Opens what this host had: its data directory, its journal, its copy of the cluster's records, and the kernel as it is. A
 * lost journal is made again from what a controller and the kernel say. Nothing in the kernel is changed yet.
 * Errors: ERR_DATA_DIR_LOCKED, ERR_HOST_RENAMED, ERR_UNDERLAY_UNKNOWN, ERR_NATIVE_MISSING, ERR_NATIVE_OUTDATED,
 * ERR_KERNEL; ERR_STOPPING when the signal comes while a lost journal waits for a controller.
 */
export async function openHost(options: AgentOptions, io: AgentHostIo): Promise<AgentHost> {
  const { log, closers } = io;
  const name = options.hostName;
  const native = openAddon();
  const bootId = await readBootId();
  await mkdir(options.runDir, { recursive: true, mode: 0o755 });
  closers.push(await claimNamespace());
  const lock = await lockDataDir(options.dataDir);
  closers.push(() => lock.release());

  const faults = (error: TsnetError): void => log.error({ code: error.code }, error.message);
  const { journal, warnings } = Journal.open(options.dataDir, faults);
  closers.push(() => journal.close());
  assertSameHost(journal, name, options.dataDir);
  const state = new ClusterState({
    dataDir: options.dataDir,
    host: name,
    onFault: faults,
    onOwn: (sighting) => journal.observeOwn(sighting),
  });
  closers.push(() => state.close());
  for (const { code, message, details } of [...warnings, ...state.warnings]) log.error({ code, ...details }, message);

  const client = new ControllerClient({ urls: options.controllers, host: name, tokenFile: options.tokenFile });
  closers.push(() => client.close());
  const reconciler = await Reconciler.start({ native, log, auditMs: options.auditMs });
  closers.push(() => reconciler.close());
  const { connection } = reconciler;
  const underlay = await watchUnderlay(options, { connection, journal, log });
  closers.push(() => underlay.close());
  const networks = new Networks(state, client);
  await rebuildJournal({
    host: name,
    journal,
    client,
    readLinks: () => LivingLinks.read(native, connection),
    knownNetwork: (id) => networks.known(id),
    bootId,
    log,
    signal: io.signal,
  });
  const own = new OwnIndex(journal);
  const addresses = new HostAddresses({ host: name, journal, state, client, log, quarantineMs: options.quarantineMs });
  closers.push(() => addresses.close());
  const sync = new ClusterSync({
    host: name,
    client,
    journal,
    state,
    blocks: addresses,
    log,
    register: () => {
      if (underlay.found === null) throw new TsnetError('ERR_UNDERLAY_UNKNOWN', 'no underlay to tell other hosts of');
      const { vtep, mtu } = underlay.found;
      return { vtep, underlayMtu: mtu, bootId, instance: journal.instance, version };
    },
  });
  return {
    options,
    name,
    bootId,
    native,
    underlay,
    reconciler,
    journal,
    own,
    state,
    networks,
    addresses,
    client,
    sync,
    warnings,
    log,
    closers,
  };
}

/** Errors: ERR_UNDERLAY_UNKNOWN for an interface that this host does not have. */
async function watchUnderlay(
  { underlay: wanted }: AgentOptions,
  { connection, journal, log }: { connection: NetlinkConnection; journal: Journal; log: Logger },
): Promise<UnderlayWatch> {
  await assertInterface({ connection, wanted });
  const [carrier] = journal.carriers();
  return UnderlayWatch.start({
    find: () => findUnderlay({ connection, wanted }),
    at: (vtep) => underlayAt(connection, vtep),
    lastVtep: carrier?.record.vtep ?? null,
    log,
  });
}
