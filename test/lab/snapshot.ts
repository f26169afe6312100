import type { Test } from 'tap';
import { readFileSync } from 'node:fs';
import { enterArgs } from './netns.js';
import { mustRun } from './program.js';
import { waitFor } from './wait.js';

/** What a namespace holds, as text that can be compared: what tsnet makes and has to remove. */
export interface NetnsSnapshot {
  readonly links: string;
  readonly addrs: string;
  readonly fdb: string;
  readonly neighs: string;
  readonly routes: string;
  readonly rules: string;
  readonly nft: string;
}

/** Takes stock of a namespace. Counters, caches and what the kernel does by itself are left out: learned
 * and multicast entries, link-local addresses. */
export async function takeSnapshot(path: string): Promise<NetnsSnapshot> {
  const inside = async (...argv: string[]): Promise<string> => {
    const [program = '', ...args] = [...enterArgs(path), ...argv];
    return mustRun(program, args);
  };
  const [links, addrs, fdb, neighs, routes4, routes6, rules4, rules6, nft] = await Promise.all([
    inside('ip', '-j', '-d', 'link'),
    inside('ip', '-j', 'addr'),
    inside('bridge', '-j', 'fdb'),
    inside('ip', '-j', 'neigh', 'show', 'nud', 'permanent'),
    inside('ip', '-4', '-j', 'route', 'show', 'table', 'all'),
    inside('ip', '-6', '-j', 'route', 'show', 'table', 'all'),
    inside('ip', '-4', '-j', 'rule'),
    inside('ip', '-6', '-j', 'rule'),
    inside('nft', '--stateless', 'list', 'ruleset'),
  ]);
  return {
    links: normalise(links, [
      'ifname',
      'link',
      'address',
      'mtu',
      'operstate',
      'master',
      'ifalias',
      'linkinfo.info_kind',
    ]),
    addrs: normaliseAddrs(addrs),
    fdb: normalise(fdb, ['mac', 'ifname', 'dst', 'master', 'state']),
    neighs: normalise(neighs, ['dst', 'dev', 'lladdr', 'state']),
    routes: normaliseRoutes(routes4) + normaliseRoutes(routes6),
    rules: rules4 + rules6,
    nft: sortTables(nft),
  };
}

/** The kernel lists tables in the order of their last load, which says nothing. */
function sortTables(ruleset: string): string {
  return ruleset
    .split(/^(?=table )/m)
    .sort()
    .join('');
}

interface AddrLink {
  readonly ifname: string;
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number; readonly scope: string }[];
}

function normaliseAddrs(text: string): string {
  return sorted(
    (JSON.parse(text) as AddrLink[]).flatMap(({ ifname, addr_info: addrs }) =>
      addrs
        .filter(({ scope }) => scope !== 'link')
        .map(({ local, prefixlen, scope }) => `${ifname} ${local}/${prefixlen} ${scope}`),
    ),
  );
}

function normaliseRoutes(text: string): string {
  const keys = ['type', 'dst', 'gateway', 'dev', 'table', 'protocol', 'scope', 'prefsrc', 'metric'];
  // The kernel adds and removes what belongs to link-local addresses by itself, some time after a link goes up.
  return normalise(text, keys, (row) => !/^f[ef][0-9a-f]{2}:/.test(String(row['dst'])));
}

type Row = Record<string, unknown>;

function normalise(text: string, keys: readonly string[], isWanted: (row: Row) => boolean = () => true): string {
  const rows = (text.trim() === '' ? [] : (JSON.parse(text) as Row[])).filter(isWanted);
  return sorted(rows.map((row) => keys.map((key) => `${key}=${JSON.stringify(field(row, key)) ?? ''}`).join(' ')));
}

function field(row: Row, key: string): unknown {
  return key.split('.').reduce<unknown>((value, part) => (value as Row | undefined)?.[part], row);
}

function sorted(lines: readonly string[]): string {
  return `${[...lines].sort().join('\n')}\n`;
}

/** What a lab may never change outside its namespaces. */
export async function takeRootSnapshot(): Promise<Record<string, string>> {
  const [routes4, routes6, rules4, rules6] = await Promise.all([
    mustRun('ip', ['-4', '-j', 'route', 'show', 'table', 'all']),
    mustRun('ip', ['-6', '-j', 'route', 'show', 'table', 'all']),
    mustRun('ip', ['-4', '-j', 'rule']),
    mustRun('ip', ['-6', '-j', 'rule']),
  ]);
  const sysctls = [
    'ipv4/ip_forward',
    'ipv4/conf/all/forwarding',
    'ipv6/conf/all/forwarding',
    'ipv6/conf/default/accept_ra',
  ];
  return {
    routes: normaliseRoutes(routes4) + normaliseRoutes(routes6),
    rules: rules4 + rules6,
    ...Object.fromEntries(sysctls.map((name) => [name, readFileSync(`/proc/sys/net/${name}`, 'utf8').trim()])),
  };
}

/** Asserts that a namespace comes to hold what it held before: what is to be removed may take a moment. */
export async function settlesTo(
  t: Test,
  take: () => Promise<NetnsSnapshot>,
  expected: NetnsSnapshot,
  deadlineMs = 20_000,
): Promise<void> {
  let taken: NetnsSnapshot | undefined;
  const isAsBefore = async (): Promise<boolean> => {
    taken = await take();
    return JSON.stringify(taken) === JSON.stringify(expected);
  };
  await waitFor('the namespace to be as before', isAsBefore, deadlineMs).catch(() => undefined);
  t.same(taken, expected, 'the namespace is as before');
}
