import type { HeldPort, Service, ServicePublish } from '../../core/model.js';
import type { Logger } from '../../lib/log.js';
import { serviceId } from './membership.js';

export type HostPort = Pick<ServicePublish, 'hostPort' | 'protocol'>;

/** What else on this host has a port: the first of those asked for, or null. Errors: those of asking the kernel. */
export type FindHolder = (ports: readonly HostPort[]) => Promise<HeldPort | null>;

/** What is written down and told to the cluster of the ports that a network's services do not have here. */
export interface HeldRecords {
  read(network: string): readonly HeldPort[];
  write(network: string, held: readonly HeldPort[]): void;
}

export interface HeldPortsOptions {
  readonly find: FindHolder;
  readonly records: HeldRecords;
  /** Services whose ports lead to them now, or no longer. */
  readonly onChange: (services: ReadonlySet<string>) => void;
  readonly log: Logger;
}

/** A port that is held is asked for again after so long, and then more and more rarely: nothing says that it is free. */
const firstAgainMs = 2000;
const lastAgainMs = 30_000;

const keyOf = ({ hostPort, protocol }: HostPort): string => `${protocol}/${hostPort}`;
/**
 * Which ports that services publish are to be had on this host. One that a process listens on, or an endpoint has
 * published, stays theirs, as an endpoint's `--publish` leaves it to them. A port that leads to its service already is
 * not asked for again: who begins to listen later does not take it away, here as with endpoints.
 */
export class HeldPorts {
  readonly #options: HeldPortsOptions;
  readonly #wanted = new Map<string, { readonly service: Service; readonly ports: readonly HostPort[] }>();
  /** What has a port; null: its service. Those that were not asked for yet are missing. */
  readonly #holders = new Map<string, HeldPort | null>();
  #asking: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #againMs = firstAgainMs;
  #isClosed = false;

  constructor(options: HeldPortsOptions) {
    this.#options = options;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  get warnings(): { readonly code: string; readonly message: string }[] {
    return [...this.#wanted.values()].flatMap(({ service, ports }) =>
      this.#heldOf(ports).map(({ hostPort, protocol, holder }) => ({
        code: 'ERR_PORT_IN_USE',
        message: `port ${hostPort}/${protocol} does not lead to service ${service.name} on this host: it is held by ${holder}`,
      })),
    );
  }

  /** Takes up how it was before a restart: what was not held then leads to the service, and goes on doing so. */
  restore(service: Service): void {
    const held = new Map(this.#options.records.read(service.network).map((port) => [keyOf(port), port]));
    for (const port of service.publish ?? []) this.#holders.set(keyOf(port), held.get(keyOf(port)) ?? null);
  }

  /** Takes in a service that is carried out here, or its new version. */
  want(service: Service): void {
    const ports = service.publish ?? [];
    const before = this.#wanted.get(serviceId(service))?.ports ?? [];
    if (ports.length === 0 && before.length === 0) return;
    if (ports.length === 0) return this.forget(service);
    this.#wanted.set(serviceId(service), { service, ports });
    if (before.length > 0) this.#release(before);
    const holders = ports.map((port) => this.#holders.get(keyOf(port)));
    if (holders.includes(undefined)) this.#askSoon();
    else if (holders.some((holder) => holder !== null)) this.#askLater();
    if (before.length > 0) this.#write(new Set([service.network]));
  }

  forget(service: Service): void {
    const before = this.#wanted.get(serviceId(service));
    if (before === undefined) return;
    this.#wanted.delete(serviceId(service));
    this.#release(before.ports);
    this.#write(new Set([service.network]));
  }

  /** A service as this host carries it out: only with the ports that it has here. */
  inForce(service: Service): Service {
    const { publish } = service;
    if (publish === undefined) return service;
    return { ...service, publish: publish.filter((port) => this.#holders.get(keyOf(port)) === null) };
  }

  #heldOf(ports: readonly HostPort[]): HeldPort[] {
    return ports.flatMap((port) => this.#holders.get(keyOf(port)) ?? []);
  }

  #ports(): HostPort[] {
    return [...this.#wanted.values()].flatMap(({ ports }) => ports);
  }

  /** Forgets ports that no service wants any longer. */
  #release(ports: readonly HostPort[]): void {
    const wanted = new Set(this.#ports().map(keyOf));
    for (const port of ports) if (!wanted.has(keyOf(port))) this.#holders.delete(keyOf(port));
  }

  #askSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#againMs = firstAgainMs;
    this.#askNow();
  }

  #askLater(): void {
    if (this.#isClosed || this.#asking !== undefined || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#againMs = Math.min(this.#againMs * 2, lastAgainMs);
      this.#askNow();
    }, this.#againMs);
    this.#timer.unref();
  }

  #askNow(): void {
    this.#asking ??= this.#ask()
      .catch((error: unknown) => {
        this.#options.log.warn({ error: String(error) }, 'could not find out whether published ports are free');
      })
      .finally(() => {
        this.#asking = undefined;
        if (this.#ports().some((port) => this.#holders.get(keyOf(port)) !== null)) this.#askLater();
      });
  }

  async #ask(): Promise<void> {
    // More may be wanted while the kernel is asked: until every port has been asked for.
    do {
      const asked = this.#ports().filter((port) => this.#holders.get(keyOf(port)) !== null);
      const found = await this.#holdersOf(new Map(asked.map((port) => [keyOf(port), port])));
      if (this.#isClosed) return;
      this.#learn(found);
    } while (this.#ports().some((port) => this.#holders.get(keyOf(port)) === undefined));
  }

  async #holdersOf(asked: Map<string, HostPort>): Promise<Map<string, HeldPort | null>> {
    const found = new Map<string, HeldPort | null>();
    while (asked.size > 0) {
      const held = await this.#options.find([...asked.values()]);
      const answered = held === null ? [...asked.keys()] : [keyOf(held)];
      for (const key of answered) {
        found.set(key, held);
        asked.delete(key);
      }
    }
    return found;
  }

  #learn(found: ReadonlyMap<string, HeldPort | null>): void {
    const services = new Set<string>();
    const networks = new Set<string>();
    for (const [id, { service, ports }] of this.#wanted) {
      const news = ports.filter((port) => {
        const [now, before] = [found.get(keyOf(port)), this.#holders.get(keyOf(port))];
        return now !== undefined && (before === undefined || now?.holder !== before?.holder);
      });
      if (news.length === 0) continue;
      services.add(id);
      networks.add(service.network);
    }
    const wanted = new Set(this.#ports().map(keyOf));
    for (const [key, holder] of found) if (wanted.has(key)) this.#holders.set(key, holder);
    this.#write(networks);
    if (services.size > 0) this.#options.onChange(services);
  }

  #write(networks: ReadonlySet<string>): void {
    for (const network of networks) {
      const ofNetwork = [...this.#wanted.values()].filter(({ service }) => service.network === network);
      const held = ofNetwork.flatMap(({ ports }) => this.#heldOf(ports));
      try {
        this.#options.records.write(network, held);
      } catch (error) {
        this.#options.log.warn({ network, error: String(error) }, 'could not write down which ports are held');
      }
    }
  }
}
