import type { InterestChange } from '../../core/api/watch.js';
import { toTsnetError } from '../../core/errors.js';
import type { ControllerClient } from './controller-client.js';
import type { Session } from './session.js';

/** Networks whose carriers, endpoints and services this host wants, and what a controller is told of them. */
export class Interest {
  readonly #networks = new Set<string>();
  readonly #client: ControllerClient;
  readonly #path: string;

  constructor(client: ControllerClient, host: string) {
    this.#client = client;
    this.#path = `/v1/hosts/${encodeURIComponent(host)}/interest`;
  }

  /** Those wanted now: a live set. */
  get networks(): ReadonlySet<string> {
    return this.#networks;
  }

  /** Reports whether it was not wanted before. */
  add(network: string): boolean {
    if (this.#networks.has(network)) return false;
    this.#networks.add(network);
    return true;
  }

  /** Reports whether it was wanted. */
  remove(network: string): boolean {
    return this.#networks.delete(network);
  }

  /** Tells the controller what has changed since the stream was asked for. */
  send(session: Session): void {
    if (session.stream === null) return;
    session.interestSent = session.interestSent.then(() => this.#sendChange(session));
  }

  /** The sign of life that the controller renews this host's liveness by. */
  answerBeat(session: Session): void {
    if (session.isAnswering || session.stream === null) return;
    session.isAnswering = true;
    const { stream } = session;
    session.interestSent = session.interestSent.then(async () => {
      await this.#post(session, { stream });
      session.isAnswering = false;
    });
  }

  async #sendChange(session: Session): Promise<void> {
    if (session.stream === null || session.abort.signal.aborted) return;
    const add = [...this.#networks].filter((network) => !session.asked.has(network));
    const remove = [...session.asked].filter((network) => !this.#networks.has(network));
    if (add.length === 0 && remove.length === 0) return;
    for (const network of add) session.asked.add(network);
    for (const network of remove) session.asked.delete(network);
    await this.#post(session, { stream: session.stream, add, remove });
  }

  async #post({ url, abort }: Session, body: InterestChange): Promise<void> {
    try {
      await this.#client.call<undefined>('POST', this.#path, { body, url, repeatable: true, signal: abort.signal });
    } catch (error) {
      // An answer to a heartbeat may fail for a while; silence tells of a controller that is dead.
      if (body.add === undefined && toTsnetError(error).retryable) return;
      // The next stream asks for everything that is wanted.
      abort.abort();
    }
  }
}
