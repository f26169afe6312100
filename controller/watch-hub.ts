import type { InterestChange } from '../core/api/watch.js';
import { TsnetError, type ErrorCode } from '../core/errors.js';
import type { Logger } from '../lib/log.js';
import { audienceOf, isHeardChange, lineFor, linesFor, type HeardChange } from './audience.js';
import { fullSet, networkSet } from './full-set.js';
import { HostStream, type StreamOptions } from './host-stream.js';
import type { Mirror } from './mirror.js';
import type { Change } from './tables.js';
import { encodeLine } from './watch-lines.js';

export interface HubOptions {
  readonly mirror: Mirror;
  readonly log: Logger;
  readonly beatMs: () => number;
  /** Hosts that are down for sure; undefined while that cannot be told. */
  readonly downHosts?: () => readonly string[] | undefined;
  /** Unsent bytes that a reader may have beyond a full set before it is dropped. */
  readonly maxUnsentBytes?: number;
}

const maxUnsentDefault = 8 * 1024 * 1024;

/**
 * Sends every change to the hosts that it concerns: networks, policies and settings to all; carriers, endpoints and services to
 * hosts interested in their network; blocks and carves to their host. All of it happens in the turn in which the
 * mirror changes, so a stream is always exactly at the mirror's revision and a full set fits between two changes.
 */
export class WatchHub {
  readonly #options: HubOptions;
  readonly #streams = new Map<string, HostStream>();
  readonly #byNetwork = new Map<string, Set<HostStream>>();
  readonly #timers = new Map<HostStream, NodeJS.Timeout>();
  readonly #unlisten: () => void;

  constructor(options: HubOptions) {
    this.#options = options;
    this.#unlisten = options.mirror.listen({
      onChanges: (changes) => this.#spread(changes),
      onReset: () => this.endAll('ERR_STORE_UNREACHABLE', 'the store is another one than before: start with full sets'),
    });
  }

  get size(): number {
    return this.#streams.size;
  }

  stream(host: string): HostStream | undefined {
    return this.#streams.get(host);
  }

  /** Starts a stream in the place of the host's former one: resumed at the cursor, or with full sets. */
  open(options: StreamOptions): HostStream {
    const { mirror } = this.#options;
    this.#streams.get(options.host)?.end('ERR_HOST_NAME_IN_USE', 'a newer stream of this host takes over');
    const stream = new HostStream(options, this.#options.maxUnsentBytes ?? maxUnsentDefault);
    const beatMs = this.#options.beatMs();
    options.raw.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
    const missed = options.cursor === undefined ? undefined : mirror.changesSince(options.cursor);
    const hello = encodeLine({
      type: 'hello',
      stream: stream.id,
      epoch: mirror.epoch,
      revision: mirror.revision,
      beatMs,
      resumed: missed !== undefined,
    });
    if (missed === undefined) stream.writeSet([hello, ...fullSet(mirror.tables, stream, mirror.revision)]);
    else stream.writeSet([hello, ...linesFor(stream, missed)]);
    this.#streams.set(stream.host, stream);
    for (const network of stream.interest) this.#addInterest(stream, network);
    const timer = setInterval(() => {
      if (!stream.write([this.#beat()])) this.#logSlow(stream);
      if (!stream.isClosed) options.onBeat(stream);
    }, beatMs);
    this.#timers.set(stream, timer);
    options.raw.on('error', () => undefined);
    options.raw.once('close', () => {
      this.#forget(stream);
      options.onClose(stream);
    });
    return stream;
  }

  /**
   * Changes what a stream hears: an added network's full set follows at once, at the revision the stream is at.
   * Errors: ERR_NOT_FOUND when the stream is not here.
   */
  changeInterest(host: string, change: InterestChange): void {
    const stream = this.#streams.get(host);
    if (stream === undefined || stream.id !== change.stream || stream.isClosed) {
      throw new TsnetError('ERR_NOT_FOUND', `stream: ${change.stream} of host ${host} is not open here`);
    }
    for (const network of change.remove ?? []) {
      stream.interest.delete(network);
      this.#dropInterest(stream, network);
    }
    const { mirror } = this.#options;
    for (const network of change.add ?? []) {
      stream.interest.add(network);
      this.#addInterest(stream, network);
      stream.writeSet(networkSet(mirror.tables, network, mirror.revision));
    }
    if ((change.add ?? []).length === 0 && (change.remove ?? []).length === 0) stream.answersBeats = true;
  }

  /** Ends a host's stream. */
  end(host: string, code: ErrorCode, message: string): void {
    this.#streams.get(host)?.end(code, message);
  }

  endAll(code: ErrorCode, message: string): void {
    for (const stream of [...this.#streams.values()]) stream.end(code, message);
  }

  close(): void {
    this.#unlisten();
    this.endAll('ERR_STOPPING', 'the controller stops');
    for (const timer of this.#timers.values()) clearInterval(timer);
  }

  #beat(): Buffer {
    const { mirror, downHosts } = this.#options;
    const down = downHosts?.();
    return encodeLine({ type: 'beat', revision: mirror.revision, ...(down === undefined ? {} : { down }) });
  }

  #spread(changes: readonly Change[]): void {
    const batches = new Map<HostStream, Buffer[]>();
    const say = (stream: HostStream, line: Buffer): void => {
      const lines = batches.get(stream);
      if (lines === undefined) batches.set(stream, [line]);
      else lines.push(line);
    };
    for (const change of changes.filter(isHeardChange))
      for (const stream of this.#listeners(change)) say(stream, lineFor(stream.host, change));
    // Names of a host that died go at once, and are back at once when it is.
    if (changes.some(({ kind }) => kind === 'liveness')) {
      const beat = this.#beat();
      for (const stream of this.#streams.values()) say(stream, beat);
    }
    for (const [stream, lines] of batches) if (!stream.write(lines)) this.#logSlow(stream);
  }

  #listeners(change: HeardChange): Iterable<HostStream> {
    const audience = audienceOf(change);
    switch (audience.of) {
      case 'all':
        return this.#streams.values();
      case 'network':
        return this.#byNetwork.get(audience.network) ?? [];
      case 'hosts':
        return [...audience.hosts].flatMap((host) => this.#streams.get(host) ?? []);
    }
  }

  #addInterest(stream: HostStream, network: string): void {
    const held = this.#byNetwork.get(network);
    if (held === undefined) this.#byNetwork.set(network, new Set([stream]));
    else held.add(stream);
  }

  #dropInterest(stream: HostStream, network: string): void {
    const held = this.#byNetwork.get(network);
    held?.delete(stream);
    if (held?.size === 0) this.#byNetwork.delete(network);
  }

  #forget(stream: HostStream): void {
    clearInterval(this.#timers.get(stream));
    this.#timers.delete(stream);
    for (const network of stream.interest) this.#dropInterest(stream, network);
    if (this.#streams.get(stream.host) === stream) this.#streams.delete(stream.host);
  }

  #logSlow(stream: HostStream): void {
    this.#options.log.warn({ host: stream.host }, 'host stream dropped: read too slowly');
  }
}
