import { zoneEndpoint } from '../../core/dns/zone-endpoint.js';
import { isListed } from '../../core/found-endpoint.js';
import type { Network } from '../../core/model.js';
import type { OwnIndex } from '../attach/own-index.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { ServerLink } from './server-link.js';

export interface OwnTellerOptions {
  readonly link: Pick<ServerLink, 'tell' | 'together'>;
  readonly own: Pick<OwnIndex, 'get' | 'onChange'>;
  readonly knownNetwork: (id: string) => Network | undefined;
  readonly bootId: string;
}

/** So long changes are gathered. */
const gatherMs = 4;

/** Tells the name server of this host's own endpoints: those that answer, and each as often as it is another one. */
export class OwnTeller {
  readonly #options: OwnTellerOptions;
  /** Those that have changed since it was told. */
  readonly #changed = new Set<string>();
  /** What it was last told of each. */
  readonly #told = new Map<string, string>();
  readonly #stop: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: OwnTellerOptions) {
    this.#options = options;
    this.#stop = options.own.onChange((id) => this.#tellSoon(id));
  }

  /** As a part of all that it is told. */
  tellAll(ids: Iterable<string>): void {
    this.#told.clear();
    for (const id of ids) this.#tell(id);
  }

  /** What has changed, at once. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#tellChanged();
  }

  #tellChanged(): void {
    this.#timer = undefined;
    this.#options.link.together(() => {
      for (const id of this.#changed) this.#tell(id);
    });
    this.#changed.clear();
  }

  close(): void {
    this.flush();
    this.#stop();
  }

  /** An attach changes its endpoint several times, and its caller waits for no name. */
  #tellSoon(id: string): void {
    this.#changed.add(id);
    this.#timer ??= setTimeout(() => this.#tellChanged(), gatherMs);
  }

  #tell(id: string): void {
    const { link, own: index } = this.#options;
    const own = index.get(id);
    // One that is only reserved, or goes, is nobody's who asks.
    if (own === undefined || !isListed(own.record)) {
      if (!this.#told.delete(id)) return;
      link.tell({ do: 'gone', kind: 'endpoint', id });
      link.tell({ do: 'gone', kind: 'own', id });
      return;
    }
    const { record, cookie } = own;
    const inside = this.#inside(own);
    const told = `${record.generation} ${record.state} ${cookie ?? ''} ${inside ?? ''}`;
    if (this.#told.get(id) === told) return;
    this.#told.set(id, told);
    link.tell({ do: 'endpoint', value: zoneEndpoint(record) });
    link.tell({ do: 'own', value: { endpoint: id, sandbox: cookie, inside } });
  }

  /** Where to open a socket: in sandboxes that cannot reach an address of their host. */
  #inside({ record, bootId }: OwnEndpoint): string | null {
    const isThere = record.state === 'attached' && bootId === this.#options.bootId;
    return isThere && this.#options.knownNetwork(record.network)?.driver === 'macvlan' ? record.sandbox : null;
  }
}
