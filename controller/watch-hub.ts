import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { InterestChange } from '../core/api.js';
import { TsnetError, type ErrorCode } from '../core/errors.js';
import { formatId } from '../core/ids.js';
import type { Cursor } from '../core/model.js';
import type { Logger } from '../lib/log.js';
import type { Mirror } from './mirror.js';
import type { Change } from './tables.js';
import { changeLine, encodeLine, goneLine, isHeard, putLine, type HeardKind } from './watch-lines.js';

export interface HubOptions {
  readonly mirror: Mirror;
  readonly log: Logger;
  readonly beatMs: () => number;
  /** Hosts that are down for sure; undefined while that cannot be told. */
  readonly downHosts?: () => readonly string[] | undefined;
  /** Unsent bytes that a reader may have beyond a full set before it is dropped. */
  readonly maxUnsentBytes?: number;
}

export interface StreamOptions {
  readonly host: string;
  readonly raw: ServerResponse;
  readonly cursor?: Cursor;
  readonly interest: readonly string[];
  /** Called at each heartbeat while the stream lives. */
  readonly onBeat: (stream: HostStream) => void;
  readonly onClose: (stream: HostStream) => void;
}

const maxUnsentDefault = 8 * 1024 * 1024;
const closeGraceMs = 1000;

/** One host's stream of changes. */
export class HostStream {
  readonly id = formatId('stream', randomBytes(8));
  readonly host: string;
  readonly interest: Set<string>;
  /** Whether the agent has ever answered a heartbeat: then silence means that it is gone. */
  answersBeats = false;
  readonly #raw: ServerResponse;
  readonly #maxUnsentBytes: number;
  /** Bytes of full sets that may still be unsent. */
  #setBytes = 0;
  #isClosed = false;

  constructor(options: StreamOptions, maxUnsentBytes: number) {
    this.host = options.host;
    this.interest = new Set(options.interest);
    this.#raw = options.raw;
    this.#maxUnsentBytes = maxUnsentBytes;
  }

  get isClosed(): boolean {
    return this.#isClosed || this.#raw.destroyed;
  }

