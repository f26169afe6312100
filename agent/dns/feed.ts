import { spawn } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { TsnetError } from '../../core/errors.js';
import { listenAddresses } from '../../core/dns/resolver.js';
import type { DnsNameView } from '../../core/api.js';
import { endpointNames } from '../../core/dns/names.js';
import { isListed, type ZoneEndpoint } from '../../core/dns/zone.js';
import type { Endpoint, Network } from '../../core/model.js';
import type { TableElement } from '../../core/nft/element.js';
import { version } from '../../core/version.js';
import type { Logger } from '../../lib/log.js';
import type { OwnIndex } from '../attach/own-index.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { Journal } from '../journal/journal.js';
import type { ClusterState } from '../state/cluster-state.js';
import {
  newLineReader,
  type DnsExplained,
  type DnsNetwork,
  type DnsPlace,
  type DnsSettings,
  type ToAgent,
  type ToServer,
} from './protocol.js';

export interface DnsFeedOptions {
  readonly socket: string;
  /** Program and arguments that run the name server. */
  readonly program: readonly string[];
  readonly settings: DnsSettings;
  readonly state: ClusterState;
  readonly own: OwnIndex;
  readonly journal: Journal;
  readonly knownNetwork: (id: string) => Network | undefined;
  /** What a service of this host's networks answers with, by network and name; empty: there is none. */
  readonly serviceZone: (network: string, name: string) => readonly ZoneEndpoint[];
  /** What leads port 53 to where is listened. */
  readonly setElements: (owner: string, elements: readonly TableElement[]) => void;
  readonly bootId: string;
  readonly log: Logger;
}

/** So long changes of own endpoints are gathered. */
const gatherMs = 4;
const retryMs = { first: 20, last: 1000 } as const;
const answerMs = 2000;
const settleMs = 500;
const awayMs = 5000;
/** So long another version has to take over the sockets; then the old one is stopped, and they are opened anew. */
const replaceMs = 5000;
const elementOwner = 'dns';
const dnsPort = 53;

/**
 * Keeps the name server running and knowing what this host knows. It is another process: neither does answering hold up
 * attaching, nor does a restart of the agent close a socket that containers ask.
 */
export class DnsFeed {
  readonly #options: DnsFeedOptions;
  readonly #carried = new Map<string, readonly string[]>();
  readonly #stops: (() => void)[] = [];
  readonly #asked = new Map<number, (answer: DnsExplained) => void>();
  #socket: Socket | undefined;
  #isConnected = false;
  #isClosed = false;
  /** Own endpoints that the name server has not been told of since they changed. */
  readonly #changed = new Set<string>();
  #telling: NodeJS.Timeout | undefined;
  #lastId = 0;
  #spawnedMs = -Infinity;
  #replacedMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  #retryMs: number = retryMs.first;
  #failed: readonly string[] = [];
  #places: readonly DnsPlace[] = [];
  #hasPlaces = false;
  #awaySinceMs = performance.now();
  /** A connection has failed: no name server was there. */
  #hasFailed = false;
  readonly #waiters = new Set<() => void>();
  /** Ids that each service was last told with. */
  readonly #services = new Map<string, readonly string[]>();

