import type { NativeApi, NetnsRef } from '../../native/api.js';
import { TsnetError } from '../../core/errors.js';
import type { KernelLink } from '../../core/kernel.js';
import type { NetlinkConnection } from '../../lib/netlink/connection.js';
import { isNetlinkError } from '../../lib/netlink/errors.js';
import { decodeLink } from '../../lib/netlink/link-value.js';
import { linkGetMessage } from '../../lib/netlink/link.js';
import type { NetlinkMessage } from '../../lib/netlink/message.js';
import { parentUnknown } from '../kernel-error.js';
import { kernelFailure, linkConflict } from './failure.js';
import type { KernelView } from './kernel-view.js';
import { ensureInet6Link, quietenLink } from './link-sysctl.js';
import { isLink, linkNameOf } from './object.js';
import type { Operation } from './plan.js';
import { linkCreateRequests, requestsOf } from './request.js';

/** What became of each operation: undefined is success, `blocked` that its link could not be made. */
export type Outcome = TsnetError | 'blocked' | undefined;

/** An operation with the requests that it takes. */
interface Step {
  readonly operation: Operation;
  readonly requests: readonly NetlinkMessage[];
}

interface Creation {
  readonly key: string;
  readonly link: KernelLink;
}

/** A removal that finds nothing to remove has what it wants. */
const goneAlready = ['ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL'];

/** Where an applier works. */
export interface ApplierOptions {
  readonly native: NativeApi;
  readonly netns: NetnsRef | undefined;
  readonly connection: NetlinkConnection;
  readonly view: KernelView;
}

/** Carries out operations: new links in one send, marked in the same; everything else in a second. */
export class Applier {
  constructor(private readonly options: ApplierOptions) {}

  /** Does all operations but removals of links, and says by key what became of them. */
  async apply(operations: readonly Operation[]): Promise<ReadonlyMap<string, Outcome>> {
    const outcomes = new Map<string, Outcome>();
    const creations: Creation[] = [];
    const others: Operation[] = [];
    for (const operation of operations) {
      const { object, verb, key } = operation;
      if (verb === 'add' && isLink(object)) creations.push({ key, link: object });
      else others.push(operation);
    }
    if (creations.length > 0) await this.#create(creations, outcomes);
    const steps = others.flatMap((operation) => this.#step(operation, outcomes));
    await this.#enableInet6(steps);
    if (steps.length > 0) await this.#send(steps, outcomes);
    const unmarked = steps.filter(({ operation }) => isUnmarkedAddr(operation, outcomes.get(operation.key)));
    if (unmarked.length > 0)
      await this.#send(
        unmarked.map((step) => this.#anew(step)),
        outcomes,
      );
    return outcomes;
  }

  async #create(creations: readonly Creation[], outcomes: Map<string, Outcome>): Promise<void> {
    const { connection, view, native, netns } = this.options;
    const possible = creations.filter(({ key, link }) => {
      if (link.kind !== 'macvlan' || view.links.byName(link.parent) !== undefined) return true;
      outcomes.set(key, parentUnknown(link.parent, link.name));
      return false;
    });
    const requests = possible.map(({ link }) => linkCreateRequests(link, this.#indexOf));
    const results = await connection.batch(requests.flat());
    // The kernel does not tell of an alias that a link gets while it is down, so it must be asked, and
    // after it has told of the creation.
    await view.barrier();
    await connection.batch(
      possible.map(({ link }) => linkGetMessage(link.name)),
      { onReply: (_index, _header, reader) => view.learnLink(decodeLink(reader)) },
    );
    let at = 0;
    for (const [index, { key, link }] of possible.entries()) {
      const length = requests[index]?.length ?? 0;
      const error = results.slice(at, at + length).find((result) => result !== undefined);
      at += length;
      if (error !== undefined) {
        outcomes.set(key, await this.#creationFailure(link, error));
        continue;
      }
      outcomes.set(key, undefined);
      await quietenLink(native, link.name, netns);
    }
  }

  /** The name may have been taken by a link that the view did not know yet. */
  async #creationFailure(link: KernelLink, error: unknown): Promise<TsnetError> {
    const { view } = this.options;
    if (!isNetlinkError(error, 'EEXIST')) return kernelFailure(link, error, view.links);
    const entry = await view.refreshLink(link.name);
    return entry === undefined ? kernelFailure(link, error, view.links) : linkConflict(link.name);
  }

  #step(operation: Operation, outcomes: Map<string, Outcome>): Step[] {
    const { links } = this.options.view;
    const { object, verb, key } = operation;
    const needed = object.kind === 'port' && verb !== 'remove' ? [object.link, object.master] : [linkNameOf(object)];
    if (needed.every((name) => links.isOurs(name))) {
      return [{ operation, requests: requestsOf(operation, this.#indexOf) }];
    }
    outcomes.set(key, verb === 'remove' ? undefined : 'blocked');
    return [];
  }

  /** An IPv6 address on a link that speaks none would be refused. */
  async #enableInet6(steps: readonly Step[]): Promise<void> {
    const { native, netns } = this.options;
    const wanted = steps.flatMap(({ operation: { object, verb } }) => {
      return object.kind === 'addr' && verb !== 'remove' && object.address.includes(':') ? [object.link] : [];
    });
    for (const link of new Set(wanted)) await ensureInet6Link(native, link, netns);
  }

  async #send(steps: readonly Step[], outcomes: Map<string, Outcome>): Promise<void> {
    const { connection, view } = this.options;
    const results = await connection.batch(steps.flatMap(({ requests }) => requests));
    let at = 0;
    for (const { operation, requests } of steps) {
      const errors = results.slice(at, at + requests.length).filter((result) => result !== undefined);
      at += requests.length;
      const [error] = operation.verb === 'remove' ? errors.filter(({ code }) => !goneAlready.includes(code)) : errors;
      outcomes.set(operation.key, error === undefined ? undefined : kernelFailure(operation.object, error, view.links));
    }
  }

  #anew({ operation, requests }: Step): Step {
    const { key, object } = operation;
    return { operation, requests: [...requestsOf({ verb: 'remove', key, object }, this.#indexOf), ...requests] };
  }

  readonly #indexOf = (name: string): number => {
    const entry = this.options.view.links.byName(name);
    if (entry !== undefined) return entry.ifindex;
    throw new TsnetError('ERR_INTERNAL', `link ${name} is not there`);
  };
}

/** Reports whether the address that we want is on our link without our mark, which the kernel sets at creation only. */
function isUnmarkedAddr({ object, verb }: Operation, outcome: Outcome): boolean {
  return (
    object.kind === 'addr' && verb === 'add' && outcome instanceof TsnetError && outcome.details['errno'] === 'EEXIST'
  );
}
