import { closeSync, fstatSync } from 'node:fs';
import type { Logger } from '../../lib/log.js';
import type { NativeApi } from '../../native/api.js';
import type { PlaceSockets } from './open-place.js';
import type { DnsSocket, ToAgent } from './protocol.js';

export interface HeldSocketsOptions {
  readonly native: Pick<NativeApi, 'pidfdGetfd'>;
  readonly log: Logger;
  /** So long sockets wait for the next name server: those inside of sandboxes keep namespaces alive. */
  readonly holdMs?: number;
}

const defaultHoldMs = 5000;

/**
 * The agent's duplicates of the name server's sockets, never read here: when the name server dies they stay open, the kernel
 * takes in what is asked, and the next one, which is started with them, answers it. Each is closed as soon as the name
 * server says that it has closed its own.
 */
export class HeldSockets {
  readonly #options: HeldSocketsOptions;
  readonly #held = new Map<string, PlaceSockets>();
  #pid = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HeldSocketsOptions) {
    this.#options = options;
  }

  /** By place. */
  get all(): ReadonlyMap<string, PlaceSockets> {
    return this.#held;
  }

  /** A name server is there: it has what it was started with, and says itself what it opens. */
  begin(pid: number): void {
    this.#pid = pid;
    this.releaseAll();
  }

  /** It is gone. */
  wait(): void {
    const { holdMs = defaultHoldMs } = this.#options;
    this.#timer ??= setTimeout(() => this.releaseAll(), holdMs).unref();
  }

  hear(message: Extract<ToAgent, { readonly say: 'open' | 'closed' }>): void {
    this.#release(message.place);
    if (message.say === 'closed') return;
    let udp: number | undefined;
    try {
      udp = this.#take(message.udp);
      this.#held.set(message.place, { udp, tcp: this.#take(message.tcp) });
    } catch (error) {
      if (udp !== undefined) closeSync(udp);
      this.#options.log.debug({ place: message.place, error: String(error) }, 'a socket for names is not held');
    }
  }

  releaseAll(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const place of this.#held.keys()) this.#release(place);
  }

  #release(place: string): void {
    const sockets = this.#held.get(place);
    if (sockets === undefined) return;
    this.#held.delete(place);
    closeSync(sockets.udp);
    closeSync(sockets.tcp);
  }

  #take({ fd, inode }: DnsSocket): number {
    const taken = this.#options.native.pidfdGetfd(this.#pid, fd);
    if (fstatSync(taken).ino === inode) return taken;
    closeSync(taken);
    throw new Error(`descriptor ${fd} is another one by now`);
  }
}
