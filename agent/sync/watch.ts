import type { HostRegister, HostRegistered } from '../../core/api/host.js';
import type { WatchLine, WatchRequest } from '../../core/api/watch.js';
import { TsnetError, toTsnetError } from '../../core/errors.js';
import type { Block, Carve } from '../../core/model.js';
import type { Logger } from '../../lib/log.js';
import type { Journal } from '../journal/journal.js';
import type { ClusterState } from '../state/cluster-state.js';
import { isRecordOf } from '../state/record-check.js';
import { Backoff } from '../../lib/sync/backoff.js';
import type { ControllerClient } from './controller-client.js';
import { Interest } from './interest.js';
import { applyLines, helloMs, newSession, type Session } from './session.js';

/** What the stream brings besides the cluster's state, and where it stands. */
export interface WatchEvents {
  /** The stream lives. `rebased`: its store is another one, or was set back: what was published before does not count. */
  connected(rebased: boolean): void;
  disconnected(): void;
  /** The first full set of a rebased store is through, or the stream needed none. */
  settled(): void;
  /** A heartbeat: all that the stream had to say up to its revision has been applied. */
  progressed(): void;
  blockPut(block: Block): void;
  blockGone(network: string, cidr: string): void;
  /** All blocks of this host that the store has. */
  blockSet(blocks: readonly Block[]): void;
  carvePut(carve: Carve): void;
  carveGone(id: string): void;
  /** All open carves of this host's blocks. */
  carveSet(ids: ReadonlySet<string>): void;
}

export interface WatchOptions {
  readonly client: ControllerClient;
  readonly host: string;
  readonly journal: Journal;
  readonly state: ClusterState;
  readonly events: WatchEvents;
  readonly log: Logger;
  /** What this host says of itself; asked at each connection. */
  readonly register: () => HostRegister;
  readonly backoff?: Backoff;
}

/** A stream that lived this long makes the next delay short again. */
const stableMs = 5000;

