import type { WatchLine } from '../../core/api/watch.js';
import { TsnetError } from '../../core/errors.js';
import type { Block } from '../../core/model.js';

/** One stream from a controller, from its request to its end. */
export interface Session {
  readonly url: string;
  readonly abort: AbortController;
  /** The controller's name for it; null before its first line. */
  stream: string | null;
  /** Networks that the stream was asked for. */
  readonly asked: Set<string>;
  readonly blocks: Map<string, Block>;
  readonly carves: Set<string>;
  inFullSet: boolean;
  /** Carves that are gone, reported once every change of their revision is applied. */
  readonly goneCarves: { readonly id: string; readonly revision: number }[];
  /** A heartbeat's answer is on its way. */
  isAnswering: boolean;
  /** Changes of the interest go one after another. */
  interestSent: Promise<void>;
}

export function newSession(url: string, abort: AbortController, asked: Set<string>): Session {
  return {
    url,
    abort,
    stream: null,
    asked,
    blocks: new Map(),
    carves: new Set(),
    inFullSet: false,
    goneCarves: [],
    isAnswering: false,
    interestSent: Promise.resolve(),
  };
}

/** Silence before the first line. */
export const helloMs = 15_000;
/** The stream is dead after this many heartbeats missed. */
const missedBeats = 3;
/** Lines are applied this long before others get their turn. */
const sliceMs = 2;

/**
 * Hands on a stream's lines in slices, so that a large set does not hold up an attach.
 * Errors: ERR_CONTROLLER_UNREACHABLE for a stream that falls silent; those of `apply`, and of the lines.
 */
export async function applyLines(
  session: Session,
  lines: AsyncIterable<WatchLine>,
  apply: (line: WatchLine) => void,
): Promise<void> {
  let watchdog: NodeJS.Timeout | undefined;
  let silentMs = helloMs;
  let isSilent = false;
  let sliceStartMs = performance.now();
  const arm = (): void => {
    watchdog = setTimeout(() => {
      isSilent = true;
      session.abort.abort();
    }, silentMs);
  };
  arm();
  try {
    for await (const line of lines) {
      if (line.type === 'hello' && silentMs !== line.beatMs * missedBeats) {
        silentMs = line.beatMs * missedBeats;
        clearTimeout(watchdog);
        arm();
      }
      watchdog?.refresh();
      apply(line);
      if (performance.now() - sliceStartMs < sliceMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      sliceStartMs = performance.now();
    }
  } catch (error) {
    if (!isSilent) throw error;
    const text = `${session.url} was silent for ${silentMs} ms`;
    throw new TsnetError('ERR_CONTROLLER_UNREACHABLE', text, { cause: error });
  } finally {
    clearTimeout(watchdog);
  }
}
