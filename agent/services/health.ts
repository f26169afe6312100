import type { Endpoint, Service } from '../../core/model.js';
import type { Logger } from '../../lib/log.js';
import type { OwnIndex } from '../attach/own-index.js';
import { serviceId } from './membership.js';
import { probe } from './probe.js';
import type { Services } from './services.js';

export interface HealthOptions {
  readonly services: Services;
  readonly own: OwnIndex;
  /** Says in an own endpoint's record which checks it passes. */
  readonly setPassing: (endpoint: string, services: readonly string[]) => Promise<void>;
  readonly log: Logger;
}

interface Check {
  readonly service: Service;
  readonly endpoint: string;
  failures: number;
  timer: NodeJS.Timeout | undefined;
  isOver: boolean;
}

const intervalMs = 1000;
/** While it does not pass, so that a backend that has just come up is used at once. */
const failingIntervalMs = 250;
const timeoutMs = 1000;
/** One lost packet takes no backend out. */
const failuresToFail = 2;

/** Checks this host's own backends of services that ask for it, and publishes which pass. */
export class Health {
  readonly #options: HealthOptions;
  readonly #checks = new Map<string, Check>();
  readonly #passing = new Map<string, Set<string>>();
  #isClosed = false;

  constructor(options: HealthOptions) {
    this.#options = options;
    options.services.onChange((service) => this.#follow(service));
  }

  close(): void {
    this.#isClosed = true;
    for (const check of this.#checks.values()) this.#end(check);
  }

  #follow(id: string): void {
    if (this.#isClosed) return;
    const { services, own } = this.#options;
    const service = services.membership.get(id);
    const wanted = new Set<string>();
    if (service?.health !== undefined) {
      for (const { id: endpoint } of services.membership.membersOf(id))
        if (own.get(endpoint)?.record.state === 'attached') wanted.add(endpoint);
    }
    for (const [key, check] of this.#checks) {
      if (serviceId(check.service) !== id) continue;
      const isSame = service !== undefined && sameCheck(check.service, service);
      if (isSame && wanted.delete(check.endpoint)) continue;
      this.#end(check);
      this.#checks.delete(key);
      if (service === undefined) this.#set(check, false);
      if (own.get(check.endpoint) === undefined) this.#passing.delete(check.endpoint);
    }
    if (service === undefined) return;
    for (const endpoint of wanted) {
      const check: Check = { service, endpoint, failures: 0, timer: undefined, isOver: false };
      this.#checks.set(`${id} ${endpoint}`, check);
      void this.#run(check);
    }
  }

  #end(check: Check): void {
    check.isOver = true;
    clearTimeout(check.timer);
  }

  async #run(check: Check): Promise<void> {
    const { service, endpoint } = check;
    const record = this.#options.own.get(endpoint)?.record;
    const port = service.ports.find(({ protocol }) => protocol === 'tcp')?.target;
    const [address] = record?.addresses ?? [];
    if (record === undefined || port === undefined || address === undefined || service.health === undefined) return;
    const isGood = await probe(service.health, { address, port }, timeoutMs);
    if (check.isOver) return;
    check.failures = isGood ? 0 : check.failures + 1;
    const isPassing = this.#passingOf(record).has(service.name);
    if (isGood && !isPassing) this.#set(check, true);
    else if (isPassing && check.failures >= failuresToFail) this.#set(check, false);
    const waitMs = isGood ? intervalMs : failingIntervalMs;
    check.timer = setTimeout(() => void this.#run(check), waitMs).unref();
  }

  #passingOf(record: Endpoint): Set<string> {
    const known = this.#passing.get(record.id) ?? new Set(record.passing ?? []);
    this.#passing.set(record.id, known);
    return known;
  }

  #set({ service, endpoint }: Check, isPassing: boolean): void {
    const { own, setPassing, log } = this.#options;
    const record = own.get(endpoint)?.record;
    if (record === undefined) {
      this.#passing.delete(endpoint);
      return;
    }
    const passing = this.#passingOf(record);
    if (isPassing === passing.has(service.name)) return;
    if (isPassing) passing.add(service.name);
    else passing.delete(service.name);
    log.info({ service: service.name, endpoint, isPassing }, 'the health of a backend has changed');
    setPassing(endpoint, [...passing].sort()).catch((error: unknown) => {
      log.debug({ endpoint, error: String(error) }, 'the health of a backend was not written down');
    });
  }
}

function sameCheck(a: Service, b: Service): boolean {
  return a.createdAt === b.createdAt && JSON.stringify([a.health, a.ports]) === JSON.stringify([b.health, b.ports]);
}
