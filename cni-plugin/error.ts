import { TsnetError } from '../core/errors.js';

/** Error codes of the CNI specification 1.1.0; 999 is what the reference library has for errors without one. */
export const cniCode = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  io: 5,
  decode: 6,
  invalidConfig: 7,
  invalidNetns: 8,
  tryAgainLater: 11,
  notAvailable: 50,
  limited: 51,
  internal: 999,
} as const;

/** An error as runtimes get it. */
export class CniError extends Error {
  readonly code: number;
  readonly details: string;

  constructor(code: number, msg: string, details = '') {
    super(msg);
    this.name = 'CniError';
    this.code = code;
    this.details = details;
  }
}

/** Turns anything thrown into what a runtime can be told: an error of ours keeps message and hint. */
export function toCniError(thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown;
  if (thrown instanceof TsnetError) return new CniError(thrown.cni, thrown.message, `${thrown.hint} (${thrown.code})`);
  return new CniError(cniCode.internal, thrown instanceof Error ? thrown.message : String(thrown));
}

/** The text of an error on standard output, laid out as the reference library does. */
export function formatError(error: CniError, cniVersion: string): string {
  const { code, message: msg, details } = error;
  return `${JSON.stringify({ cniVersion, code, msg, ...(details === '' ? {} : { details }) }, null, 4)}\n`;
}
