import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import type { PortRequest } from '../core/api/port.js';
import { TsnetError } from '../core/errors.js';
import { parsePortSpec } from '../core/ports.js';

/** Readers of option values, in the shape commander calls them: (text, what came before) → value. */

export function collect(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/** Collects values that may also come several in one, with commas between. */
export function collectList(text: string, before: readonly string[] = []): readonly string[] {
  const parts = text.split(',').map((part) => part.trim());
  if (parts.includes('')) throw new InvalidArgumentError('Write values with single commas between.');
  return [...before, ...parts];
}

/** Collects `K=V`; the value may be empty and may hold further `=`. */
export function collectPairs(
  text: string,
  before: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Write KEY=VALUE.');
  const [key, value] = [text.slice(0, at), text.slice(at + 1)];
  refuseTwice(before, key, value);
  return { ...before, [key]: value };
}

/** Which of two values is meant, nobody can tell. */
function refuseTwice(before: Readonly<Record<string, string | null>>, key: string, value: string | null): void {
  if (Object.hasOwn(before, key) && before[key] !== value)
    throw new InvalidArgumentError(`${key} is there already with another value.`);
}

/** Collects ports to publish. Errors: ERR_INVALID_PORT, ERR_INVALID_ADDRESS. */
export function collectPorts(text: string, before: readonly PortRequest[] = []): readonly PortRequest[] {
  return [...before, parsePortSpec(text)];
}

/** Collects changes of labels: `K=V` sets, `K-` removes. */
export function collectLabelChanges(
  text: string,
  before: Readonly<Record<string, string | null>> = {},
): Readonly<Record<string, string | null>> {
  if (!text.includes('=')) {
    if (text.length < 2 || !text.endsWith('-'))
      throw new InvalidArgumentError('Write KEY=VALUE to set, KEY- to remove.');
    const key = text.slice(0, -1);
    refuseTwice(before, key, null);
    return { ...before, [key]: null };
  }
  const [[key, value] = ['', '']] = Object.entries(collectPairs(text));
  refuseTwice(before, key, value);
  return { ...before, [key]: value };
}

/** A reader of whole numbers within bounds. */
export function parseWhole(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^(0|[1-9][0-9]{0,9})$/.test(text) ? Number(text) : NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Write a whole number from ${least} to ${most}.`);
  };
}

const durationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Reads `500ms`, `10s`, `2m`, `1h` as milliseconds. */
export function parseDurationMs(text: string): number {
  const match = /^([1-9][0-9]{0,5})(ms|s|m|h)$/.exec(text);
  const unit = durationUnits[match?.[2] ?? ''];
  if (match === null || unit === undefined)
    throw new InvalidArgumentError('Write a duration such as 500ms, 10s or 2m.');
  return Number(match[1]) * unit;
}

/** A duration, or a number of seconds as docker's and kubectl's options for this take it. */
export function parseDrain(text: string): number {
  return parseDurationMs(/^[0-9]+$/.test(text) ? `${text}s` : text);
}

/** Writes milliseconds as `parseDurationMs` reads them, in the largest unit that fits. */
export function formatDuration(durationMs: number): string {
  for (const unit of ['h', 'm', 's']) {
    const unitMs = durationUnits[unit] ?? 1;
    if (durationMs >= unitMs && durationMs % unitMs === 0) return `${durationMs / unitMs}${unit}`;
  }
  return `${durationMs}ms`;
}

/** Checks a server's place: `http://HOST:PORT` or `unix:PATH`; a relative path is made absolute. */
export function parseServer(text: string, cwd: string): string {
  if (text.startsWith('unix:') && text.length > 'unix:'.length)
    return `unix:${resolve(cwd, text.slice('unix:'.length))}`;
  if (URL.canParse(text) && new URL(text).protocol === 'http:') return text;
  throw new TsnetError('ERR_USAGE', `"${text}" is neither http://HOST:PORT nor unix:PATH`, {
    hint: 'Write for example http://127.0.0.1:7420.',
  });
}

/** The value without the fields that are undefined, for types whose fields may be absent but not undefined. */
export function present<T extends object>(value: { readonly [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}
