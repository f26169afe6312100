import type { Clock } from './backoff.js';

const graceMs = 200;

export interface MarkGraceParts {
  readonly clock: Clock;
  /** Asks the kernel for a link, now. */
  readonly look: (link: string) => void;
  /** The time of a key is over: it is to be looked at once more. */
  readonly onOver: (key: string) => void;
}

/**
 * Whoever makes a link for an endpoint marks it by a request of its own, which the kernel does not tell of while the
 * link is down. So an unmarked link is asked for again, now and a little later, before it counts as somebody else's.
 */
export class MarkGrace {
  readonly #parts: MarkGraceParts;
  readonly #endsMs = new Map<string, number>();

  constructor(parts: MarkGraceParts) {
    this.#parts = parts;
  }

  /** Reports whether the link that a key finds unmarked has had its time; the first asking begins it. */
  isOver(key: string, link: string): boolean {
    const { clock, look, onOver } = this.#parts;
    const nowMs = clock.nowMs();
    const endMs = this.#endsMs.get(key);
    if (endMs !== undefined && nowMs >= endMs) {
      this.#endsMs.delete(key);
      return true;
    }
    if (endMs === undefined) {
      this.#endsMs.set(key, nowMs + graceMs);
      look(link);
      clock.after(graceMs, () => {
        onOver(key);
        look(link);
      });
    }
    return false;
  }

  /** Nothing is in the way of a key any more. */
  forget(key: string): void {
    this.#endsMs.delete(key);
  }
}
