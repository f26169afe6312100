import type { DnsNameView } from '../../core/api/dns.js';
import { listenAddresses } from '../../core/dns/resolver.js';
import { zoneEndpoint, type ZoneEndpoint } from '../../core/dns/zone-endpoint.js';
import type { Network } from '../../core/model.js';
import type { TableElement } from '../../core/nft/element.js';
import type { Logger } from '../../lib/log.js';
import type { NativeApi } from '../../native/api.js';
import type { OwnIndex } from '../attach/own-index.js';
import type { Journal } from '../journal/journal.js';
import type { ClusterState } from '../state/cluster-state.js';
import { listNames } from './known-names.js';
import { HeldSockets } from './held-sockets.js';
import { ListenedPlaces } from './listened-places.js';
import type { DnsExplained, DnsNetwork, DnsPlace, DnsSettings, ToAgent, ToServer } from './protocol.js';
import { OwnTeller } from './own-teller.js';
import { Questions } from './questions.js';
import { redirections } from './redirections.js';
import { ServerLink } from './server-link.js';

export interface DnsFeedOptions {
  readonly native: NativeApi;
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

const answerMs = 2000;
const awayMs = 5000;
const elementOwner = 'dns';

/**
 * Keeps the name server running and knowing what this host knows. It is another process: neither does answering hold up
 * attaching, nor does a restart of the agent close a socket that containers ask.
 */
export class DnsFeed {
  readonly #options: DnsFeedOptions;
  readonly #link: ServerLink;
  readonly #questions = new Questions();
  readonly #carried = new Map<string, readonly string[]>();
  readonly #stops: (() => void)[] = [];
  readonly #teller: OwnTeller;
  readonly #places = new ListenedPlaces();
  readonly #sockets: HeldSockets;
  /** Ids that each service was last told with. */
  readonly #services = new Map<string, readonly string[]>();

  constructor(options: DnsFeedOptions) {
    this.#options = options;
    const { socket, program, state, journal, log } = options;
    this.#sockets = new HeldSockets(options);
    this.#link = new ServerLink({
      socket,
      program,
      log,
      sockets: () => this.#sockets.all,
      onConnected: (pid) => {
        this.#sockets.begin(pid);
        this.#tellAll();
      },
      onMessage: (message) => this.#hear(message),
      onAway: () => {
        this.#sockets.wait();
        this.#places.look();
      },
    });
    this.#teller = new OwnTeller({ ...options, link: this.#link });
    // As before the restart: a whole set that lacked them would close sockets that are being asked.
    for (const { record } of journal.carriers()) this.#carried.set(record.network, record.addresses);
    this.#stops.push(
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
    return this.#places.all;
  }

  get warnings(): readonly { readonly code: string; readonly message: string }[] {
    const failed = this.#places.failed.map((reason) => `the name server cannot listen: ${reason}`);
    const away = this.#carried.size > 0 && this.#link.awayMs > awayMs ? ['the name server is not there'] : [];
    return [...failed, ...away].map((message) => ({ code: 'ERR_DNS_UNAVAILABLE', message }));
  }

  /** Finds the name server that runs, or starts one: before the first sandbox may ask. */
  start(): void {
    this.#link.connect();
  }

  /**
   * Resolves when a name server that outlived the last agent has said where it listens, so that rules loaded anew lead
   * there; at once where none did, and after a while in any case.
   */
  resumed(): Promise<void> {
    return this.#places.until(() => this.#link.isClosed || this.#link.hasFailed || this.#places.isKnown);
  }

  /** Resolves when a network's sandboxes are listened to, or after a while: attaching does not fail for names. */
  settled(id: string): Promise<void> {
    const network = this.#options.knownNetwork(id);
    const wanted = network === undefined ? [] : this.listenOf(network);
    return this.#places.until(() => this.#link.isClosed || wanted.every((address) => this.#places.isListened(address)));
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
    return this.#questions.ask(
      (id) => {
        this.#teller.flush();
        this.#tell({ do: 'ask', question: { id, name, type, from } });
      },
      this.#link.isConnected ? answerMs : 0,
    );
  }

  /** All names that this host answers, each once for each endpoint that has it. */
  list(): DnsNameView[] {
    return listNames({ ...this.#options, domain: this.#options.settings.domain });
  }

  /** Lets go of it; it goes on answering. */
  close(): void {
    this.#teller.close();
    for (const stop of this.#stops.splice(0)) stop();
    this.#link.close();
    this.#sockets.releaseAll();
  }

  #hear(message: Exclude<ToAgent, { readonly say: 'hello' }>): void {
    switch (message.say) {
      case 'answer':
        this.#questions.answer(message.id, message.answer);
        return;
      case 'open':
      case 'closed':
        this.#sockets.hear(message);
        return;
      case 'places':
        this.#places.set(message.places, message.failed);
        this.#options.setElements(elementOwner, redirections(message.places));
    }
  }

  #tell(message: ToServer): void {
    this.#link.tell(message);
  }

  #tellAll(): void {
    const { state, journal, settings } = this.#options;
    this.#link.together(() => {
      this.#tell({ do: 'begin', settings });
      for (const network of state.networks()) {
        this.#tell({ do: 'network', value: this.#network(network) });
        for (const endpoint of state.endpointsOf(network.id))
          this.#tell({ do: 'endpoint', value: zoneEndpoint(endpoint) });
        for (const { name } of state.servicesOf(network.id)) this.serviceChanged(network.id, name);
      }
      this.#teller.tellAll([...journal.endpoints()].map(({ record }) => record.id));
      this.#tell({ do: 'down', hosts: [...state.downHosts] });
      this.#tell({ do: 'end' });
    });
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
