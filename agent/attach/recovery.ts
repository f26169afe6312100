import { parseMark } from '../../core/ids.js';
import { toTsnetError } from '../../core/errors.js';
import type { Logger } from '../../lib/log.js';
import type { Journal } from '../journal/journal.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { Attachments } from './attachments.js';
import type { OwnIndex } from './own-index.js';

export interface RecoveryOptions {
  readonly journal: Journal;
  readonly own: OwnIndex;
  readonly attachments: Attachments;
  /** Links with our mark in the host namespace, as the first dump had them. */
  readonly markedLinks: readonly { readonly name: string; readonly ifindex: number; readonly alias: string }[];
  readonly deleteLink: (ifindex: number) => Promise<void>;
  readonly bootId: string;
  readonly log: Logger;
}

/**
 * After a start: ends what the last run left half done, by its journal, and removes links that no record speaks of.
 *
 * An attach whose caller never got an answer is undone (the caller is gone with the old process and asks again); a
 * detach is finished. What was attached in an earlier boot has no sandbox any more. All at once, so that the deletions
 * share the kernel's waiting.
 */
export async function recover(options: RecoveryOptions): Promise<void> {
  const { journal, attachments, log } = options;
  for (const entry of journal.endpoints()) {
    // An attached endpoint whose link was being made again: it stays, and the sandbox watch tries once more.
    if (isRelinking(entry, options.bootId)) options.own.put({ ...entry, step: null });
  }
  const unfinished = [...journal.endpoints()].filter((entry) => isUnfinished(entry, options.bootId));
  const strays = options.markedLinks.filter((link) => isStray(link.alias, options.own));
  await Promise.all([
    ...unfinished.map(async (entry) => {
      const { id, sandbox, state } = entry.record;
      try {
        await attachments.removeInTurn(id, () => true);
        log.info({ endpoint: id, sandbox, state, step: entry.step }, 'cleaned up what the last run left');
      } catch (error) {
        log.error(
          { endpoint: id, error: toTsnetError(error).message },
          'could not clean up what the last run left; it is tried again',
        );
      }
    }),
    ...strays.map(async (link) => {
      try {
        await options.deleteLink(link.ifindex);
        log.info({ link: link.name, alias: link.alias }, 'removed a link of ours that no record speaks of');
      } catch (error) {
        log.error(
          { link: link.name, error: toTsnetError(error).message },
          'could not remove a link that no record speaks of',
        );
      }
    }),
  ]);
}

function isUnfinished(entry: OwnEndpoint, bootId: string): boolean {
  const isOfEarlierBoot = entry.record.sandbox !== null && entry.bootId !== bootId;
  return entry.step !== null || entry.record.state === 'detaching' || isOfEarlierBoot;
}

function isRelinking({ record, step, bootId }: OwnEndpoint, currentBootId: string): boolean {
  return record.state === 'attached' && step !== null && step !== 'detach' && bootId === currentBootId;
}

/** Only ends of endpoints: bridges and VXLAN devices are the reconciler's to judge. */
function isStray(alias: string, own: OwnIndex): boolean {
  const mark = parseMark(alias);
  return mark !== null && (mark.kind === 'veth' || mark.kind === 'macvlan') && own.get(mark.id) === undefined;
}
