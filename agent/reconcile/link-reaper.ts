import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { isNetlinkError } from '../../lib/netlink/errors.js';
import { linkDeleteMessage, linkSetMessage } from '../../lib/netlink/link.js';
import { failpoint } from '../../lib/failpoint.js';

/** Groups that deletions borrow: far from the small numbers that people give out. */
const firstGroup = 0x74730000;
const groupCount = 0x10000;

interface Deletion {
  readonly ifindex: number;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Deletes links, several at the price of one: each `RTM_DELLINK` waits some 20 ms for all processors to
 * forget the link, but the kernel deletes a whole group in one go. Deletions that are asked for while
 * one is under way are gathered into a group of their own for the next.
 */
export class LinkReaper {
  #queue: Deletion[] = [];
  #running = false;
  #group = firstGroup;

  /**
   * @param connection a connection of the reaper's own: what is sent behind a deletion waits for it.
   * @param isGroupUsed whether any link is in a group now; such a group is passed over.
   */
  constructor(
    private readonly connection: NetlinkConnection,
    private readonly isGroupUsed: (group: number) => boolean,
  ) {}

  /**
   * Deletes a link; one that is gone already is a success.
   *
   * Equivalent to: `ip link delete $link`; several at once: `ip link set $link group $g`, `ip link delete group $g`
   * Errors: NetlinkError EOPNOTSUPP for a link that cannot be deleted; of this link alone.
   * Cost: some 20 ms, shared with the deletions that coincide.
   */
  delete(ifindex: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ ifindex, resolve, reject });
      if (this.#running) return;
      this.#running = true;
      setImmediate(() => void this.#run());
    });
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      const deletions = this.#queue;
      this.#queue = [];
      failpoint('reconcile.delete.before');
      try {
        await (deletions.length === 1 ? this.#each(deletions) : this.#together(deletions));
      } catch (error) {
        for (const { reject } of deletions) reject(error);
      }
    }
    this.#running = false;
  }

  async #together(deletions: readonly Deletion[]): Promise<void> {
    const group = this.#nextGroup();
    if (group === null) return this.#each(deletions);
    const grouped = await this.connection.batch(deletions.map(({ ifindex }) => linkSetMessage(ifindex, { group })));
    const members = deletions.filter((deletion, index) => {
      const error = grouped[index];
      if (error === undefined) return true;
      settle(deletion, error);
      return false;
    });
    if (members.length === 0) return;
    const [refused] = await this.connection.batch([linkDeleteMessage({ group })]);
    // One member that cannot be deleted makes the kernel refuse the whole group: then each for itself.
    if (refused !== undefined) {
      await this.#each(members);
      // Whoever is left must not be in a group that is to be deleted some day.
      await this.connection.batch(members.map(({ ifindex }) => linkSetMessage(ifindex, { group: 0 })));
      return;
    }
    for (const { resolve } of members) resolve();
  }

  async #each(deletions: readonly Deletion[]): Promise<void> {
    const results = await this.connection.batch(deletions.map(({ ifindex }) => linkDeleteMessage(ifindex)));
    deletions.forEach((deletion, index) => settle(deletion, results[index]));
  }

  #nextGroup(): number | null {
    for (let tried = 0; tried < groupCount; tried++) {
      const group = this.#group;
      this.#group = firstGroup + ((group - firstGroup + 1) % groupCount);
      if (!this.isGroupUsed(group)) return group;
    }
    return null;
  }
}

function settle(deletion: Deletion, error: unknown): void {
  if (error === undefined || isNetlinkError(error, 'ENODEV')) deletion.resolve();
  else deletion.reject(error);
}
