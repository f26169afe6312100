import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { KernelObject } from '../core/kernel.js';
import type { Logger } from '../lib/log.js';

/** There in every namespace once the module is. */
const settings = '/proc/sys/net/bridge/bridge-nf-call-iptables';

export interface BridgeNetfilterOptions {
  readonly log: Logger;
  readonly isThere?: () => boolean;
  /** Resolves when it was tried. */
  readonly load?: () => Promise<void>;
}

/**
 * Whether the kernel shows bridged frames to the tables of policies and services. A bridge takes the switch for that
 * also where the module `br_netfilter` is missing, and then nothing between sandboxes of one bridge is filtered.
 */
export class BridgeNetfilter {
  readonly #options: BridgeNetfilterOptions;
  readonly #isThere: () => boolean;
  #isNeeded = false;

  constructor(options: BridgeNetfilterOptions) {
    this.#options = options;
    this.#isThere = options.isThere ?? (() => existsSync(settings));
  }

  get warnings(): readonly { readonly code: string; readonly message: string }[] {
    if (!this.#isNeeded || this.#isThere()) return [];
    const message =
      'the kernel module br_netfilter is missing: policies and services do not hold between containers of one host and network; load it with "modprobe br_netfilter"';
    return [{ code: 'ERR_KERNEL_FEATURE', message }];
  }

  /** Looks at objects on their way to the kernel; the first bridge with the switch has the module loaded. */
  note(objects: readonly KernelObject[]): void {
    if (this.#isNeeded || !objects.some((object) => object.kind === 'bridge' && object.filtered === true)) return;
    this.#isNeeded = true;
    if (this.#isThere()) return;
    void (this.#options.load ?? modprobe)().then(() => {
      for (const { code, message } of this.warnings) this.#options.log.error({ code }, message);
    });
  }
}

function modprobe(): Promise<void> {
  return new Promise((resolve) => {
    execFile('modprobe', ['br_netfilter'], { timeout: 10_000 }, () => resolve());
  });
}
