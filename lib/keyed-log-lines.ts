import { crc32 } from 'node:zlib';
import { TsnetError } from '../core/errors.js';

/** How lines are read. */
export interface LineOptions<V> {
  /** Checks what a line holds; null drops the entry, which is reported as refused. Default: takes everything. */
  readonly accept?: (key: string, value: unknown) => V | null;
  /** Longest line, bytes. Default 1 MiB. */
  readonly maxLineBytes?: number;
}

/** What was read of a log. */
export interface LoadedLog<V> {
  readonly live: Map<string, V>;
  /** Length of the file without its torn end. */
  readonly sizeBytes: number;
  readonly lines: number;
  readonly damaged: number;
  readonly refused: readonly string[];
}

interface ParsedLine {
  readonly payload: Buffer;
  /** Offset of the byte after the payload, where the newline belongs. */
  readonly end: number;
}

const defaultMaxLineBytes = 1024 * 1024;
/** `CRC32 LENGTH `: eight hexadecimal digits, a decimal length, a space each. */
const maxHeaderBytes = 8 + 1 + 10 + 1;
const newline = 0x0a;

/**
 * Reads a log as a whole: lines of `CRC32 LENGTH JSON`, JSON being `[key, value]` for a put and `[key]` for a delete.
 * A torn last line is left out; damage elsewhere costs the lines it hit and no others.
 */
export function parseLog<V>(bytes: Buffer, options: LineOptions<V>): LoadedLog<V> {
  const raw = new Map<string, unknown>();
  const maxLineBytes = options.maxLineBytes ?? defaultMaxLineBytes;
  let at = 0;
  let lines = 0;
  let damaged = 0;
  while (at < bytes.length) {
    const line = parseLine(bytes, at, maxLineBytes);
    if (line !== null && line.end < bytes.length) {
      // A whole line whose newline alone is damaged: the length says where the next begins.
      if (bytes[line.end] !== newline) damaged += 1;
      if (applyPayload(raw, line.payload)) lines += 1;
      else damaged += 1;
      at = line.end + 1;
      continue;
    }
    const next = bytes.indexOf(newline, at);
    if (next < 0) break;
    damaged += 1;
    lines += 1;
    at = next + 1;
  }
  const refused: string[] = [];
  const live = new Map<string, V>();
  for (const [key, value] of raw) {
    const accepted = options.accept === undefined ? (value as V) : options.accept(key, value);
    if (accepted === null) refused.push(key);
    else live.set(key, accepted);
  }
  return { live, sizeBytes: at, lines, damaged, refused };
}

function parseLine(bytes: Buffer, at: number, maxLineBytes: number): ParsedLine | null {
  const header = /^([0-9a-f]{8}) ([1-9][0-9]{0,9}) /.exec(
    bytes.toString('latin1', at, Math.min(at + maxHeaderBytes, bytes.length)),
  );
  if (header?.[1] === undefined || header[2] === undefined) return null;
  const length = Number(header[2]);
  const from = at + header[0].length;
  if (length > maxLineBytes || from + length > bytes.length) return null;
  const payload = bytes.subarray(from, from + length);
  return crc32(payload) === Number.parseInt(header[1], 16) ? { payload, end: from + length } : null;
}

function applyPayload(live: Map<string, unknown>, payload: Buffer): boolean {
  let entry: unknown;
  try {
    entry = JSON.parse(payload.toString('utf8'));
  } catch {
    return false;
  }
  if (!Array.isArray(entry) || typeof entry[0] !== 'string') return false;
  if (entry.length === 1) live.delete(entry[0]);
  else live.set(entry[0], entry[1]);
  return true;
}

/** A line that puts a value, or deletes the key where that is undefined. Errors: ERR_TOO_LARGE. */
export function encodeLine(key: string, value: unknown, maxLineBytes = defaultMaxLineBytes): Buffer {
  const payload = Buffer.from(JSON.stringify(value === undefined ? [key] : [key, value]), 'utf8');
  if (payload.length > maxLineBytes) {
    throw new TsnetError(
      'ERR_TOO_LARGE',
      `the entry ${key} is ${payload.length} bytes long, ${maxLineBytes} are allowed`,
    );
  }
  const checksum = crc32(payload).toString(16).padStart(8, '0');
  return Buffer.concat([Buffer.from(`${checksum} ${payload.length} `, 'latin1'), payload, Buffer.of(newline)]);
}

/** How many lines there are. */
export function countLines(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(newline); at >= 0; at = bytes.indexOf(newline, at + 1)) lines += 1;
  return lines;
}
