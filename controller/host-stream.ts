import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { ErrorCode } from '../core/errors.js';
import { formatId } from '../core/ids.js';
import type { Cursor } from '../core/model.js';
import { encodeLine } from './watch-lines.js';

export interface StreamOptions {
  readonly host: string;
  readonly raw: ServerResponse;
  readonly cursor?: Cursor;
  readonly interest: readonly string[];
  /** Called at each heartbeat while the stream lives. */
  readonly onBeat: (stream: HostStream) => void;
  readonly onClose: (stream: HostStream) => void;
}

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
