import type { NativeApi, NetnsRef } from '../../native/api.js';
import type { Logger } from '../../lib/log.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { Applier } from './applier.js';
import { Backlog } from './backlog.js';
import type { Clock } from './backoff.js';
import { Comparison } from './comparison.js';
import { DesiredState } from './desired-state.js';
import { Drift } from './drift.js';
import { Echoes } from './echoes.js';
import { Flush } from './flush.js';
import { KernelView } from './kernel-view.js';
import { LinkDeletions } from './link-deletions.js';
import { LinkReaper } from './link-reaper.js';
import { Loans } from './loans.js';
import { MarkGrace } from './mark-grace.js';
import { Notices } from './notices.js';
import { formatReconcileObject } from './object.js';
import { Settling } from './settling.js';
import { Superseded } from './superseded.js';
import { Verification } from './verification.js';

/** The parts of a reconciler that it speaks to itself. */
export interface Workings {
  readonly desired: DesiredState;
  readonly view: KernelView;
  readonly comparison: Comparison;
  readonly backlog: Backlog;
  readonly echoes: Echoes;
  readonly drift: Drift;
  readonly reaper: LinkReaper;
  readonly deletions: LinkDeletions;
  readonly notices: Notices;
  readonly settling: Settling;
  readonly flush: Flush;
  readonly loans: Loans;
}

export interface WorkingsOptions {
  readonly native: NativeApi;
  readonly netns: NetnsRef | undefined;
  readonly connection: NetlinkConnection;
  /** The reaper's own: what is sent behind a deletion waits for it. */
  readonly reaperConnection: NetlinkConnection;
  readonly clock: Clock;
  readonly log: Logger;
  /** There may be something to do. */
  readonly wake: () => void;
  /** A link is to be asked for. */
  readonly look: (link: string) => void;
  /** Notifications were lost. */
  readonly onLoss: (cause: unknown) => void;
  /** Something sent may or may not have been done. */
  readonly onError: (error: unknown) => void;
}

/** Makes the parts of a reconciler, each with those that it needs. Nothing runs yet. */
export function newWorkings(options: WorkingsOptions): Workings {
  const { native, netns, connection, reaperConnection, clock, log, wake, look, onLoss, onError } = options;
  const desired = new DesiredState((object, owners) => {
    log.warn({ object: formatReconcileObject(object), owners }, 'owners differ about one object: the last wins');
  });
  const view: KernelView = new KernelView(connection, {
    onObject: (key) => notices.onObject(key),
    onLink: (name, before, after) => notices.onLink(name, before, after),
    onLoss,
  });
  const backlog = new Backlog(clock, log, {
    onDue: wake,
    onFailure: (error) => {
      // The kernel has it already: what is thought to be there is not what is there.
      if (error.details['errno'] === 'EEXIST') view.doubt();
    },
  });
  const comparison = new Comparison(desired, view);
  const echoes = new Echoes();
  const drift = new Drift(log);
  const superseded = new Superseded(desired, view);
  const reaper = new LinkReaper(reaperConnection, (group) => {
    return [...view.links.values()].some((link) => link.group === group);
  });
  const deletions = new LinkDeletions({ view, reaper, backlog, echoes, onOver: wake, log });
  const notices: Notices = new Notices({ desired, comparison, backlog, deletions, echoes, drift, superseded, wake });
  const settling = new Settling({
    desired,
    backlog,
    isInFlight: (key) => echoes.isInFlight(key),
    formatKey: (key) => comparison.format(key),
  });
  const verification = new Verification({ backlog, comparison, superseded });
  const loans = new Loans({ desired, view, backlog, echoes, settling, verification, wake, onError });
  const flush = new Flush({
    view,
    comparison,
    backlog,
    applier: new Applier({ native, netns, connection, view }),
    deletions,
    echoes,
    drift,
    superseded,
    grace: new MarkGrace({ clock, look, onOver: (key) => backlog.dirty.add(key) }),
    settling,
    verification,
  });
  return { desired, view, comparison, backlog, echoes, drift, reaper, deletions, notices, settling, flush, loans };
}
