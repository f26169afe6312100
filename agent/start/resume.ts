import { parseMark } from '../../core/ids.js';
import { recover } from '../attach/recovery.js';
import { SandboxWatch } from '../attach/sandbox-watch.js';
import { Joins } from '../joins.js';
import { Leftovers } from '../leftovers.js';
import { Withdrawals } from '../withdrawals.js';
import type { Attaching } from './attaching.js';
import type { AgentHost } from './host.js';
import type { Traffic } from './traffic.js';

const sweepMs = 2000;

/**
 * Takes up what the run before had: the networks that this host carries, their rules, names and ports; ends what was left
 * half done; and from then on follows sandboxes, networks and blocks that go. Returns the joined networks of this host.
 */
export async function resume(host: AgentHost, traffic: Traffic, attaching: Attaching): Promise<Joins> {
  const { native, reconciler, journal, own, state, networks, addresses, sync, bootId, log, closers } = host;
  const { ruleSets, firewall, services, ports, dns, datapath } = traffic;
  const { carry, attachments } = attaching;
  const withdrawals = new Withdrawals({
    journal,
    own,
    attachments,
    carry,
    knownNetwork: (id) => networks.known(id),
    log,
  });

  await dns?.resumed();
  ports.restore();
  for (const { record } of journal.carriers()) {
    const network = networks.known(record.network);
    if (network !== undefined) carry.resume(network);
  }
  firewall.resumed();
  services.resumed();
  ruleSets.release();
  closers.push(addresses.onLoss((loss) => void withdrawals.blockLost(loss)));
  await recover({
    journal,
    own,
    attachments,
    markedLinks: reconciler.markedLinks(),
    deleteLink: (ifindex) => reconciler.deleteLink(ifindex),
    bootId,
    log,
  });
  for (const { record } of journal.carriers()) carry.release(record.network);
  traffic.resolvConfs.resume();

  const stopFollowing = state.onChange((change) => {
    if (change.kind !== 'network') return;
    if (change.op === 'gone') void withdrawals.networkGone(change.previous.id);
    // Carried before the restart, and unknown until now: the cache was lost.
    else if (!datapath.isRealised(change.value.id)) carry.resume(change.value);
  });
  closers.push(stopFollowing);
  const joins = new Joins({ native, state, own, datapath, carry, log });
  closers.push(() => joins.close());

  const watch = new SandboxWatch({ native, journal, own, attachments, bootId, sweepMs, log });
  closers.push(() => watch.close());
  const stopListening = reconciler.onLink(({ event, name, alias }) => {
    if (event === 'gone') {
      watch.linkGone(name).catch((error: unknown) => {
        log.error({ link: name, error: String(error) }, 'could not look after a link that is gone');
      });
      return;
    }
    const mark = parseMark(alias);
    if (mark?.kind === 'bridge') firewall.linkCame(mark.id);
  });
  closers.push(stopListening);
  await watch.sweep();
  const leftovers = new Leftovers({ datapath, state, journal, networks, withdrawals, reconciler });
  closers.push(sync.onProgress(() => leftovers.review()));
  return joins;
}
