import { setTimeout as delay } from 'node:timers/promises';
import type { Service } from '../../core/model.js';
import type { OwnIndex } from '../attach/own-index.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { Services } from './services.js';

export interface DrainerOptions {
  readonly own: OwnIndex;
  readonly services: Services;
  /** Says in an own endpoint's record whether it drains. */
  readonly setDraining: (endpoint: string, isDraining: boolean) => Promise<unknown>;
  /** How many connections to these ports of an endpoint are not over. */
  readonly connections: (endpoint: OwnEndpoint, ports: ReadonlySet<number>) => Promise<number>;
}

const pollMs = 50;
/** Hosts that follow another controller hear of a change a little later than its publisher does. */
const spreadMs = 1000;
/** Answers of the name server are kept for 5 s at most. */
const nameMs = 6000;

/**
 * Takes own endpoints out of the services they are backends of: no host leads new connections to them, and those that
 * they have are waited for.
 */
export class Drainer {
  readonly #options: DrainerOptions;

  constructor(options: DrainerOptions) {
    this.#options = options;
  }

  /** Resolves when their connections are over, or after so long. Ended by `signal`, they are backends again. */
  async drain(
    endpoints: readonly OwnEndpoint[],
    how: { readonly ms: number; readonly signal: AbortSignal },
  ): Promise<void> {
    const backends = endpoints.filter(({ record }) => record.state === 'attached' && this.#of(record.id).length > 0);
    const deadline = performance.now() + how.ms;
    try {
      await Promise.all(backends.map(({ record }) => this.#drainOne(record.id, deadline, how.signal)));
    } catch (error) {
      for (const { record } of backends) await this.#options.setDraining(record.id, false).catch(() => undefined);
      throw error;
    }
  }

  async #drainOne(id: string, deadline: number, signal: AbortSignal): Promise<void> {
    const { own, setDraining } = this.#options;
    await setDraining(id, true);
    const within = (ms: number): number => Math.max(0, Math.min(ms, deadline - performance.now()));
    while (performance.now() < deadline && !isPublished(own.get(id)))
      await delay(within(pollMs), undefined, { signal });
    const hasNames = this.#of(id).some(({ mode }) => mode === 'dnsrr');
    await delay(within(hasNames ? nameMs : spreadMs), undefined, { signal });
    while (performance.now() < deadline && (await this.#isBusy(id))) await delay(within(pollMs), undefined, { signal });
  }

  async #isBusy(id: string): Promise<boolean> {
    const { own, connections } = this.#options;
    const endpoint = own.get(id);
    if (endpoint?.record.state !== 'attached') return false;
    const ports = this.#of(id).flatMap((service) =>
      service.ports.filter(({ protocol }) => protocol === 'tcp').map(({ target }) => target),
    );
    return (await connections(endpoint, new Set(ports))) > 0;
  }

  #of(endpoint: string): Service[] {
    const { membership } = this.#options.services;
    return [...membership.servicesOf(endpoint)].flatMap((id) => membership.get(id) ?? []);
  }
}

const isPublished = (endpoint: OwnEndpoint | undefined): boolean =>
  endpoint === undefined || endpoint.publishedGeneration >= endpoint.record.generation;
