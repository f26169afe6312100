import type { NativeApi, NetnsRef } from '../../native/api.js';
import type { Logger } from '../../lib/log.js';
import type { Clock } from './backoff.js';
import { ensureNoRouterAdverts } from './link-sysctl.js';
import { isLink } from './object.js';
import type { Workings } from './workings.js';

export interface AuditParts {
  readonly clock: Clock;
  /** 0: never. */
  readonly intervalMs: number;
  readonly run: () => Promise<void>;
  readonly log: Logger;
}

/** Compares everything with the kernel from time to time, for what no notification told of. */
export class Audit {
  readonly #parts: AuditParts;
  #cancel: () => void = () => undefined;
  #isClosed = false;

  constructor(parts: AuditParts) {
    this.#parts = parts;
  }

  /** Plans the next audit. */
  plan(): void {
    const { clock, intervalMs, run, log } = this.#parts;
    if (intervalMs <= 0 || this.#isClosed) return;
    // Spread, so that the agents of many hosts on one machine, or of one rack, do not all dump at once.
    this.#cancel = clock.after(intervalMs * (0.9 + 0.2 * clock.random()), () => {
      void run()
        .catch((error: unknown) => {
          if (!this.#isClosed) log.error({ err: error }, 'the audit of kernel objects failed');
        })
        .finally(() => this.plan());
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel();
  }
}

/** Repairs the settings of our links that no notification tells of. */
export async function repairLinkSettings(
  { desired, view, drift }: Pick<Workings, 'desired' | 'view' | 'drift'>,
  native: NativeApi,
  netns: NetnsRef | undefined,
): Promise<void> {
  for (const object of view.objects.values()) {
    if (!isLink(object) || desired.get(`link ${object.name}`) === undefined) continue;
    if (await ensureNoRouterAdverts(native, object.name, netns))
      drift.repaired(`sysctl net.ipv6.conf.${object.name}.accept_ra=0`, 'changed');
  }
}
