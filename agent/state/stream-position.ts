import type { WatchLine } from '../../core/api/watch.js';
import type { Cursor } from '../../core/model.js';

/** A set that the stream is in the middle of. */
export interface OpenSet {
  readonly scope: string;
  readonly revision: number;
  /** Keys that it has named so far. */
  readonly named: Set<string>;
}

/** Where the watch stream stands, and how much of what it says is a whole. */
export class StreamPosition {
  readonly #onMove: () => void;
  #cursor: Cursor | null = null;
  /** Highest revision seen on this stream; others of the same revision may still come. */
  #revision = 0;
  #epoch = '';
  #isRebasing = false;
  /** Nothing that comes before the end of the full set moves the cursor. */
  #awaitsFullSet = false;
  #set: OpenSet | undefined;

  /** `onMove` is called when the cursor is another one. */
  constructor(onMove: () => void) {
    this.#onMove = onMove;
  }

  /** Where a stream can be taken up again; null: only with full sets. */
  get cursor(): Cursor | null {
    return this.#cursor;
  }

  /** The stream's store is not the one that the records are of, and has not been received as a whole yet. */
  get isRebasing(): boolean {
    return this.#isRebasing;
  }

  get set(): OpenSet | undefined {
    return this.#set;
  }

  /** A whole set of the same store: it may hold a record that was deleted and made anew, with a lower generation. */
  get isAuthority(): boolean {
    return this.#set !== undefined && !this.#isRebasing && this.#set.revision >= (this.#cursor?.revision ?? Infinity);
  }

  restore(cursor: Cursor): void {
    this.#cursor = cursor;
    this.#epoch = cursor.epoch;
    this.#revision = cursor.revision;
  }

  /** A stream begins. `hasRecords`: whether anything is known of the cluster. */
  hello(hello: Extract<WatchLine, { type: 'hello' }>, hasRecords: boolean): void {
    this.#set = undefined;
    this.#epoch = hello.epoch;
    this.#awaitsFullSet = !hello.resumed;
    const known = this.#cursor;
    const isOther = known === null ? hasRecords : known.epoch !== hello.epoch || hello.revision < known.revision;
    if (!isOther) return;
    // Until the first full set of this store is through, there is no position to go on from.
    this.#isRebasing = true;
    this.#awaitsFullSet = true;
    this.#cursor = null;
    this.#revision = 0;
    this.#onMove();
  }

  begin(scope: string, revision: number): void {
    this.#set = { scope, revision, named: new Set() };
  }

  /** Ends the open set; undefined where it is not the one that ends. */
  end(scope: string): OpenSet | undefined {
    const set = this.#set;
    this.#set = undefined;
    return set?.scope === scope ? set : undefined;
  }

  abandonSet(): void {
    this.#set = undefined;
  }

  /** The full set is through. */
  fullSetEnded(revision: number): void {
    this.#isRebasing = false;
    this.#awaitsFullSet = false;
    this.#revision = revision;
    this.#move(revision);
  }

  beat(revision: number): void {
    if (this.#set !== undefined || this.#awaitsFullSet) return;
    this.#revision = Math.max(this.#revision, revision);
    this.#move(this.#revision);
  }

  /** Changes of one revision come as several lines: the cursor stays below it until a later one shows that all came. */
  advance(revision: number): void {
    if (this.#set !== undefined || this.#awaitsFullSet || revision <= this.#revision) return;
    this.#move(this.#revision);
    this.#revision = revision;
  }

  #move(revision: number): void {
    if (this.#cursor === null && revision === 0) return;
    if (this.#cursor?.revision === revision && this.#cursor.epoch === this.#epoch) return;
    this.#cursor = { epoch: this.#epoch, revision };
    this.#onMove();
  }
}