  constructor(options: DnsFeedOptions) {
    this.#options = options;
    const { state, own, journal } = options;
    // As before the restart: a whole set that lacked them would close sockets that are being asked.
    for (const { record } of journal.carriers()) this.#carried.set(record.network, record.addresses);
    this.#stops.push(
      own.onChange((id) => this.#tellSoon(id)),
      state.onChange((change) => {
        if (change.kind === 'endpoint') {
          if (change.op === 'put') this.#tell({ do: 'endpoint', value: zoneEndpoint(change.value) });
          else this.#tell({ do: 'gone', kind: 'endpoint', id: change.previous.id });
        } else if (change.kind === 'network') {
          if (change.op === 'put') this.#tell({ do: 'network', value: this.#network(change.value) });
          else this.#tell({ do: 'gone', kind: 'network', id: change.previous.id });
        } else if (change.kind === 'service') {
          const { network, name } = change.op === 'put' ? change.value : change.previous;
          this.serviceChanged(network, name);
        }
      }),
      state.onDown((hosts) => this.#tell({ do: 'down', hosts: [...hosts] })),
    );
  }

  /** Where is listened. */
  get places(): readonly DnsPlace[] {
    return this.#places;
  }

  get warnings(): readonly { readonly code: string; readonly message: string }[] {
    const failed = this.#failed.map((reason) => `the name server cannot listen: ${reason}`);
    const isLong = !this.#isConnected && performance.now() - this.#awaySinceMs > awayMs;
    const away = this.#carried.size > 0 && isLong ? ['the name server is not there'] : [];
    return [...failed, ...away].map((message) => ({ code: 'ERR_DNS_UNAVAILABLE', message }));
  }

  /** Finds the name server that runs, or starts one: before the first sandbox may ask. */
  start(): void {
    this.#connect();
  }

  /**
   * Resolves when a name server that outlived the last agent has said where it listens, so that rules loaded anew lead
   * there; at once where none did, and after a while in any case.
   */
  resumed(): Promise<void> {
    return this.#wait(() => this.#hasFailed || this.#hasPlaces);
  }

  /** Resolves when a network's sandboxes are listened to, or after a while: attaching does not fail for names. */
  settled(id: string): Promise<void> {
    const network = this.#options.knownNetwork(id);
    const wanted = network === undefined ? [] : this.listenOf(network);
    return this.#wait(() => wanted.every((address) => this.#places.some((place) => place.address === address)));
  }

  #wait(isDone: () => boolean): Promise<void> {
    if (isDone() || this.#isClosed) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(look);
        resolve();
      };
      const look = (): void => {
        if (isDone()) end();
      };
      const timer = setTimeout(end, settleMs);
      this.#waiters.add(look);
    });
  }

  /** A network is realised here, or has got other addresses of the host. */
  carry(network: Network, own: readonly string[]): void {
    this.#carried.set(network.id, own);
    this.#tell({ do: 'network', value: this.#network(network) });
  }

  /** A network is no longer realised here. */
  drop(id: string): void {
    if (!this.#carried.delete(id)) return;
    const network = this.#options.knownNetwork(id);
    if (network === undefined) this.#tell({ do: 'gone', kind: 'network', id });
    else this.#tell({ do: 'network', value: this.#network(network) });
  }

  /** The host's addresses that sandboxes of a network ask; empty where they ask inside. */
  listenOf(network: Network): readonly string[] {
    return listenAddresses(network, this.#carried.get(network.id) ?? []);
  }

  /** A service, or what is ready of it, is another than before. */
  serviceChanged(network: string, name: string): void {
    const key = `${network}/${name}`;
    const now = this.#options.serviceZone(network, name);
    const ids = new Set(now.map(({ id }) => id));
    for (const value of now) this.#tell({ do: 'endpoint', value });
    for (const id of this.#services.get(key) ?? []) if (!ids.has(id)) this.#tell({ do: 'gone', kind: 'endpoint', id });
    if (ids.size === 0) this.#services.delete(key);
    else this.#services.set(key, [...ids]);
  }

  /** Asks the name server as a sandbox would, with reasons. Errors: ERR_DNS_UNAVAILABLE. */
  ask(name: string, type: string, from: string | null): Promise<DnsExplained> {
    const id = (this.#lastId += 1);
    return new Promise((resolve, reject) => {
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        this.#asked.delete(id);
        settle();
      };
      const timer = setTimeout(
        () => end(() => reject(new TsnetError('ERR_DNS_UNAVAILABLE', 'the name server of this host does not answer'))),
        this.#isConnected ? answerMs : 0,
      );
      this.#asked.set(id, (answer) => end(() => resolve(answer)));
      this.#tellChanged();
      this.#tell({ do: 'ask', question: { id, name, type, from } });
    });
  }

  /** All names that this host answers, each once for each endpoint that has it. */
  list(): DnsNameView[] {
    const { state, journal, knownNetwork, settings } = this.#options;
    const own = [...journal.endpoints()].map(({ record }) => record);
    const others = [...state.networks()].flatMap((network) => [...state.endpointsOf(network.id)]);
    const services = [...state.networks()].flatMap(({ id }) =>
      [...state.servicesOf(id)].flatMap(({ name }) => this.#options.serviceZone(id, name)),
    );
    return [...own, ...others, ...services].filter(isListed).flatMap((record) => {
      const network = knownNetwork(record.network)?.name ?? record.network;
      const { addresses, host, id, generation } = record;
      const isDown = state.downHosts.has(host);
      const names = isDown ? [] : endpointNames(record);
      return names.map((name) => {
        const whole = `${name}.${network.toLowerCase()}.${settings.domain}`;
        return { name: whole, network, addresses, host, endpoint: id, generation };
      });
    });
  }

  /** Lets go of it; it goes on answering. */
  close(): void {
    this.#tellChanged();
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const stop of this.#stops.splice(0)) stop();
    this.#socket?.end();
  }

  #connect(): void {
    if (this.#isClosed) return;
    const socket = connect({ path: this.#options.socket });
    this.#socket = socket;
    socket.setEncoding('utf8');
    const read = newLineReader<ToAgent>((message) => this.#hear(message, socket));
    socket.on('data', (part: string) => {
      try {
        read(part);
      } catch (error) {
        this.#options.log.error({ error: String(error) }, 'the name server said what cannot be understood');
        socket.destroy();
      }
    });
    socket.on('error', () => undefined);
    socket.on('close', () => this.#again(socket));
  }

  #again(socket: Socket): void {
    if (this.#socket !== socket || this.#isClosed) return;
    if (this.#isConnected) {
      this.#options.log.warn('the name server has gone: starting it again');
      this.#awaySinceMs = performance.now();
    }
    this.#isConnected = false;
    this.#hasFailed ||= !this.#isReplacing();
    for (const look of this.#waiters) look();
    const nowMs = performance.now();
    // One that was just started needs its time; one that cannot start is not tried without end.
    if (!this.#isReplacing() && nowMs - this.#spawnedMs > Math.max(retryMs.last, this.#retryMs)) {
      this.#spawnedMs = nowMs;
      this.#spawn();
    }
    this.#timer = setTimeout(() => this.#connect(), this.#retryMs);
    this.#timer.unref();
    this.#retryMs = Math.min(this.#retryMs * 2, retryMs.last);
  }

  #spawn(): void {
    const [program, ...args] = this.#options.program;
    if (program === undefined) return;
    // In a session of its own: what ends the agent's group does not end it. Its log is the agent's.
    const child = spawn(program, args, { detached: true, stdio: ['ignore', 'ignore', 'inherit'] });
    child.on('error', (error) =>
      this.#options.log.error({ error: error.message }, 'cannot start the name server; it is tried again'),
    );
    child.unref();
  }

  #hear(message: ToAgent, socket: Socket): void {
    switch (message.say) {
      case 'hello':
        this.#retryMs = retryMs.first;
        if (message.version !== version) {
          this.#replace(message.version, socket);
          return;
        }
        this.#isConnected = true;
        this.#replacedMs = -Infinity;
        this.#tellAll();
        return;
      case 'places':
        this.#places = message.places;
        this.#failed = message.failed;
        this.#hasPlaces = true;
        this.#options.setElements(elementOwner, redirections(message.places));
        for (const look of this.#waiters) look();
        return;
      case 'answer':
        this.#asked.get(message.id)?.(message.answer);
    }
  }

  #replace(other: string, socket: Socket): void {
    if (this.#isReplacing()) {
      socket.end();
      return;
    }
    const isFirst = this.#replacedMs === -Infinity;
    this.#replacedMs = isFirst ? performance.now() : -Infinity;
    this.#spawnedMs = -Infinity;
    const { log, program } = this.#options;
    const message: ToServer = isFirst ? { do: 'replace', program } : { do: 'stop' };
    log.info({ version: other, ask: message.do }, 'the name server is of another version: starting ours');
    socket.end(`${JSON.stringify(message)}\n`);
  }

  #isReplacing(): boolean {
    return performance.now() - this.#replacedMs < replaceMs;
  }

  #tell(message: ToServer): void {
    if (this.#isConnected) this.#socket?.write(`${JSON.stringify(message)}\n`);
  }

  #tellAll(): void {
    const { state, journal, settings } = this.#options;
    this.#socket?.cork();
    this.#tell({ do: 'begin', settings });
    for (const network of state.networks()) {
      this.#tell({ do: 'network', value: this.#network(network) });
      for (const endpoint of state.endpointsOf(network.id))
        this.#tell({ do: 'endpoint', value: zoneEndpoint(endpoint) });
      for (const { name } of state.servicesOf(network.id)) this.serviceChanged(network.id, name);
    }
    for (const own of journal.endpoints()) this.#tellOwn(own.record.id);
    this.#tell({ do: 'down', hosts: [...state.downHosts] });
    this.#tell({ do: 'end' });
    this.#socket?.uncork();
  }

  /** An attach changes its endpoint several times, and its caller waits for no name. */
  #tellSoon(id: string): void {
    this.#changed.add(id);
    this.#telling ??= setTimeout(() => this.#tellChanged(), gatherMs);
  }

  #tellChanged(): void {
    clearTimeout(this.#telling);
    this.#telling = undefined;
    this.#socket?.cork();
    for (const id of this.#changed) this.#tellOwn(id);
    this.#socket?.uncork();
    this.#changed.clear();
  }

  #tellOwn(id: string): void {
    const own = this.#options.own.get(id);
    if (own === undefined || own.record.state === 'detaching') {
      this.#tell({ do: 'gone', kind: 'endpoint', id });
      this.#tell({ do: 'gone', kind: 'own', id });
      return;
    }
    this.#tell({ do: 'endpoint', value: zoneEndpoint(own.record) });
    this.#tell({ do: 'own', value: { endpoint: id, sandbox: own.cookie, inside: this.#inside(own) } });
  }

  /** Where to open a socket: in sandboxes that cannot reach an address of their host. */
  #inside(own: OwnEndpoint): string | null {
    const { record, bootId } = own;
    const network = this.#options.knownNetwork(record.network);
    const isThere = record.state === 'attached' && bootId === this.#options.bootId;
    return isThere && network?.driver === 'macvlan' ? record.sandbox : null;
  }

  #network(network: Network): DnsNetwork {
    const { id, name, subnets, internal, options } = network;
    const isCarried = this.#carried.has(id);
    return {
      id,
      name,
      internal,
      subnets: subnets.map(({ subnet }) => subnet),
      servers: (options['dns'] ?? '').split(',').filter(Boolean),
      listen: isCarried ? this.listenOf(network) : [],
    };
  }
}

/** Only what discovery needs: less to send, and nothing of the sandbox. */
function zoneEndpoint(record: Endpoint): ZoneEndpoint {
  const { id, network, host, addresses, name, aliases, labels, state, callerId, generation, ports } = record;
  const endpoint = { id, network, host, addresses, name, aliases, labels, state, callerId, generation };
  return ports === undefined ? endpoint : { ...endpoint, ports };
}

/** Leads port 53 of an address to where is listened, where another program has that port. */
export function redirections(places: readonly DnsPlace[]): TableElement[] {
  return places
    .filter(({ port }) => port !== dnsPort)
    .map(({ address, protocol, port }) => ({
      set: address.includes(':') ? 'port-at6' : 'port-at4',
      key: `${address} . ${protocol} . ${dnsPort}`,
      value: `${address} . ${port}`,
    }));
}
