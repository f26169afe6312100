import { errnoName, errnoText } from './errno.js';

/** What the kernel adds to an error with `NETLINK_EXT_ACK` (linux/netlink.h, enum nlmsgerr_attrs). */
export interface ExtAck {
  /** The kernel's sentence; a success can carry one too, as a warning. */
  readonly message?: string;
  /** Where in the request the refused attribute begins, counted from the message header. */
  readonly offset?: number;
  /** Type of a required attribute that is missing. */
  readonly missingType?: number;
  /** Offset of the nest that lacks it; absent when it is missing from the message itself. */
  readonly missingNest?: number;
}

/** What a NetlinkError is made of. */
export interface NetlinkErrorOptions {
  /** Positive error number. */
  readonly errno: number;
  /** The request in words: `RTM_NEWNEIGH 02:42:0a:00:00:05 dev #7`. */
  readonly request: string;
  readonly extAck?: ExtAck | undefined;
  readonly cause?: unknown;
}

/**
 * The kernel refused a request. The message reads
 * `RTM_NEWNEIGH 02:42:0a:00:00:05 dev #7: EEXIST: File exists: <the kernel's sentence>`.
 */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError';
  readonly errno: number;
  /** The error's name, as native errors have it: `EEXIST`. */
  readonly code: string;
  readonly request: string;
  readonly extAck: ExtAck | undefined;

  constructor(options: NetlinkErrorOptions) {
    const code = errnoName(options.errno);
    const parts = [options.request, code, errnoText(options.errno)];
    const { extAck } = options;
    if (extAck?.message !== undefined) parts.push(extAck.message);
    if (extAck?.missingType !== undefined) parts.push(`attribute ${extAck.missingType} is missing`);
    super(parts.join(': '), options.cause === undefined ? undefined : { cause: options.cause });
    this.errno = options.errno;
    this.code = code;
    this.request = options.request;
    this.extAck = extAck;
  }

  /** Where in the request the refused attribute begins, counted from the message header. */
  get offset(): number | undefined {
    return this.extAck?.offset;
  }
}

/** Reports whether `error` is the kernel's refusal with one of these error names. */
export function isNetlinkError(error: unknown, ...codes: readonly string[]): error is NetlinkError {
  return error instanceof NetlinkError && (codes.length === 0 || codes.includes(error.code));
}

/** A dump stayed inconsistent (`NLM_F_DUMP_INTR`) however often it was repeated. */
export class DumpInterrupted extends Error {
  override readonly name = 'DumpInterrupted';

  constructor(
    readonly request: string,
    readonly attempts: number,
  ) {
    super(`${request}: changed while being listed, ${attempts} times in a row`);
  }
}

/** No answer came in time. Whether the kernel did the work is unknown. */
export class NetlinkTimeout extends Error {
  override readonly name = 'NetlinkTimeout';

  constructor(
    readonly request: string,
    readonly afterMs: number,
  ) {
    super(`${request}: no answer after ${afterMs} ms`);
  }
}

/** The connection was closed, by us or by a final socket error, with the request unanswered. */
export class NetlinkClosed extends Error {
  override readonly name = 'NetlinkClosed';

  constructor(
    readonly request: string,
    cause?: unknown,
  ) {
    const reason = cause instanceof Error ? `: ${cause.message}` : '';
    super(`${request}: the connection is closed${reason}`, cause === undefined ? undefined : { cause });
  }
}
