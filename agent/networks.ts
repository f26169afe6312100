import type { NetworkView } from '../core/api/network.js';
import { TsnetError } from '../core/errors.js';
import type { Network } from '../core/model.js';
import { isNetworkRef } from '../core/name.js';
import type { ClusterState } from './state/cluster-state.js';
import type { ControllerClient } from './sync/controller-client.js';

/** How long the stream may take to bring a network that a controller has just named. */
const streamMs = 1000;

/**
 * Finds a network by name or id: in this host's copy, else at a controller, so that a network made a moment ago
 * on another host is found before the stream has brought it.
 * Errors: ERR_NETWORK_UNKNOWN, also while no controller can be asked.
 */
export class Networks {
  readonly #state: ClusterState;
  readonly #client: ControllerClient;

  constructor(state: ClusterState, client: ControllerClient) {
    this.#state = state;
    this.#client = client;
  }

  known(id: string): Network | undefined {
    return this.#state.network(id);
  }

  async find(ref: string): Promise<Network> {
    const known = this.#state.networkByRef(ref);
    if (known !== undefined) return known;
    if (!isNetworkRef(ref)) throw noNetwork(ref);
    const view = await this.#ask(ref);
    return (await this.#arrival(view.id)) ?? recordOf(view);
  }

  async #ask(ref: string): Promise<NetworkView> {
    try {
      return await this.#client.call<NetworkView>('GET', `/v1/networks/${encodeURIComponent(ref)}`, {
        timeoutMs: 2000,
      });
    } catch (error) {
      if (!(error instanceof TsnetError) || !error.retryable) throw error;
      throw new TsnetError(
        'ERR_NETWORK_UNKNOWN',
        `network "${ref}" is not known on this host, and no controller can be asked: ${error.message}`,
        {
          details: { network: ref },
          cause: error,
        },
      );
    }
  }

  #arrival(id: string): Promise<Network | undefined> {
    return new Promise((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        stop();
        resolve(this.#state.network(id));
      };
      const timer = setTimeout(finish, streamMs);
      const stop = this.#state.onChange((change) => {
        if (change.kind === 'network' && change.op === 'put' && change.value.id === id) finish();
      });
      if (this.#state.network(id) !== undefined) finish();
    });
  }
}

/** A view names the networks joined to it, where a record has their ids: the stream brings those. */
const recordOf = ({ joined: _, ...view }: NetworkView): Network => ({ v: 1, ...view });

/** What nobody has to be asked about: whoever wrote it may have written anything. */
function noNetwork(ref: string): TsnetError {
  const short = ref.length > 64 ? `${ref.slice(0, 61)}...` : ref;
  return new TsnetError('ERR_NETWORK_UNKNOWN', `there is no network ${JSON.stringify(short)}: it is no name of one`, {
    details: { network: short },
  });
}
