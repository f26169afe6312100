import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { Test } from 'tap';
import { NetlinkConnection } from '../../lib/netlink/connection.js';
import type { NativeApi } from '../../native/api.js';
import { loadNative } from '../../native/index.js';

/** A fresh namespace of the test's own, with a connection into it. */
export interface Scratch {
  readonly native: NativeApi;
  readonly connection: NetlinkConnection;
  readonly name: string;
  readonly path: string;
  /** Runs `ip -n NAME …` and returns its output. */
  readonly ip: (...args: string[]) => string;
  /** The same with `-j -d`, parsed. */
  readonly ipJson: (...args: string[]) => Record<string, unknown>[];
  readonly bridge: (...args: string[]) => string;
  readonly bridgeJson: (...args: string[]) => Record<string, unknown>[];
}

/** Makes a namespace that is removed with the test, also when it fails; the removal is checked. */
export async function scratchNetns(t: Test): Promise<Scratch> {
  const native = loadNative();
  const name = `tsnet-nl-${randomBytes(4).toString('hex')}`;
  const path = `/run/netns/${name}`;
  await native.netnsCreate(path);
  const connection = await NetlinkConnection.open(native, { netns: { path } });
  t.teardown(async () => {
    connection.close();
    await native.netnsDelete(path);
    if (existsSync(path)) throw new Error(`${path} is still there`);
  });
  const run = (file: string, args: string[]): string =>
    execFileSync(file, ['-n', name, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const parse = (text: string): Record<string, unknown>[] =>
    (JSON.parse(text === '' ? '[]' : text) as Record<string, unknown>[]).filter(
      (entry) => Object.keys(entry).length > 0,
    );
  return {
    native,
    connection,
    name,
    path,
    ip: (...args) => run('ip', args),
    ipJson: (...args) => parse(run('ip', ['-j', '-d', ...args])),
    bridge: (...args) => run('bridge', args),
    bridgeJson: (...args) => parse(run('bridge', ['-j', '-d', ...args])),
  };
}

/** The first of a list that must not be empty. */
export function first<T>(values: readonly T[]): T {
  const [value] = values;
  if (value === undefined) throw new Error('nothing found');
  return value;
}

/** Reads captured datagrams: hex, `#` for comments, a blank line after each datagram. */
export function readCapture(name: string): Buffer[] {
  const source = new URL(`../../../../test/netlink/captures/${name}.hex`, import.meta.url);
  const text = readFileSync(source, 'utf8').replace(/^#.*\n/gm, '');
  return text
    .split(/\n\s*\n/)
    .map((block) => Buffer.from(block.replace(/\s/g, ''), 'hex'))
    .filter((datagram) => datagram.length > 0);
}

/** Resolves when `isMet` holds, asking again at each turn of the event loop. */
export async function until(what: string, isMet: () => boolean): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!isMet()) {
    if (performance.now() > deadline) throw new Error(`never came true: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
