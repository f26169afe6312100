import { formatResolvConf, resolverSettings, type ResolverSettings } from '../../core/dns/resolver.js';
import type { Network } from '../../core/model.js';
import type { OwnIndex } from '../attach/own-index.js';
import type { DnsFeed } from './feed.js';
import { HostResolver } from './upstreams.js';

export interface SandboxResolverOptions {
  readonly feed: DnsFeed;
  readonly domain: string;
  readonly own: OwnIndex;
  readonly knownNetwork: (id: string) => Network | undefined;
}

/** What sandboxes are told about name servers. */
export class SandboxResolver {
  readonly #options: SandboxResolverOptions;
  readonly #host = new HostResolver();

  constructor(options: SandboxResolverOptions) {
    this.#options = options;
  }

  /** What a sandbox that is on this network alone is told. */
  ofNetwork(network: Network): ResolverSettings {
    return this.#settings([network]);
  }

  /** What a sandbox with all these networks is told. */
  ofNetworks(networks: readonly Network[]): ResolverSettings & { readonly text: string } {
    const settings = this.#settings(networks);
    return { ...settings, text: formatResolvConf(settings) };
  }

  /** Network ids that a sandbox of this host is on, the longest attached first. */
  networksOfSandbox(cookie: string): string[] {
    const records = this.#options.own
      .ofSandbox(cookie)
      .flatMap(({ record }) => (record.state === 'detaching' ? [] : record));
    const inOrder = records.sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1));
    return [...new Set(inOrder.map(({ network }) => network))];
  }

  /** The resolv.conf of a sandbox of this host; null while one of its networks is not known. */
  textOf(cookie: string): string | null {
    const ids = this.networksOfSandbox(cookie);
    const networks = ids.flatMap((id) => this.#options.knownNetwork(id) ?? []);
    return networks.length < ids.length ? null : this.ofNetworks(networks).text;
  }

  #settings(networks: readonly Network[]): ResolverSettings {
    const { feed, domain } = this.#options;
    const joined = networks.map((network) => {
      return { name: network.name, isInternal: network.internal, listen: feed.listenOf(network) };
    });
    return resolverSettings(joined, domain, this.#host.get().search);
  }
}