  /** Writes lines of a full set, which a reader may take its time for. */
  writeSet(lines: readonly Buffer[]): void {
    const bytes = Buffer.concat(lines);
    if (this.#raw.writableLength === 0) this.#setBytes = 0;
    this.#setBytes += bytes.length;
    this.#write(bytes);
  }

  /** Writes changes; false when the reader is too slow and was dropped. */
  write(lines: readonly Buffer[]): boolean {
    if (this.isClosed) return true;
    this.#write(lines.length === 1 && lines[0] !== undefined ? lines[0] : Buffer.concat(lines));
    const unsent = this.#raw.writableLength;
    if (unsent === 0) this.#setBytes = 0;
    if (unsent <= this.#maxUnsentBytes + this.#setBytes) return true;
    this.end('ERR_TOO_LARGE', `the stream was read too slowly: ${unsent} bytes are unsent`);
    return false;
  }

  /** Says why, and ends the stream; a reader that does not take it is cut off. */
  end(code: ErrorCode, message: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const raw = this.#raw;
    raw.end(encodeLine({ type: 'bye', code, message }));
    setTimeout(() => raw.destroy(), closeGraceMs).unref();
  }

  #write(bytes: Buffer): void {
    if (!this.isClosed) this.#raw.write(bytes);
  }
}

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
    if (missed === undefined) stream.writeSet([hello, ...this.#fullSet(stream)]);
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
    for (const network of change.add ?? []) {
      stream.interest.add(network);
      this.#addInterest(stream, network);
      stream.writeSet(this.#set(network, this.#networkRecords(network)));
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
    for (const change of changes) this.#listeners(change, say);
    // Names of a host that died go at once, and are back at once when it is.
    if (changes.some(({ kind }) => kind === 'liveness')) {
      const beat = this.#beat();
      for (const stream of this.#streams.values()) say(stream, beat);
    }
    for (const [stream, lines] of batches) if (!stream.write(lines)) this.#logSlow(stream);
  }

  #listeners(change: Change, say: (stream: HostStream, line: Buffer) => void): void {
    switch (change.kind) {
      case 'network':
      case 'policy':
      case 'settings':
        for (const stream of this.#streams.values()) say(stream, changeLine(change));
        return;
      case 'carrier':
      case 'endpoint':
      case 'service': {
        const network = (change.after ?? change.before)?.value.network ?? '';
        for (const stream of this.#byNetwork.get(network) ?? []) say(stream, changeLine(change));
        return;
      }
      case 'block':
      case 'carve':
        for (const host of hostsOf(change)) {
          const stream = this.#streams.get(host);
          const line = stream === undefined ? undefined : ownLine(host, change);
          if (stream !== undefined && line !== undefined) say(stream, line);
        }
        return;
      default:
    }
  }

  #fullSet(stream: HostStream): readonly Buffer[] {
    const { tables } = this.#options.mirror;
    const lines: Buffer[] = [];
    for (const stored of tables.settings.all()) lines.push(putLine('settings', stored));
    for (const stored of tables.network.all()) lines.push(putLine('network', stored));
    for (const stored of tables.policy.all()) lines.push(putLine('policy', stored));
    for (const stored of tables.block.all())
      if (stored.value.host === stream.host) lines.push(putLine('block', stored));
    for (const stored of tables.carve.group(stream.host).values()) lines.push(putLine('carve', stored));
    for (const network of stream.interest) lines.push(...this.#networkRecords(network));
    return this.#set('*', lines);
  }

  #networkRecords(network: string): readonly Buffer[] {
    const { tables } = this.#options.mirror;
    const lines: Buffer[] = [];
    for (const stored of tables.carrier.group(network).values()) lines.push(putLine('carrier', stored));
    for (const stored of tables.endpoint.group(network).values()) lines.push(putLine('endpoint', stored));
    for (const stored of tables.service.group(network).values()) lines.push(putLine('service', stored));
    return lines;
  }

  #set(scope: string, lines: readonly Buffer[]): readonly Buffer[] {
    const { revision } = this.#options.mirror;
    return [encodeLine({ type: 'begin', scope, revision }), ...lines, encodeLine({ type: 'end', scope, revision })];
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

function hostsOf(change: Change & { readonly kind: 'block' | 'carve' }): ReadonlySet<string> {
  const hosts = new Set<string>();
  for (const stored of [change.before, change.after]) {
    if (stored === undefined) continue;
    const host = 'owner' in stored.value ? stored.value.owner : stored.value.host;
    if (host !== null) hosts.add(host);
  }
  return hosts;
}

// A block that has gone to another host is gone for the one that had it.
function ownLine(host: string, change: Change & { readonly kind: 'block' | 'carve' }): Buffer {
  const isLost = change.kind === 'block' && change.after !== undefined && change.after.value.host !== host;
  return isLost ? goneLine(change) : changeLine(change);
}

/** The lines of past changes that a stream has an interest in. */
function linesFor(stream: HostStream, changes: readonly Change[]): readonly Buffer[] {
  const lines: Buffer[] = [];
  for (const change of changes) {
    if (!isHeard(change.kind)) continue;
    const heard = change as Change & { readonly kind: HeardKind };
    if (heard.kind === 'network' || heard.kind === 'policy' || heard.kind === 'settings') lines.push(changeLine(heard));
    else if (heard.kind === 'carrier' || heard.kind === 'endpoint' || heard.kind === 'service') {
      if (stream.interest.has((heard.after ?? heard.before)?.value.network ?? '')) lines.push(changeLine(heard));
    } else if (hostsOf(heard).has(stream.host)) lines.push(ownLine(stream.host, heard));
  }
  return lines;
}
