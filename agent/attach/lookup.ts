import type { DetachRequest } from '../../core/api/attach.js';
import { TsnetError, toTsnetError } from '../../core/errors.js';
import type { Network } from '../../core/model.js';
import type { NativeApi } from '../../native/api.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { Journal } from '../journal/journal.js';
import type { OwnIndex } from './own-index.js';
import { parseTarget } from './target.js';

export interface EndpointLookupOptions {
  readonly native: Pick<NativeApi, 'netnsCookies'>;
  readonly journal: Journal;
  readonly own: OwnIndex;
  /** A network by name or id; asks a controller where this host does not know it yet. */
  readonly network: (ref: string) => Promise<Network>;
  /** A network this host knows, by id. */
  readonly knownNetwork: (id: string) => Network | undefined;
}

/** Finds the endpoints of this host that a request means. */
export class EndpointLookup {
  readonly #options: EndpointLookupOptions;

  constructor(options: EndpointLookupOptions) {
    this.#options = options;
  }

  /** An endpoint by id, by caller's id or by name, where that is one. Errors: ERR_ENDPOINT_UNKNOWN, ERR_INVALID_REQUEST. */
  byRef(ref: string): OwnEndpoint {
    const { own, journal } = this.#options;
    const byId = own.get(ref);
    if (byId !== undefined) return byId;
    const found = [...journal.endpoints()].filter(({ record }) => record.name === ref || record.callerId === ref);
    const [only, ...others] = found;
    if (only !== undefined && others.length === 0) return only;
    const ids = found.map(({ record }) => record.id);
    if (only !== undefined) {
      throw new TsnetError('ERR_INVALID_REQUEST', `"${ref}" names several endpoints of this host: ${ids.join(', ')}`, {
        details: { endpoints: ids },
      });
    }
    throw new TsnetError('ERR_ENDPOINT_UNKNOWN', `this host has no endpoint "${ref}"`, { details: { endpoint: ref } });
  }

  /** The network of an endpoint. Errors: ERR_NETWORK_UNKNOWN. */
  networkOf(entry: OwnEndpoint): Network {
    const network = this.#options.knownNetwork(entry.record.network);
    if (network !== undefined) return network;
    throw new TsnetError(
      'ERR_NETWORK_UNKNOWN',
      `network ${entry.record.network} of endpoint ${entry.record.id} is not known here`,
    );
  }

  /**
   * Whose endpoints a detach is about: the network's id, and the callers' ids. Null: there can be none.
   * Errors: ERR_INVALID_REQUEST, ERR_INVALID_TARGET; those of looking for the network.
   */
  async callersMeant(request: DetachRequest): Promise<{ network: string; callers: readonly string[] } | null> {
    const network = await this.#networkMeant(request);
    return network === null ? null : { network, callers: await this.#callersIn(network, request) };
  }

  /**
   * The network of a detach. One that the cluster does not know (any more) may still have endpoints here: by its id, or
   * as the only one of those unknown that the caller's sandbox or id is in.
   */
  async #networkMeant(request: DetachRequest): Promise<string | null> {
    try {
      return (await this.#options.network(request.network)).id;
    } catch (error) {
      const { code } = toTsnetError(error);
      if (code !== 'ERR_NETWORK_UNKNOWN' && code !== 'ERR_CONTROLLER_UNREACHABLE') throw error;
    }
    const strays = [...this.#options.journal.endpoints()].filter(
      ({ record }) => this.#options.knownNetwork(record.network) === undefined,
    );
    const byId = strays.find(({ record }) => record.network === request.network);
    if (byId !== undefined) return byId.record.network;
    const own = strays.filter(
      ({ record }) =>
        (request.id ?? record.callerId) === record.callerId && (request.target ?? record.sandbox) === record.sandbox,
    );
    const networks = new Set(own.map(({ record }) => record.network));
    const [only] = networks;
    return only === undefined || networks.size > 1 ? null : only;
  }

  async #callersIn(network: string, request: DetachRequest): Promise<string[]> {
    const { own, native, journal } = this.#options;
    if (request.id !== undefined) return [request.id];
    if (request.target === undefined) {
      throw new TsnetError('ERR_INVALID_REQUEST', 'a detach needs a target or an id', { details: { field: 'target' } });
    }
    const target = parseTarget(request.target);
    const [cookie] = await native.netnsCookies([target.ref]);
    const found =
      typeof cookie === 'bigint'
        ? own.ofSandbox(String(cookie))
        : journal.endpointsOf(network).filter((each) => each.record.sandbox === target.text);
    return [...new Set(found.filter((each) => each.record.network === network).map((each) => each.record.callerId))];
  }
}