/** Keeps one watch stream open at a controller and applies what it brings, forever. */
export class Watch {
  readonly #options: WatchOptions;
  readonly #backoff: Backoff;
  readonly #stop = new AbortController();
  readonly #interest: Interest;
  #session: Session | undefined;
  #attempt: AbortController | undefined;
  /** The stream ends because it was told to. */
  #isAgain = false;
  #running: Promise<void> | undefined;
  #error: TsnetError | null = null;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#backoff = options.backoff ?? new Backoff();
    this.#interest = new Interest(options.client, options.host);
  }

  /** The controller that the stream is open at; null while there is none. */
  get controller(): string | null {
    return (this.#session?.stream ?? null) === null ? null : (this.#session?.url ?? null);
  }

  /** Why there is no stream; null while there is one. */
  get error(): TsnetError | null {
    return this.#error;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#attempt?.abort();
    await this.#running;
  }

  /** Ends the stream, or what is under way to get one, and registers anew. */
  reconnect(): void {
    this.#backoff.reset();
    this.#isAgain = this.#attempt !== undefined;
    this.#attempt?.abort();
  }

  /** Wants carriers and endpoints of a network. */
  addInterest(network: string): void {
    if (this.#interest.add(network)) this.#sendInterest();
  }

  removeInterest(network: string): void {
    if (!this.#interest.remove(network)) return;
    this.#options.state.forget(network);
    this.#sendInterest();
  }

  async #run(): Promise<void> {
    const { log } = this.#options;
    while (!this.#stop.signal.aborted) {
      const startMs = performance.now();
      try {
        await this.#follow();
        this.#error = new TsnetError('ERR_CONTROLLER_UNREACHABLE', 'the controller ended the stream');
      } catch (error) {
        if (this.#isAgain) {
          this.#isAgain = false;
          continue;
        }
        const reason = toTsnetError(error);
        if (!this.#stop.signal.aborted && reason.code !== this.#error?.code)
          log.warn({ code: reason.code }, `watch: ${reason.message}`);
        this.#error = reason;
        if (reason.code !== 'ERR_CONTROLLER_UNREACHABLE') this.#options.client.skip();
      }
      if (performance.now() - startMs > stableMs) this.#backoff.reset();
      // Back in time to be taken for alive, also where the cluster's bound is short.
      const livenessMs = this.#options.state.settings?.livenessMs ?? Infinity;
      await this.#backoff.wait(this.#stop.signal, livenessMs / 4);
    }
  }

  /** One stream, from registering to its end. */
  async #follow(): Promise<void> {
    const { client, host, journal, state } = this.#options;
    const abort = new AbortController();
    this.#attempt = abort;
    this.#isAgain = false;
    const stop = (): void => abort.abort();
    this.#stop.signal.addEventListener('abort', stop, { once: true });
    const path = `/v1/hosts/${encodeURIComponent(host)}`;
    try {
      await client.call<HostRegistered>('PUT', path, { body: this.#options.register(), signal: abort.signal });
      const { cursor } = state;
      // A stream that goes on at a cursor brings only changes: networks never received as a whole are asked for afterwards.
      const asked = new Set(
        [...this.#interest.networks].filter((network) => cursor === null || state.isLoaded(network)),
      );
      const request: WatchRequest = {
        instance: journal.instance,
        interest: [...asked],
        ...(cursor === null ? {} : { cursor }),
      };
      const { url, lines } = await client.stream<WatchLine>('POST', `${path}/watch`, {
        body: request,
        signal: abort.signal,
        idleMs: helloMs,
      });
      const session = newSession(url, abort, asked);
      this.#session = session;
      await applyLines(session, lines, (line) => this.#apply(session, line));
    } finally {
      this.#stop.signal.removeEventListener('abort', stop);
      abort.abort();
      const wasConnected = this.controller !== null;
      this.#session = undefined;
      state.abandonSet();
      if (wasConnected) this.#options.events.disconnected();
    }
  }

  #apply(session: Session, line: WatchLine): void {
    const { state, log } = this.#options;
    if (session.stream === null && line.type !== 'hello') {
      if (line.type === 'bye') throw byeError(session.url, line.code, line.message);
      throw new TsnetError('ERR_INTERNAL', `the stream of ${session.url} begins with "${String(line.type)}"`);
    }
    try {
      state.apply(line);
    } catch (error) {
      const reason = toTsnetError(error);
      log.warn({ code: reason.code }, `watch: ${reason.message}`);
      return;
    }
    if (session.goneCarves.length > 0) this.#tellGoneCarves(session, line);
    switch (line.type) {
      case 'hello':
        this.#applyHello(session, line);
        break;
      case 'begin':
        session.inFullSet = line.scope === '*';
        session.blocks.clear();
        session.carves.clear();
        break;
      case 'put':
        this.#applyOwn(session, line);
        break;
      case 'gone':
        if (line.kind === 'block') this.#options.events.blockGone(line.network, line.id);
        else if (line.kind === 'carve') session.goneCarves.push({ id: line.id, revision: line.revision });
        break;
      case 'end':
        this.#applyEnd(session);
        break;
      case 'beat':
        this.#interest.answerBeat(session);
        this.#options.events.progressed();
        break;
      case 'bye':
        throw byeError(session.url, line.code, line.message);
    }
  }

  #applyHello(session: Session, hello: Extract<WatchLine, { type: 'hello' }>): void {
    const { journal, state, events, log } = this.#options;
    session.stream = hello.stream;
    this.#error = null;
    const isOther = journal.setEpoch(hello.epoch);
    if (state.isRebasing && !isOther) journal.forgetPublished();
    const rebased = isOther || state.isRebasing;
    log.info(
      { controller: session.url, epoch: hello.epoch, revision: hello.revision, resumed: hello.resumed, rebased },
      'watch: connected',
    );
    state.setInterest(new Set(session.asked), this.#interest.networks);
    events.connected(rebased);
    if (hello.resumed && !state.isRebasing) events.settled();
    this.#sendInterest();
  }

  #applyOwn(session: Session, line: Extract<WatchLine, { type: 'put' }>): void {
    const { events, host, log } = this.#options;
    if (line.kind !== 'block' && line.kind !== 'carve') return;
    if (!isRecordOf(line.kind, line.value)) {
      log.warn({ code: 'ERR_INVALID_REQUEST' }, `watch: the stream has a ${line.kind} that is none`);
    } else if (line.kind === 'carve') {
      if (line.value.owner !== host) return;
      session.carves.add(line.value.id);
      events.carvePut(line.value);
    } else {
      if (session.inFullSet) session.blocks.set(`${line.value.network}/${line.value.cidr}`, line.value);
      events.blockPut(line.value);
    }
  }

  #tellGoneCarves(session: Session, line: WatchLine): void {
    if (line.type === 'hello' || line.type === 'bye') return;
    const complete = line.type === 'beat' ? line.revision : line.revision - 1;
    for (
      let first = session.goneCarves[0];
      first !== undefined && first.revision <= complete;
      first = session.goneCarves[0]
    ) {
      session.goneCarves.shift();
      this.#options.events.carveGone(first.id);
    }
  }

  #applyEnd(session: Session): void {
    if (!session.inFullSet) return;
    session.inFullSet = false;
    this.#options.events.blockSet([...session.blocks.values()]);
    this.#options.events.carveSet(session.carves);
    this.#options.events.settled();
  }

  #sendInterest(): void {
    if (this.#session !== undefined) this.#interest.send(this.#session);
  }
}

function byeError(url: string, code: string, message: string): TsnetError {
  return new TsnetError('ERR_CONTROLLER_UNREACHABLE', `${url} ended the stream: ${code}: ${message}`);
}
