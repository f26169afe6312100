import { cniCode, CniError } from './error.js';

/**
 * A call as it comes from the native program and stands in the spool: variables `NAME=value`, each ending in NUL,
 * one more NUL, and standard input as it was.
 */
export interface CniCall {
  readonly environment: Readonly<Record<string, string>>;
  readonly stdin: string;
}

/** The native program's bounds: 1 MiB of configuration, 128 KiB of variables and their names. */
export const maxFrameBytes = (1024 + 130) * 1024;

/** Reads a frame. Errors: 6. */
export function decodeFrame(bytes: Buffer): CniCall {
  const environment: Record<string, string> = {};
  let at = 0;
  for (;;) {
    const end = bytes.indexOf(0, at);
    if (end < 0) throw new CniError(cniCode.decode, 'the call is cut short');
    if (end === at) return { environment, stdin: bytes.toString('utf8', end + 1) };
    const text = bytes.toString('utf8', at, end);
    const sign = text.indexOf('=');
    if (!/^CNI_[A-Z_]+$/.test(text.slice(0, Math.max(sign, 0))))
      throw new CniError(cniCode.decode, 'the call has a variable that is not CNI’s');
    environment[text.slice(0, sign)] = text.slice(sign + 1);
    at = end + 1;
  }
}

/** Writes a frame. */
export function encodeFrame({ environment, stdin }: CniCall): Buffer {
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}\0`);
  return Buffer.from(`${variables.join('')}\0${stdin}`);
}
