import { mkdir } from 'node:fs/promises';
import type { FastifyInstance } from 'fastify';
import { parsePool, type SubnetPool } from '../core/subnets.js';
import { EtcdClient } from '../lib/etcd/client.js';
import { LeaseKeeper } from '../lib/etcd/lease.js';
import { transact } from '../lib/etcd/txn.js';
import { listenHttp, type Listening } from '../lib/http/listen.js';
import type { Logger } from '../lib/log.js';
import { placesOf, reachablePlaces, type Place } from '../lib/places.js';
import { Closers } from '../lib/sync/closers.js';
import { newApp } from './app.js';
import { ensureControllerId } from './controller-id.js';
import { settingsOf, type ControllerContext } from './context.js';
import { lockDataDir } from '../lib/data-dir-lock.js';
import { startEtcd, type EtcdChild } from './etcd-child.js';
import { downHosts } from './liveness.js';
import { PlaceKeeper } from './guarded-places.js';
import { Mirror } from './mirror.js';
import type { ControllerOptions } from './options.js';
import { SkyDns } from './skydns.js';
import { ensureToken } from './store/tokens.js';
import { ensureTokenFile, hashToken } from './token-files.js';
import { WatchHub } from './watch-hub.js';

/** A running controller. */
export interface ControllerHandle {
  /** Where it listens, with ports as bound. */
  readonly urls: readonly string[];
  readonly context: ControllerContext;
  readonly app: FastifyInstance;
  readonly etcdPid: () => number | undefined;
  /** Stops it, its streams and its etcd. */
  readonly close: () => Promise<void>;
}

/** Runs a controller until the signal. Errors: ERR_DATA_DIR_LOCKED, ERR_ETCD_MISSING, ERR_ETCD_START, ERR_LISTEN, ERR_INVALID_CIDR, ERR_USAGE. */
export async function runController(
  options: ControllerOptions,
  io: { readonly signal: AbortSignal; readonly log: Logger; readonly onReady?: () => void },
): Promise<void> {
  const controller = await startController(options, io.log);
  io.onReady?.();
  if (!io.signal.aborted)
    await new Promise<void>((resolve) => io.signal.addEventListener('abort', () => resolve(), { once: true }));
  await controller.close();
}

/**
 * Starts a controller. An etcd of its own is waited for; a foreign one is not: until that is reached, requests
 * are answered with ERR_STORE_UNREACHABLE.
 */
export async function startController(options: ControllerOptions, log: Logger): Promise<ControllerHandle> {
  const pools = options.subnetPools.map(readPool);
  const closers = new Closers((error) => log.warn({ err: error }, 'stopping was not clean'));
  try {
    await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
    const lock = await lockDataDir(options.dataDir);
    closers.push(lock.release);
    const tokens = {
      admin: await ensureTokenFile(options.dataDir, 'admin'),
      host: await ensureTokenFile(options.dataDir, 'host'),
    };
    const etcd = options.etcd.length === 0 ? await startEtcd({ dataDir: options.dataDir, log }) : undefined;
    if (etcd !== undefined) closers.push(etcd.stop);
    const client = new EtcdClient({ endpoints: etcd === undefined ? options.etcd : [etcd.endpoint] });
    closers.push(() => client.close());
    const id = await ensureControllerId(options.dataDir);
    const context = newContext({ id, options, pools, log, client, tokens, closers });
    const app = await newApp(context, tokens);
    closers.push(() => app.close());
    const listening: Listening[] = [];
    closers.push(() => context.hub.close());
    for (const address of options.listen) {
      const one = await listenHttp(app, address);
      listening.push(one);
      closers.push(one.close);
    }
    // Streams are told first, so that agents turn to another controller at once.
    closers.push(() => context.hub.close());
    if (etcd !== undefined) await context.mirror.until(() => context.mirror.isConnected, 10_000);
    const urls = listening.map(({ url }) => url);
    log.info({ urls, etcd: client.endpoints }, 'controller listens');
    warnOfLoopback(options, urls, log);
    return { urls, context, app, etcdPid: pidOf(etcd), close: () => closers.close() };
  } catch (error) {
    await closers.close();
    throw error;
  }
}

/** Whoever connects from a loopback address is asked for no token, at whatever address of this machine. */
function warnOfLoopback(options: ControllerOptions, urls: readonly string[], log: Logger): void {
  const open = urls.filter((url) => !url.startsWith('unix:'));
  if (options.requireLoopbackToken || open.length === 0) return;
  log.warn(
    { urls: open },
    'every user of this machine, and every container on its network, may do everything here without a token: ' +
      'ask for one with --require-loopback-token, or listen on a unix socket (--listen unix:PATH)',
  );
}

function pidOf(etcd: EtcdChild | undefined): () => number | undefined {
  return () => etcd?.pid();
}

function newContext(parts: {
  readonly id: string;
  readonly options: ControllerOptions;
  readonly pools: readonly SubnetPool[];
  readonly log: Logger;
  readonly client: EtcdClient;
  readonly tokens: { readonly admin: string; readonly host: string };
  readonly closers: Closers;
}): ControllerContext {
  const { id, options, log, client, tokens, closers } = parts;
  const stopping = new AbortController();
  const mirror: Mirror = new Mirror({
    client,
    log,
    signal: stopping.signal,
    prepare: async () => {
      await places.prepare();
      for (const role of ['admin', 'host'] as const) {
        await transact(client, (txn) => ensureToken(txn, role, hashToken(tokens[role])), { what: 'tokens' });
      }
    },
  });
  const keeper = new LeaseKeeper(client);
  closers.push(() => keeper.close());
  const places = new PlaceKeeper({
    id,
    ownPlaces: () => ownPlaces(options, client),
    settings: options,
    client,
    keeper,
    mirror,
    keepMs: placesKeptMs,
    log,
  });
  closers.push(() => places.close());
  const hub = new WatchHub({
    mirror,
    log,
    beatMs: () => Math.max(1, Math.floor(settingsOf({ mirror, options }).livenessMs / 4)),
    downHosts: () => downHosts(mirror, settingsOf({ mirror, options }).livenessMs),
  });
  const skyDns = new SkyDns({
    client,
    mirror,
    place: options.skyDns,
    livenessMs: () => settingsOf({ mirror, options }).livenessMs,
    log,
  });
  const running = mirror.run();
  closers.push(async () => {
    await skyDns.close();
    stopping.abort();
    await running;
  });
  return { options, pools: parts.pools, log, client, keeper, mirror, hub };
}

/** How long a controller may be gone until its places are no longer guarded: longer than anybody repairs a machine. */
const placesKeptMs = 7 * 24 * 3_600_000;

/** Where this controller listens, and where etcd does; those that cannot be found out are left out. */
async function ownPlaces(options: ControllerOptions, client: EtcdClient): Promise<Place[]> {
  const members = await client.memberUrls().catch(() => []);
  return reachablePlaces(await placesOf([...options.listen, ...options.etcd, ...members]));
}

/** Pools of plain CIDRs get subnets of these lengths. */
const defaultLength = { 4: 20, 6: 64 } as const;

function readPool(text: string): SubnetPool {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  if (match === null) return parsePool(text);
  const length = Math.max(Number(match[2]), text.includes(':') ? defaultLength[6] : defaultLength[4]);
  return parsePool(`${text}:${length}`);
}
