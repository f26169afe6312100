import type { Service } from '../../core/model.js';
import type { BackendEndpoint } from '../../core/service/backend.js';

/** Hosts check at once, and publish what they find within some 100 ms. */
const graceMs = 3000;

/**
 * Backends of a service that has got a health check while it was used: until each has been found to pass for the first
 * time, or had its time, they count as before.
 */
export class FirstChecks {
  readonly #open = new Map<string, { readonly ids: Set<string>; readonly timer: NodeJS.Timeout }>();
  readonly #expired: (service: string) => void;

  /** `expired` hears of services whose time is over. */
  constructor(expired: (service: string) => void) {
    this.#expired = expired;
  }

  close(): void {
    for (const { timer } of this.#open.values()) clearTimeout(timer);
    this.#open.clear();
  }

  /** A service has changed; `ready` are the backends that it had. */
  follow(
    id: string,
    change: { readonly before: Service; readonly after: Service },
    ready: readonly BackendEndpoint[],
  ): void {
    const { before, after } = change;
    if (after.health === undefined) this.forget(id);
    else if (before.health === undefined && before.createdAt === after.createdAt) this.#begin(id, ready);
  }

  forget(id: string): void {
    clearTimeout(this.#open.get(id)?.timer);
    this.#open.delete(id);
  }

  /** Whether a backend that has not passed is still to be used. */
  isAwaited(id: string, endpoint: BackendEndpoint): boolean {
    return this.#open.get(id)?.ids.has(endpoint.id) === true;
  }

  /** A backend passes: from now on its check counts. */
  passed(id: string, endpoint: string): void {
    this.#open.get(id)?.ids.delete(endpoint);
  }

  #begin(id: string, ready: readonly BackendEndpoint[]): void {
    this.forget(id);
    const end = (): void => {
      this.#open.delete(id);
      this.#expired(id);
    };
    this.#open.set(id, { ids: new Set(ready.map((each) => each.id)), timer: setTimeout(end, graceMs).unref() });
  }
}
